// Package subscription keeps what customers have subscribed to: a plan by its name, features by theirs, and whether that holds. What plans
// there are and what they cost is not known here.
package subscription

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
)

// activityUpdated is the action type of the activity that a change reports, resource its resource.
const (
	activityUpdated = "subscription.updated"
	resource        = "subscription"
)

// Register is where subscriptions are written down.
type Register struct {
	work, read *pgxpool.Pool
	outbox     *outbox.Outbox
	now        clock.Clock
}

// New makes a Register over pools that act as the role of the work and as that of the reader.
func New(work, read *pgxpool.Pool, events *outbox.Outbox, now clock.Clock) *Register {
	return &Register{work: work, read: read, outbox: events, now: now}
}

// terms are what a subscription says.
type terms struct {
	Plan     string                   `json:"plan"`
	Status   query.SubscriptionStatus `json:"status"`
	Features []string                 `json:"features"`
}

func (t *terms) equal(other *terms) bool {
	return t.Plan == other.Plan && t.Status == other.Status && slices.Equal(t.Features, other.Features)
}

// Get gives a customer's subscription and balance, limited to the customer's rows by row-level security.
func (r *Register) Get(ctx context.Context, customer string) (query.SubscriptionReply, error) {
	reply := query.SubscriptionReply{CustomerID: customer}
	err := postgres.Query(ctx, r.read, customer, func(batch *pgx.Batch) {
		batch.Queue(`SELECT COALESCE(sum(balance), 0)::bigint FROM billing.accounts WHERE customer_id = $1`, customer).
			QueryRow(func(row pgx.Row) error { return row.Scan(&reply.Balance) })
		batch.Queue(`SELECT plan, status, features, updated_at FROM billing.subscriptions WHERE customer_id = $1`, customer).
			QueryRow(func(row pgx.Row) error { return scan(row, &reply) })
	})
	if err != nil {
		return query.SubscriptionReply{}, fmt.Errorf("read subscription of %s: %w", customer, err)
	}
	return reply, nil
}

func scan(row pgx.Row, reply *query.SubscriptionReply) error {
	var updated time.Time
	err := row.Scan(&reply.Plan, &reply.Status, &reply.Features, &updated)
	if errors.Is(err, pgx.ErrNoRows) {
		reply.Status, reply.Features = query.SubscriptionNone, []string{}
		return nil
	}
	updated = updated.UTC()
	reply.UpdatedAt = &updated
	return err
}

// Set makes a customer's subscription what the request says, and records that as an activity unless it was so already. Features are kept
// in their order, each once.
func (r *Register) Set(ctx context.Context, request *query.SubscribeRequest) (query.SubscriptionReply, error) {
	wanted := terms{Plan: request.Plan, Status: request.Status, Features: append([]string{}, request.Features...)}
	slices.Sort(wanted.Features)
	wanted.Features = slices.Compact(wanted.Features)
	err := pgx.BeginFunc(ctx, r.work, func(tx pgx.Tx) error { return r.set(ctx, tx, request, &wanted) })
	if err != nil {
		return query.SubscriptionReply{}, fmt.Errorf("set subscription of %s: %w", request.CustomerID, err)
	}
	r.outbox.Wake()
	return r.Get(ctx, request.CustomerID)
}

func (r *Register) set(ctx context.Context, tx pgx.Tx, request *query.SubscribeRequest, wanted *terms) error {
	now := r.now().UTC()
	tag, err := tx.Exec(ctx, `INSERT INTO billing.subscriptions (customer_id, plan, status, features, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (customer_id) DO NOTHING`,
		request.CustomerID, wanted.Plan, wanted.Status, wanted.Features, now)
	if err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	if tag.RowsAffected() == 0 {
		changed, err := update(ctx, tx, request.CustomerID, wanted, now)
		if err != nil || !changed {
			return err
		}
	}
	changes, err := json.Marshal(wanted)
	if err != nil {
		return fmt.Errorf("encode changes: %w", err)
	}
	return r.outbox.Activity(ctx, tx, event.Activity{
		CustomerID: request.CustomerID, ActionType: activityUpdated, ResourceType: resource, ResourceID: request.CustomerID,
		Actor: request.Actor, Changes: changes, Outcome: "success", OccurredAt: now,
	}, "")
}

// update locks the row, so that of two changes at once the later one is told from the one before it.
func update(ctx context.Context, tx pgx.Tx, customer string, wanted *terms, now time.Time) (changed bool, err error) {
	var current terms
	err = tx.QueryRow(ctx, `SELECT plan, status, features FROM billing.subscriptions WHERE customer_id = $1 FOR UPDATE`, customer).
		Scan(&current.Plan, &current.Status, &current.Features)
	if err != nil {
		return false, fmt.Errorf("lock: %w", err)
	}
	if current.equal(wanted) {
		return false, nil
	}
	_, err = tx.Exec(ctx, `UPDATE billing.subscriptions SET plan = $2, status = $3, features = $4, updated_at = $5 WHERE customer_id = $1`,
		customer, wanted.Plan, wanted.Status, wanted.Features, now)
	if err != nil {
		return false, fmt.Errorf("update: %w", err)
	}
	return true, nil
}
