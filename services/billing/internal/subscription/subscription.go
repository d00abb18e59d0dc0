// Package subscription keeps what customers have subscribed to. A subscription to a published plan has periods: each begins with the plan's
// credits, and what is left of them at its end is dealt with as the plan says. One to a plan that is not published is a note of what was
// agreed: a plan by its name, features by theirs, and whether that holds.
package subscription

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

// Delayer has a message published later.
type Delayer interface {
	Delay(ctx context.Context, delay, due string, at time.Time) error
}

// Register is where subscriptions are written down. Its methods may be called at the same time, by any number of processes.
type Register struct{ RegisterDeps }

// RegisterDeps is what a Register is given.
type RegisterDeps struct {
	// Work and Read are pools that act as the role of the work and as that of the reader.
	Work, Read *pgxpool.Pool
	Ledger     *ledger.Ledger
	Outbox     *outbox.Outbox
	Delays     Delayer
	Clock      clock.Clock
}

// New makes a Register.
func New(deps RegisterDeps) *Register {
	return &Register{RegisterDeps: deps}
}

// Get gives a customer's subscription and balance, limited to the customer's rows by row-level security. A period that is over is rolled
// over before.
func (r *Register) Get(ctx context.Context, customer string) (query.SubscriptionReply, error) {
	for {
		found, balance, err := r.read(ctx, customer)
		if err != nil {
			return query.SubscriptionReply{}, fmt.Errorf("read subscription of %s: %w", customer, err)
		}
		if !found.isOver(r.Clock()) {
			return found.reply(customer, balance), nil
		}
		if _, err := r.Advance(ctx, customer); err != nil {
			return query.SubscriptionReply{}, err
		}
	}
}

func (r *Register) read(ctx context.Context, customer string) (found state, balance credit.Micro, err error) {
	err = postgres.Query(ctx, r.Read, customer, func(batch *pgx.Batch) {
		batch.Queue(`SELECT COALESCE(sum(balance), 0)::bigint FROM billing.accounts WHERE customer_id = $1`, customer).
			QueryRow(func(row pgx.Row) error { return row.Scan(&balance) })
		batch.Queue(selectState, customer).QueryRow(func(row pgx.Row) (err error) {
			found, err = scan(row)
			return err
		})
	})
	return found, balance, err
}

// Advance ends every period of the customer's subscription that is over, in their order. It returns when the period ends that goes on, the
// zero time where none does.
func (r *Register) Advance(ctx context.Context, customer string) (end time.Time, err error) {
	after, err := r.change(ctx, customer, service(), func(context.Context, *turn) error { return nil })
	if err != nil {
		return time.Time{}, fmt.Errorf("advance subscription of %s: %w", customer, err)
	}
	if after.ongoing() {
		end = after.end
	}
	return end, nil
}

// Set makes a customer's subscription what the request says, and records what that changes as an activity. Refusals are problem.Errors.
func (r *Register) Set(ctx context.Context, request *query.SubscribeRequest) (query.SubscriptionReply, error) {
	after, err := r.change(ctx, request.CustomerID, request.Actor, func(ctx context.Context, t *turn) error { return t.set(ctx, request) })
	if err != nil {
		return query.SubscriptionReply{}, fmt.Errorf("set subscription of %s: %w", request.CustomerID, err)
	}
	if after.ongoing() {
		// The Renewer's sweep makes up for a failure.
		_ = r.arm(ctx, request.CustomerID, after.end)
	}
	return r.Get(ctx, request.CustomerID)
}

// Cancel ends a customer's subscription: at the end of its period, or at once, when the period's credits expire. A note ends at once. It is
// NOT_FOUND when there has never been one; one that has ended stays as it is.
func (r *Register) Cancel(ctx context.Context, request *query.CancelSubscriptionRequest) (query.SubscriptionReply, error) {
	_, err := r.change(ctx, request.CustomerID, request.Actor, func(ctx context.Context, t *turn) error {
		return t.cancel(ctx, request.AtOnce)
	})
	if err != nil {
		return query.SubscriptionReply{}, fmt.Errorf("cancel subscription of %s: %w", request.CustomerID, err)
	}
	return r.Get(ctx, request.CustomerID)
}

// change calls do while no other process changes the subscription, and stores what has become of it. What is due is done before.
func (r *Register) change(
	ctx context.Context, customer string, actor event.Actor, do func(ctx context.Context, t *turn) error,
) (after state, err error) {
	err = pgx.BeginFunc(ctx, r.Work, func(tx pgx.Tx) error {
		if err := lock(ctx, tx, customer); err != nil {
			return err
		}
		before, err := load(ctx, tx, customer)
		if err != nil {
			return err
		}
		t := &turn{
			Register: r, tx: tx, customer: customer, actor: actor, now: r.Clock().UTC().Truncate(time.Microsecond),
			state: before, told: before.record(),
		}
		if err := t.advance(ctx); err != nil {
			return err
		}
		if err := do(ctx, t); err != nil {
			return err
		}
		if t.changed {
			if err := t.tellLimits(ctx, &before.limits); err != nil {
				return err
			}
			if err := save(ctx, tx, customer, &t.state, t.now); err != nil {
				return err
			}
		}
		after = t.state
		return nil
	})
	if err != nil {
		return state{}, err
	}
	r.Ledger.Wake()
	return after, nil
}

// arm has the end of a period called, in place of what was to be called for the customer before.
func (r *Register) arm(ctx context.Context, customer string, end time.Time) error {
	return r.Delays.Delay(ctx, subject.PeriodDelay(customer), subject.PeriodDue(customer), end)
}

func service() event.Actor { return event.Actor{Type: "service", ID: query.ServiceBilling} }

func refusal(code problem.Code, format string, arguments ...any) error {
	return &problem.Error{Code: code, Message: fmt.Sprintf(format, arguments...)}
}
