package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/google/uuid"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
)

const (
	maxGrant  = 1_000_000_000 * credit.One
	maxReason = 500
)

// grantNamespace is the namespace of the ids (UUIDv5) of grants that are derived from idempotency keys.
//
//nolint:gochecknoglobals // a constant that the language cannot spell as one
var grantNamespace = uuid.MustParse("8c5d6f0e-3c0b-4f6e-9a47-1d0f8f3f5b62")

func (a *API) registerCredits(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "get-balance", Method: http.MethodGet, Path: prefix + "/credits", Tags: []string{"credits"},
		Summary: "Get the balance",
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
		field{name: "amount", required: true, into: &wanted.Amount, must: "an amount of credits with at most six decimal places"})
	if err != nil {
		return nil, err
	}
	if wanted.CustomerID, err = caller.actFor(wanted.CustomerID, Place{Path: "/customer_id"}); err != nil {
		return nil, err
	}
	if wanted.Amount <= 0 || wanted.Amount > maxGrant {
		return nil, invalid(Place{Path: "/amount", Message: "must be above 0 and at most " + maxGrant.String()})
	}
	if len(wanted.Reason) > maxReason {
		return nil, invalid(Place{Path: "/reason", Message: "must have at most 500 bytes"})
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
