package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/google/uuid"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
)

const (
	maxGrant   = 1_000_000_000 * credit.One
	maxReason  = 500
	mustAmount = "an amount of credits with at most six decimal places"
)

// grantNamespace is the namespace of the ids (UUIDv5) of grants that are derived from idempotency keys.
//
//nolint:gochecknoglobals // a constant that the language cannot spell as one
var grantNamespace = uuid.MustParse("8c5d6f0e-3c0b-4f6e-9a47-1d0f8f3f5b62")

func (a *API) registerCredits(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "get-balance", Method: http.MethodGet, Path: prefix + "/credits", Tags: []string{"credits"},
		Summary:     "Get the balance",
		Description: "With the grants of which something is left, at most 200, in the order in which they are burnt.",
	}, nil, a.getBalance)
	register(a, routes, huma.Operation{
		OperationID: "list-transactions", Method: http.MethodGet, Path: prefix + "/credits/transactions", Tags: []string{"credits"},
		Summary: "List the rows of the ledger, newest first",
	}, nil, a.listTransactions)
	register(a, routes, huma.Operation{
		OperationID: "grant-credits", Method: http.MethodPost, Path: prefix + "/credits/grants", Tags: []string{"credits"},
		Summary:       "Grant credits (operator)",
		Description:   "With an Idempotency-Key, a repeated request is the same grant (200).",
		Parameters:    []*huma.Param{header("Idempotency-Key", "Up to 255 printable characters")},
		DefaultStatus: http.StatusCreated,
	}, documented[GrantRequest](routes, "application/json"), a.grant)
	register(a, routes, huma.Operation{
		OperationID: "set-overdraft", Method: http.MethodPut, Path: prefix + "/customers/{customer_id}/overdraft", Tags: []string{"credits"},
		Summary:     "Set how far debits may bring the balance below 0 (operator)",
		Description: "A limit below what is used already stops further debits.",
	}, documented[OverdraftBody](routes, "application/json"), a.setOverdraft)
	register(a, routes, huma.Operation{
		OperationID: "set-low-balance", Method: http.MethodPut, Path: prefix + "/customers/{customer_id}/low-balance", Tags: []string{"credits"},
		Summary:     "Set below which balance the customer is told",
		Description: "The event `low_balance` comes once, until a grant has brought the balance back. Without a threshold it never comes.",
	}, documented[LowBalanceBody](routes, "application/json"), a.setLowBalance)
}

type balanceInput struct{ Scope }

type balanceOutput struct{ Body query.BalanceReply }

func (a *API) getBalance(ctx context.Context, caller *caller, input *balanceInput) (*balanceOutput, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	reply, err := bus.Ask[query.BalanceReply](ctx, a.bus, query.ServiceBilling, query.Balance, query.BalanceRequest{CustomerID: customer})
	if err != nil {
		return nil, err
	}
	return &balanceOutput{Body: reply}, nil
}

type listTransactionsInput struct {
	Scope
	Paging
	ExecutionID id `query:"execution_id"`
}

func (a *API) listTransactions(ctx context.Context, caller *caller, input *listTransactionsInput) (*listOutput[query.Transaction], error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	before, err := before(&input.Paging)
	if err != nil {
		return nil, err
	}
	reply, err := bus.Ask[query.TransactionsReply](ctx, a.bus, query.ServiceBilling, query.Transactions, query.TransactionsRequest{
		CustomerID: customer, ExecutionID: string(input.ExecutionID), Before: before, Limit: input.Limit,
	})
	if err != nil {
		return nil, err
	}
	return page(reply.Transactions, after(reply.Next))
}

// before and after translate between cursors and the sequence numbers that the other services page by, 0 for none.
func before(p *Paging) (int64, error) {
	read, err := cursor[int64](p)
	if err != nil || read == nil {
		return 0, err
	}
	return *read, nil
}

func after(next int64) *int64 {
	if next == 0 {
		return nil
	}
	return &next
}

// GrantRequest documents the body.
type GrantRequest struct {
	CustomerID id           `json:"customer_id"`
	Amount     credit.Micro `json:"amount"`
	Reason     string       `json:"reason,omitempty" maxLength:"500"`
	Kind       string       `json:"kind,omitempty" enum:"monthly,top_up,promotional,rollover,proration" default:"top_up"`
	Priority   int          `json:"priority,omitempty" minimum:"0" maximum:"100" default:"50" doc:"Grants of a lower one are burnt first"`
	ExpiresAt  *time.Time   `json:"expires_at,omitempty" doc:"When what is left is taken back; absent for never"`
}

type grantInput struct {
	JSONBody
	keys []string
}

// Resolve implements huma.Resolver.
func (i *grantInput) Resolve(ctx huma.Context) []error {
	i.keys = values(humafiber.UnwrapV2(ctx).Request().Header.PeekAll("Idempotency-Key"))
	return nil
}

type grantOutput struct {
	Status int
	Body   query.GrantReply
}

