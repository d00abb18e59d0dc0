package subscription

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
)

// lookInterval is how often the stream of limits is looked at.
const lookInterval = time.Minute

// limits are what a subscription allows, as it was told last. They are those of the zero value until they are told for the first time.
type limits struct {
	maxConcurrency *int
	// revision is the time of the change in microseconds, and higher than the one before in any case: what is told after the database was set
	// back to an older state still counts as newer than what was told before that.
	revision int64
}

func (l *limits) same(other *limits) bool {
	if l.maxConcurrency == nil || other.maxConcurrency == nil {
		return l.maxConcurrency == other.maxConcurrency
	}
	return *l.maxConcurrency == *other.maxConcurrency
}

// tellLimits stores what the subscription allows now as an event where that is something else than before the turn.
func (t *turn) tellLimits(ctx context.Context, before *limits) error {
	if t.limits.same(before) {
		return nil
	}
	t.limits.revision = max(before.revision+1, t.now.UnixMicro())
	return t.storeLimits(ctx, t.tx, t.customer, &t.limits)
}

func (r *Register) storeLimits(ctx context.Context, tx pgx.Tx, customer string, l *limits) error {
	told := event.Limits{CustomerID: customer, Revision: l.revision, MaxConcurrency: l.maxConcurrency}
	return r.Outbox.Store(ctx, tx, outbox.Event{
		ID: told.ID(), Subject: subject.Limits(customer), Type: event.TypeLimits, Time: time.UnixMicro(l.revision), Data: told,
	})
}

// Teller sees to it that the stream of limits holds what subscriptions allow, also when it has lost messages, or was made after they had been
// published.
type Teller struct {
	TellerDeps

	// What the stream was when it was last compared. Only the goroutine of Run uses it.
	created time.Time
	last    uint64
}

// TellerDeps is what a Teller is given.
type TellerDeps struct {
	Register *Register
	Bus      *bus.Bus
	Log      zerolog.Logger
}

// NewTeller makes a Teller.
func NewTeller(deps TellerDeps) *Teller {
	return &Teller{TellerDeps: deps}
}

// Run compares the stream with the subscriptions at the start, and whenever it has become another or a shorter one, until ctx ends.
func (t *Teller) Run(ctx context.Context) error {
	report := func(err error) { t.Log.Warn().Err(err).Msg("limits of plans not compared, trying again") }
	for lifecycle.Retry(ctx, report, t.look) == nil && lifecycle.Sleep(ctx, lookInterval) {
	}
	return nil
}

func (t *Teller) look(ctx context.Context) error {
	stream, err := t.Bus.JS.Stream(ctx, subject.StreamLimits)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if err = t.Bus.Provision(ctx); err == nil {
			stream, err = t.Bus.JS.Stream(ctx, subject.StreamLimits)
		}
	}
	if err != nil {
		return fmt.Errorf("look up the stream of limits: %w", err)
	}
	info := stream.CachedInfo()
	if !info.Created.Equal(t.created) || info.State.LastSeq < t.last {
		if err := t.Compare(ctx); err != nil {
			return err
		}
	}
	t.created, t.last = info.Created, info.State.LastSeq
	return nil
}

// Compare tells again what the stream does not hold, or not in its newest revision.
func (t *Teller) Compare(ctx context.Context) error {
	for after := ""; ; {
		page, err := t.Register.limited(ctx, after)
		if err != nil {
			return err
		}
		for _, one := range page {
			revision, err := t.told(ctx, one.customer)
			if err == nil && revision < one.revision {
				err = t.Register.tellAgain(ctx, one.customer)
			}
			if err != nil {
				return err
			}
		}
		if len(page) < sweepPage {
			return nil
		}
		after = page[len(page)-1].customer
	}
}

// told is the revision that the stream holds, 0 for none.
func (t *Teller) told(ctx context.Context, customer string) (int64, error) {
	message, err := bus.Stored(ctx, t.Bus.Conn, subject.StreamLimits, bus.StoredRequest{LastBySubject: subject.Limits(customer)})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read limits of %s: %w", customer, err)
	}
	var last event.Limits
	if err := json.Unmarshal(message.Data, &last); err != nil {
		return 0, nil //nolint:nilerr // whatever that is, it is not what was told
	}
	return last.Revision, nil
}

type revision struct {
	customer string
	revision int64
}

// limited reads a page of the customers whose limits were ever told.
func (r *Register) limited(ctx context.Context, after string) ([]revision, error) {
	rows, err := r.Work.Query(ctx, `SELECT customer_id, limits_revision FROM billing.subscriptions
		WHERE limits_revision > 0 AND customer_id > $1 ORDER BY customer_id LIMIT $2`, after, sweepPage)
	if err != nil {
		return nil, fmt.Errorf("list limits: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (found revision, err error) {
		err = row.Scan(&found.customer, &found.revision)
		return found, err
	})
}

// tellAgain stores what the customer's subscription allows as an event once more, while nobody changes it: so that nothing older is told after
// something newer.
func (r *Register) tellAgain(ctx context.Context, customer string) error {
	err := pgx.BeginFunc(ctx, r.Work, func(tx pgx.Tx) error {
		if err := lock(ctx, tx, customer); err != nil {
			return err
		}
		current, err := load(ctx, tx, customer)
		if err != nil {
			return err
		}
		return r.storeLimits(ctx, tx, customer, &current.limits)
	})
	if err != nil {
		return fmt.Errorf("tell limits of %s again: %w", customer, err)
	}
	r.Outbox.Wake()
	return nil
}
