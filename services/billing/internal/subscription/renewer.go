package subscription

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	// sweepAhead is how far ahead the sweep looks: what ends before the next sweep has its call, whatever became of an earlier one.
	sweepAhead = 2 * bus.SweepInterval
	sweepPage  = 500
)

// Renewer ends the periods that are over. A message of a JetStream schedule is the call to look; the sweep finds what was never called. Any
// number of processes may do so at the same time, and be called any number of times.
type Renewer struct{ RenewerDeps }

// RenewerDeps is what a Renewer is given.
type RenewerDeps struct {
	Register *Register
	Bus      *bus.Bus
	// AckWait is after how long a call is given to another process.
	AckWait time.Duration
	Log     zerolog.Logger
}

// NewRenewer makes a Renewer.
func NewRenewer(deps RenewerDeps) *Renewer {
	return &Renewer{RenewerDeps: deps}
}

// Run ends periods until ctx ends.
func (r *Renewer) Run(ctx context.Context) error {
	return bus.Calls{
		Durable: "periods", Filter: subject.AllDuePeriods, AckWait: r.AckWait, Look: r.look, Sweep: r.Sweep,
	}.Answer(ctx, r.Bus)
}

// look ends what is over and has the next end called.
func (r *Renewer) look(ctx context.Context, call jetstream.Msg) (wait time.Duration, err error) {
	customer, err := subject.ParsePeriodDue(call.Subject())
	if err != nil {
		return 0, fmt.Errorf("%w: %w", bus.ErrUnreadable, err)
	}
	end, err := r.Register.Advance(ctx, customer)
	if err != nil || end.IsZero() {
		return 0, err
	}
	if early := bus.Early(end, r.Register.Clock()); early > 0 {
		return early, nil
	}
	return 0, r.Register.arm(ctx, customer, end)
}

// Sweep ends every period that is over, and has those called that soon are. Without NATS, periods end all the same.
func (r *Renewer) Sweep(ctx context.Context) error {
	now := r.Register.Clock()
	var after ending
	var uncalled error
	for {
		page, err := r.Register.endings(ctx, now.Add(sweepAhead), after)
		if err != nil {
			return err
		}
		for _, one := range page {
			if !one.end.After(now) {
				if one.end, err = r.Register.Advance(ctx, one.customer); err != nil {
					// One that cannot be ended does not keep the others from it.
					r.Log.Error().Err(err).Str("customer", one.customer).Msg("period not ended")
				}
			}
			if err == nil && uncalled == nil && !one.end.IsZero() {
				uncalled = r.Register.arm(ctx, one.customer, one.end)
			}
		}
		if len(page) < sweepPage || ctx.Err() != nil {
			return uncalled
		}
		after = page[len(page)-1]
	}
}

// ending is when the period of a customer ends.
type ending struct {
	end      time.Time
	customer string
}

// endings reads a page of the periods that go on and end before a time, in their order.
func (r *Register) endings(ctx context.Context, before time.Time, after ending) ([]ending, error) {
	rows, err := r.Work.Query(ctx, `SELECT period_end, customer_id FROM billing.subscriptions
		WHERE status = 'active' AND version IS NOT NULL AND period_end < $1 AND (period_end, customer_id) > ($2, $3)
		ORDER BY period_end, customer_id LIMIT $4`, before, after.end, after.customer, sweepPage)
	if err != nil {
		return nil, fmt.Errorf("list periods that end: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (found ending, err error) {
		err = row.Scan(&found.end, &found.customer)
		return found, err
	})
}