func (a *API) grant(ctx context.Context, caller *caller, input *grantInput) (*grantOutput, error) {
	if err := caller.requireOperator(); err != nil {
		return nil, err
	}
	wanted := query.GrantRequest{Actor: caller.actor()}
	err := input.decode(identifier("customer_id", &wanted.CustomerID), text("reason", &wanted.Reason),
		field{name: "amount", required: true, into: &wanted.Amount, must: mustAmount},
		field{name: "kind", into: &wanted.Kind, must: "a string"},
		field{name: "priority", into: &wanted.Priority, must: "a whole number"},
		field{name: "expires_at", into: &wanted.ExpiresAt, must: "a time as in RFC 3339"})
	if err != nil {
		return nil, err
	}
	if wanted.CustomerID, err = caller.actFor(wanted.CustomerID, Place{Path: "/customer_id"}); err != nil {
		return nil, err
	}
	if found := grantPlaces(&wanted); len(found) > 0 {
		return nil, invalid(found...)
	}
	if wanted.ID, err = grantID(wanted.CustomerID, input.keys); err != nil {
		return nil, err
	}
	// Billing takes every customer for real: a misspelt one would get the credits.
	if err := a.catalogue.RequireCustomer(ctx, wanted.CustomerID); err != nil {
		return nil, err
	}
	reply, err := bus.Ask[query.GrantReply](ctx, a.bus, query.ServiceBilling, query.Grant, wanted)
	if err != nil {
		return nil, err
	}
	return &grantOutput{Status: created(!reply.Repeated), Body: reply}, nil
}

// grantPlaces are those that break a rule. Whether the expiry is in the future matters only for a grant that was not made before.
func grantPlaces(wanted *query.GrantRequest) (found []Place) {
	if wanted.Amount <= 0 || wanted.Amount > maxGrant {
		found = append(found, Place{Path: "/amount", Message: "must be above 0 and at most " + maxGrant.String()})
	}
	if wanted.Kind != "" && !wanted.Kind.Valid() {
		found = append(found, Place{Path: "/kind", Message: "must be monthly, top_up, promotional, rollover or proration"})
	}
	if wanted.Priority != nil && (*wanted.Priority < 0 || *wanted.Priority > query.MaxPriority) {
		found = append(found, Place{Path: "/priority", Message: "must be 0 to " + strconv.Itoa(query.MaxPriority)})
	}
	if len(wanted.Reason) > maxReason {
		found = append(found, Place{Path: "/reason", Message: "must have at most 500 bytes"})
	}
	return found
}

func grantID(customer string, keys []string) (string, error) {
	key, err := idempotencyKey(keys)
	if err != nil {
		return "", err
	}
	if key != "" {
		return uuid.NewSHA1(grantNamespace, []byte(customer+"\x00"+key)).String(), nil
	}
	fresh, err := uuid.NewV7()
	return fresh.String(), err
}

// OverdraftBody documents the body.
type OverdraftBody struct {
	Limit credit.Micro `json:"limit"`
}

type setLimitInput struct {
	CustomerID id `path:"customer_id"`
	JSONBody
}

func (a *API) setOverdraft(ctx context.Context, caller *caller, input *setLimitInput) (*balanceOutput, error) {
	if err := caller.requireOperator(); err != nil {
		return nil, err
	}
	wanted := query.OverdraftRequest{CustomerID: string(input.CustomerID), Actor: caller.actor()}
	if err := input.decode(field{name: "limit", required: true, into: &wanted.Limit, must: mustAmount}); err != nil {
		return nil, err
	}
	if wanted.Limit < 0 || wanted.Limit > maxGrant {
		return nil, invalid(Place{Path: "/limit", Message: "must be 0 to " + maxGrant.String()})
	}
	return a.setLimit(ctx, wanted.CustomerID, query.Overdraft, wanted)
}

// LowBalanceBody documents the body.
type LowBalanceBody struct {
	Threshold *credit.Micro `json:"threshold,omitempty"`
}

func (a *API) setLowBalance(ctx context.Context, caller *caller, input *setLimitInput) (*balanceOutput, error) {
	customer, err := caller.actFor(string(input.CustomerID), Place{In: "path", Path: "/customer_id"})
	if err != nil {
		return nil, err
	}
	wanted := query.LowBalanceRequest{CustomerID: customer, Actor: caller.actor()}
	if err := input.decode(field{name: "threshold", into: &wanted.Threshold, must: mustAmount}); err != nil {
		return nil, err
	}
	if wanted.Threshold != nil && (*wanted.Threshold < 0 || *wanted.Threshold > maxGrant) {
		return nil, invalid(Place{Path: "/threshold", Message: "must be 0 to " + maxGrant.String()})
	}
	return a.setLimit(ctx, customer, query.LowBalance, wanted)
}

func (a *API) setLimit(ctx context.Context, customer, name string, wanted any) (*balanceOutput, error) {
	// Billing takes every customer for real.
	if err := a.catalogue.RequireCustomer(ctx, customer); err != nil {
		return nil, err
	}
	reply, err := bus.Ask[query.BalanceReply](ctx, a.bus, query.ServiceBilling, name, wanted)
	if err != nil {
		return nil, err
	}
	return &balanceOutput{Body: reply}, nil
}
