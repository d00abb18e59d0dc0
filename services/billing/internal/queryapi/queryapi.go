// Package queryapi answers billing's queries over NATS: the balance, the ledger, grants, plans and subscriptions.
package queryapi

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/internal/plan"
	"github.com/galley-engine/galley/services/billing/internal/statement"
	"github.com/galley-engine/galley/services/billing/internal/subscription"
)

const (
	maxPage = 200
	maxID   = 200
)

// API answers the queries.
type API struct {
	bus    *bus.Bus
	ledger *ledger.Ledger
	reader *ledger.Reader
	// catalogue is that of the plans, subscriptions the register of them.
	catalogue     *plan.Catalogue
	subscriptions *subscription.Register
	statements    *statement.Reader
}

// Deps is what an API is given.
type Deps struct {
	Bus           *bus.Bus
	Ledger        *ledger.Ledger
	Reader        *ledger.Reader
	Catalogue     *plan.Catalogue
	Subscriptions *subscription.Register
	Statements    *statement.Reader
}

// New makes an API.
func New(deps Deps) *API {
	return &API{
		bus: deps.Bus, ledger: deps.Ledger, reader: deps.Reader, catalogue: deps.Catalogue, subscriptions: deps.Subscriptions,
		statements: deps.Statements,
	}
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
			return bus.Answer(ctx, a.bus, query.ServiceBilling, query.Overdraft, a.overdraft)
		},
		func(ctx context.Context) error {
			return bus.Answer(ctx, a.bus, query.ServiceBilling, query.LowBalance, a.lowBalance)
		},
		func(ctx context.Context) error {
			return bus.Answer(ctx, a.bus, query.ServiceBilling, query.Transactions, a.transactions)
		},
		func(ctx context.Context) error {
			return bus.Answer(ctx, a.bus, query.ServiceBilling, query.Statement, a.statement)
		},
		func(ctx context.Context) error {
			return bus.Answer(ctx, a.bus, query.ServiceBilling, query.Subscription, a.subscription)
		},
		func(ctx context.Context) error {
			return bus.Answer(ctx, a.bus, query.ServiceBilling, query.Subscribe, a.subscribe)
		},
		func(ctx context.Context) error {
			return bus.Answer(ctx, a.bus, query.ServiceBilling, query.CancelSubscription, a.cancelSubscription)
		},
		func(ctx context.Context) error {
			return bus.Answer(ctx, a.bus, query.ServiceBilling, query.PublishPlan, a.publishPlan)
		},
		func(ctx context.Context) error {
			return bus.Answer(ctx, a.bus, query.ServiceBilling, query.Plans, a.plans)
		},
		func(ctx context.Context) error {
			return bus.Answer(ctx, a.bus, query.ServiceBilling, query.OnePlan, a.plan)
		},
		func(ctx context.Context) error {
			return bus.Answer(ctx, a.bus, query.ServiceBilling, query.RetirePlan, a.retirePlan)
		},
	)
}

func (a *API) balance(ctx context.Context, request query.BalanceRequest) (query.BalanceReply, error) {
	if !subject.ValidID(request.CustomerID) {
		return query.BalanceReply{}, invalidCustomer()
	}
	return a.reader.Balance(ctx, request.CustomerID)
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
