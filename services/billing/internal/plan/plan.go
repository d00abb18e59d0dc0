// Package plan keeps the plans: what an operator offers, in immutable versions. What follows from a plan for a customer is decided in
// package subscription.
package plan

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
)

const resource = "plan"

// Catalogue is where the plans are written down.
type Catalogue struct {
	work, read *pgxpool.Pool
	outbox     *outbox.Outbox
	now        clock.Clock
}

// New makes a Catalogue over pools that act as the role of the work and as that of the reader.
func New(work, read *pgxpool.Pool, events *outbox.Outbox, now clock.Clock) *Catalogue {
	return &Catalogue{work: work, read: read, outbox: events, now: now}
}

// Publish makes the terms a version of the plan: the one that has them already, or the next one. The terms must have no violations; features
// are kept in their order, each once. It is a CONFLICT when the plan is retired, or the version that the request names is not to be had.
func (c *Catalogue) Publish(ctx context.Context, request *query.PublishPlanRequest) (query.PublishPlanReply, error) {
	terms := normal(&request.PlanTerms)
	encoded, err := json.Marshal(terms)
	if err != nil {
		return query.PublishPlanReply{}, fmt.Errorf("encode plan %s: %w", request.PlanID, err)
	}
	var reply query.PublishPlanReply
	err = pgx.BeginFunc(ctx, c.work, func(tx pgx.Tx) error {
		if err := lock(ctx, tx, request.PlanID); err != nil {
			return err
		}
		reply, err = c.publish(ctx, tx, request, encoded)
		return err
	})
	if err != nil {
		return query.PublishPlanReply{}, fmt.Errorf("publish plan %s: %w", request.PlanID, err)
	}
	c.outbox.Wake()
	return reply, nil
}

func normal(terms *query.PlanTerms) query.PlanTerms {
	made := *terms
	made.Features = append([]string{}, terms.Features...)
	slices.Sort(made.Features)
	made.Features = slices.Compact(made.Features)
	made.PriceList = append([]query.Price{}, terms.PriceList...)
	return made
}

func (c *Catalogue) publish(
	ctx context.Context, tx pgx.Tx, request *query.PublishPlanRequest, terms []byte,
) (query.PublishPlanReply, error) {
	digest := sha256.Sum256(terms)
	known, newest, err := versionOf(ctx, tx, request.PlanID, digest[:])
	if err != nil {
		return query.PublishPlanReply{}, err
	}
	if known != 0 && (request.Version == 0 || request.Version == known) {
		found, err := Load(ctx, tx, request.PlanID, known)
		return query.PublishPlanReply{Plan: found, Repeated: true}, err
	}
	switch retired, err := isRetired(ctx, tx, request.PlanID); {
	case err != nil:
		return query.PublishPlanReply{}, err
	case request.Version != 0 && request.Version <= newest:
		return query.PublishPlanReply{}, conflict("version %d of plan %s is published, and what is published is not edited: leave the version "+
			"out, and it becomes version %d", request.Version, request.PlanID, newest+1)
	case request.Version > newest+1:
		return query.PublishPlanReply{}, conflict("the next version of plan %s is %d", request.PlanID, newest+1)
	case known != 0:
		return query.PublishPlanReply{}, conflict("version %d of plan %s has this content already", known, request.PlanID)
	case retired:
		return query.PublishPlanReply{}, conflict("plan %s is retired", request.PlanID)
	}
	now := c.now().UTC()
	if err := insert(ctx, tx, request.PlanID, newest+1, terms, digest[:], now); err != nil {
		return query.PublishPlanReply{}, err
	}
	if err := c.report(ctx, tx, request.Actor, now, planChange{event.ActionPlanPublished, request.PlanID, newest + 1, nil, json.RawMessage(terms)}); err != nil {
		return query.PublishPlanReply{}, err
	}
	found, err := Load(ctx, tx, request.PlanID, newest+1)
	return query.PublishPlanReply{Plan: found}, err
}

// Retire closes a plan to new subscriptions, for good; those that there are go on. It is NOT_FOUND when there is no such plan.
func (c *Catalogue) Retire(ctx context.Context, request *query.RetirePlanRequest) (query.Plan, error) {
	var found query.Plan
	err := pgx.BeginFunc(ctx, c.work, func(tx pgx.Tx) (err error) {
		if err := lock(ctx, tx, request.PlanID); err != nil {
			return err
		}
		if found, err = Load(ctx, tx, request.PlanID, 0); err != nil || found.RetiredAt != nil {
			return err
		}
		now := c.now().UTC()
		if err := retire(ctx, tx, request.PlanID, now); err != nil {
			return err
		}
		found.RetiredAt = &now
		return c.report(ctx, tx, request.Actor, now, planChange{
			event.ActionPlanRetired, request.PlanID, found.Version, retirement{}, retirement{&now},
		})
	})
	if err != nil {
		return query.Plan{}, fmt.Errorf("retire plan %s: %w", request.PlanID, err)
	}
	c.outbox.Wake()
	return found, nil
}

// retirement is what the activity of a plan that is retired tells.
type retirement struct {
	RetiredAt *time.Time `json:"retired_at"`
}

// planChange is something that happens to a plan, as its activity tells it.
type planChange struct {
	action, id    string
	version       int
	before, after any
}

// report stores an activity. It belongs to no customer.
func (c *Catalogue) report(ctx context.Context, tx pgx.Tx, actor event.Actor, now time.Time, change planChange) error {
	changes, err := event.Changes(change.before, change.after)
	if err != nil {
		return err
	}
	return c.outbox.Activity(ctx, tx, event.Activity{
		ActionType: change.action, ResourceType: resource, ResourceID: fmt.Sprintf("%s/%d", change.id, change.version), Actor: actor,
		Changes: changes,
		Outcome: "success", OccurredAt: now,
	}, "")
}

// Get reads a version of a plan, the newest one when version is 0. It is NOT_FOUND when there is none.
func (c *Catalogue) Get(ctx context.Context, id string, version int) (found query.Plan, err error) {
	err = pgx.BeginTxFunc(ctx, c.read, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
		found, err = Load(ctx, tx, id, version)
		return err
	})
	if err != nil {
		return query.Plan{}, fmt.Errorf("get plan %s: %w", id, err)
	}
	return found, nil
}

// List reads a page of the plans, each in its newest version.
func (c *Catalogue) List(ctx context.Context, request *query.PlansRequest) (query.PlansReply, error) {
	found, err := newest(ctx, c.read, request.After, request.Retired, request.Limit+1)
	if err != nil {
		return query.PlansReply{}, fmt.Errorf("list plans: %w", err)
	}
	reply := query.PlansReply{Plans: found, More: len(found) > request.Limit}
	if reply.More {
		reply.Plans = found[:request.Limit]
	}
	return reply, nil
}

func conflict(format string, arguments ...any) error {
	return &problem.Error{Code: problem.Conflict, Message: fmt.Sprintf(format, arguments...)}
}

// Load reads a version of a plan in a transaction, the newest one when version is 0. It is NOT_FOUND when there is none.
func Load(ctx context.Context, tx pgx.Tx, id string, version int) (query.Plan, error) {
	found, err := load(ctx, tx, id, version)
	switch {
	case errors.Is(err, pgx.ErrNoRows) && version == 0:
		return query.Plan{}, &problem.Error{Code: problem.NotFound, Message: fmt.Sprintf("there is no plan %q", id)}
	case errors.Is(err, pgx.ErrNoRows):
		return query.Plan{}, &problem.Error{Code: problem.NotFound, Message: fmt.Sprintf("there is no version %d of plan %q", version, id)}
	}
	return found, err
}
