package subscription

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
)

// state is a subscription as it is stored. The zero state is that of a customer who has never had one.
type state struct {
	plan     string
	status   query.SubscriptionStatus
	features []string
	updated  time.Time
	// version is 0 for a note; then nothing that follows means anything, except number.
	version int
	// number counts the customer's subscriptions to published plans, period the periods of this one.
	number, period int
	start, end     time.Time
	anchor         int
	zone           string
	grants         []grant
	// What happens at the end of the period: at most one of the two.
	cancelAtEnd bool
	nextPlan    string
	nextVersion int
	limits      limits
}

// grant is one that the subscription has given in the period that goes on.
type grant struct {
	ID string `json:"id"`
	// Expires tells that it was given until the end of the period.
	Expires bool `json:"expires"`
}

// ongoing tells whether there is a period that goes on, or should.
func (s *state) ongoing() bool {
	return s.version != 0 && s.status == query.SubscriptionActive
}

// isOver tells whether the period ought to be rolled over.
func (s *state) isOver(now time.Time) bool {
	return s.ongoing() && !now.Before(s.end)
}

func (s *state) reply(customer string, balance credit.Micro) query.SubscriptionReply {
	reply := query.SubscriptionReply{CustomerID: customer, Plan: s.plan, Status: s.status, Features: s.features, Balance: balance}
	if s.status == "" {
		reply.Status, reply.Features = query.SubscriptionNone, []string{}
		return reply
	}
	reply.UpdatedAt = &s.updated
	if s.version != 0 {
		reply.SubscriptionTerm = &query.SubscriptionTerm{
			Version: s.version, Period: *s.term(), Anchor: s.anchor, TimeZone: s.zone, Next: s.next(),
		}
	}
	return reply
}

func (s *state) term() *query.SubscriptionPeriod {
	return &query.SubscriptionPeriod{Subscription: s.number, Number: s.period, Start: s.start, End: s.end}
}

func (s *state) next() *query.SubscriptionChange {
	switch {
	case s.cancelAtEnd:
		return &query.SubscriptionChange{At: s.end, Status: query.SubscriptionCancelled}
	case s.nextPlan != "":
		return &query.SubscriptionChange{At: s.end, Status: query.SubscriptionActive, Plan: s.nextPlan, Version: s.nextVersion}
	}
	return nil
}

// lock keeps two changes of a customer's subscription apart until the transaction ends. A first subscription has no row yet that could be
// locked. The account of the customer is locked after this, never before.
func lock(ctx context.Context, tx pgx.Tx, customer string) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('billing.subscriptions/' || $1, 0))`, customer); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	return nil
}

const selectState = `SELECT plan, status, features, updated_at, COALESCE(version, 0), number, COALESCE(period, 0),
		period_start, period_end, COALESCE(anchor_day, 0), COALESCE(time_zone, ''), grants,
		cancel_at_end, COALESCE(next_plan, ''), COALESCE(next_version, 0), max_concurrency, limits_revision
	FROM billing.subscriptions WHERE customer_id = $1`

func load(ctx context.Context, tx pgx.Tx, customer string) (state, error) {
	found, err := scan(tx.QueryRow(ctx, selectState, customer))
	if err != nil {
		return state{}, fmt.Errorf("read: %w", err)
	}
	return found, nil
}

func scan(row pgx.Row) (state, error) {
	var s state
	var start, end *time.Time
	err := row.Scan(&s.plan, &s.status, &s.features, &s.updated, &s.version, &s.number, &s.period, &start, &end, &s.anchor, &s.zone, &s.grants,
		&s.cancelAtEnd, &s.nextPlan, &s.nextVersion, &s.limits.maxConcurrency, &s.limits.revision)
	if errors.Is(err, pgx.ErrNoRows) {
		return state{}, nil
	}
	if start != nil && end != nil {
		s.start, s.end = start.UTC(), end.UTC()
	}
	s.updated = s.updated.UTC()
	return s, err
}

func save(ctx context.Context, tx pgx.Tx, customer string, s *state, now time.Time) error {
	var start, end *time.Time
	if s.version != 0 {
		start, end = &s.start, &s.end
	}
	grants := append([]grant{}, s.grants...)
	_, err := tx.Exec(ctx, `INSERT INTO billing.subscriptions (customer_id, plan, status, features, created_at, updated_at, version, number, period,
			period_start, period_end, anchor_day, time_zone, grants, cancel_at_end, next_plan, next_version, max_concurrency, limits_revision)
		VALUES ($1, $2, $3, $4, $5, $5, NULLIF($6, 0), $7, NULLIF($8, 0), $9, $10, NULLIF($11, 0), NULLIF($12, ''), $13, $14, NULLIF($15, ''),
			NULLIF($16, 0), $17, $18)
		ON CONFLICT (customer_id) DO UPDATE SET plan = excluded.plan, status = excluded.status, features = excluded.features,
			updated_at = excluded.updated_at, version = excluded.version, number = excluded.number, period = excluded.period,
			period_start = excluded.period_start, period_end = excluded.period_end, anchor_day = excluded.anchor_day,
			time_zone = excluded.time_zone, grants = excluded.grants, cancel_at_end = excluded.cancel_at_end,
			next_plan = excluded.next_plan, next_version = excluded.next_version, max_concurrency = excluded.max_concurrency,
			limits_revision = excluded.limits_revision`,
		customer, s.plan, s.status, s.features, now, s.version, s.number, s.period, start, end, s.anchor, s.zone, grants, s.cancelAtEnd,
		s.nextPlan, s.nextVersion, s.limits.maxConcurrency, s.limits.revision)
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return nil
}
