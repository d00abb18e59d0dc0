// Package queryapi answers billing's queries over NATS: the balance, the ledger, grants and subscriptions.
package queryapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/internal/subscription"
)

const (
	maxPage     = 200
	maxID       = 200
	maxReason   = 1000
	maxFeatures = 100
)

// API answers the queries.
type API struct {
	bus    *bus.Bus
	ledger *ledger.Ledger
	reader *ledger.Reader
	// subscriptions is the register of them.
	subscriptions *subscription.Register
}

// New makes an API.
func New(bus *bus.Bus, money *ledger.Ledger, reader *ledger.Reader, subscriptions *subscription.Register) *API {
	return &API{bus: bus, ledger: money, reader: reader, subscriptions: subscriptions}
}

// Run answers until ctx ends.
func (a *API) Run(ctx context.Context) error {
	return lifecycle.Run(ctx,
		func(ctx context.Context) error {
			return bus.Answer(ctx, a.bus, query.ServiceBilling, query.Balance, a.balance)
		},
		func(ctx context.Context) error {
			return bus.Answer(ctx, a.bus, query.ServiceBilling, query.Grant, a.grant)
		},
		func(ctx context.Context) error {
			return bus.Answer(ctx, a.bus, query.ServiceBilling, query.Transactions, a.transactions)
		},
		func(ctx context.Context) error {
			return bus.Answer(ctx, a.bus, query.ServiceBilling, query.Subscription, a.subscription)
		},
		func(ctx context.Context) error {
			return bus.Answer(ctx, a.bus, query.ServiceBilling, query.Subscribe, a.subscribe)
		},
	)
}

func (a *API) balance(ctx context.Context, request query.BalanceRequest) (query.BalanceReply, error) {
	if !subject.ValidID(request.CustomerID) {
		return query.BalanceReply{}, invalidCustomer()
	}
	return a.reader.Balance(ctx, request.CustomerID)
}

func (a *API) grant(ctx context.Context, request query.GrantRequest) (query.GrantReply, error) {
	switch {
	case !subject.ValidID(request.CustomerID):
		return query.GrantReply{}, invalidCustomer()
	case request.ID == "" || !isLine(request.ID, maxID):
		return query.GrantReply{}, invalid("id must be a line of 1 to %d bytes", maxID)
	case request.Amount <= 0:
		return query.GrantReply{}, invalid("amount must be greater than 0")
	case !isLine(request.Reason, maxReason):
		return query.GrantReply{}, invalid("reason must be a line of at most %d bytes", maxReason)
	case !isLine(request.Actor.String(), maxID):
		return query.GrantReply{}, invalid("actor must be a line of at most %d bytes", maxID)
	}
	reply, err := a.ledger.Grant(ctx, request)
	if errors.Is(err, ledger.ErrMaxBalance) {
		return query.GrantReply{}, invalid("%v", ledger.ErrMaxBalance)
	}
	return reply, err
}

func (a *API) transactions(ctx context.Context, request query.TransactionsRequest) (query.TransactionsReply, error) {
	page := ledger.Page{Customer: request.CustomerID, Before: request.Before, Limit: request.Limit}
	switch {
	case !subject.ValidID(request.CustomerID):
		return query.TransactionsReply{}, invalidCustomer()
	case request.Limit < 1 || request.Limit > maxPage:
		return query.TransactionsReply{}, invalid("limit must be 1 to %d", maxPage)
	case request.Before < 0:
		return query.TransactionsReply{}, invalid("before must not be negative")
	}
	if request.ExecutionID != "" {
		execution, err := uuid.Parse(request.ExecutionID)
		if err != nil || execution == uuid.Nil {
			return query.TransactionsReply{}, invalid("execution_id must be a UUID")
		}
		page.Execution = execution
	}
	return a.reader.Transactions(ctx, page)
}

func (a *API) subscription(ctx context.Context, request query.SubscriptionRequest) (query.SubscriptionReply, error) {
	if !subject.ValidID(request.CustomerID) {
		return query.SubscriptionReply{}, invalidCustomer()
	}
	return a.subscriptions.Get(ctx, request.CustomerID)
}

func (a *API) subscribe(ctx context.Context, request query.SubscribeRequest) (query.SubscriptionReply, error) {
	switch {
	case !subject.ValidID(request.CustomerID):
		return query.SubscriptionReply{}, invalidCustomer()
	case !subject.ValidID(request.Plan):
		return query.SubscriptionReply{}, invalid("plan %v", subject.ErrInvalidID)
	case request.Status != query.SubscriptionActive && request.Status != query.SubscriptionCancelled:
		return query.SubscriptionReply{}, invalid("status must be active or cancelled")
	case len(request.Features) > maxFeatures:
		return query.SubscriptionReply{}, invalid("there may be at most %d features", maxFeatures)
	case slices.ContainsFunc(request.Features, func(feature string) bool { return !subject.ValidID(feature) }):
		return query.SubscriptionReply{}, invalid("each of the features %v", subject.ErrInvalidID)
	case !isLine(request.Actor.String(), maxID):
		return query.SubscriptionReply{}, invalid("actor must be a line of at most %d bytes", maxID)
	}
	return a.subscriptions.Set(ctx, &request)
}

// isLine keeps control characters out: some are harmful in a header, some are impossible in a column.
func isLine(s string, limit int) bool {
	control := strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
	return len(s) <= limit && utf8.ValidString(s) && !control
}

func invalidCustomer() error {
	return invalid("customer_id %v", subject.ErrInvalidID)
}

func invalid(format string, arguments ...any) error {
	return &problem.Error{Code: problem.InvalidRequest, Message: fmt.Sprintf(format, arguments...)}
}
