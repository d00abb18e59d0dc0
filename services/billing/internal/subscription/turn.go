package subscription

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/internal/period"
	"github.com/galley-engine/galley/services/billing/internal/plan"
)

// resource is that of the activities.
const resource = "subscription"

// turn is one change of a subscription: a transaction in which nobody else changes it.
type turn struct {
	*Register
	state

	tx       pgx.Tx
	customer string
	actor    event.Actor
	now      time.Time
	// changed tells that the state is to be saved, moved what has become of credits since the last activity.
	changed bool
	moved   moves
	// told is what the last activity told, or would have told of what was there before.
	told *record
}

// moves are the credits that an activity tells of.
type moves struct {
	Granted credit.Micro `json:"granted,omitempty"`
	Carried credit.Micro `json:"carried,omitempty"`
	Expired credit.Micro `json:"expired,omitempty"`
	// NotGranted would have brought the balance over its maximum.
	NotGranted credit.Micro `json:"not_granted,omitempty"`
}

// record is what an activity tells, before and after.
type record struct {
	Plan     string                    `json:"plan"`
	Version  int                       `json:"version,omitempty"`
	Status   query.SubscriptionStatus  `json:"status"`
	Features []string                  `json:"features"`
	Period   *query.SubscriptionPeriod `json:"period,omitempty"`
	Next     *query.SubscriptionChange `json:"next_change,omitempty"`
	moves
}

// record is nil for a customer who has never had a subscription.
func (s *state) record() *record {
	if s.status == "" {
		return nil
	}
	told := &record{Plan: s.plan, Version: s.version, Status: s.status, Features: append([]string{}, s.features...)}
	if s.version != 0 {
		told.Period, told.Next = s.term(), s.next()
	}
	return told
}

// report has the state saved, and records what it is now.
func (t *turn) report(ctx context.Context, action string) error {
	before, after := t.told, t.record()
	t.told = t.record()
	after.moves = t.moved
	t.changed, t.updated, t.moved = true, t.now, moves{}
	changes, err := event.Changes(before, after)
	if err != nil {
		return err
	}
	return t.Outbox.Activity(ctx, t.tx, event.Activity{
		CustomerID: t.customer, ActionType: action, ResourceType: resource, ResourceID: t.customer, Actor: t.actor, Changes: changes,
		Outcome: "success", OccurredAt: t.now,
	}, "")
}

// advance ends the periods that are over, each as if it had been ended on time.
func (t *turn) advance(ctx context.Context) error {
	actor := t.actor
	t.actor = service()
	defer func() { t.actor = actor }()
	for t.isOver(t.now) {
		if err := t.rollOver(ctx); err != nil {
			return fmt.Errorf("roll over period %d/%d: %w", t.number, t.period, err)
		}
	}
	return nil
}

// rollOver ends the period: the plan that it ends with decides what of its credits is carried. Then the subscription ends, or the next period
// begins, with the plan that was to come.
func (t *turn) rollOver(ctx context.Context) error {
	ending, err := plan.Load(ctx, t.tx, t.plan, t.version)
	if err != nil {
		return err
	}
	left, err := t.expire(ctx, t.end, true)
	if err != nil {
		return err
	}
	if t.cancelAtEnd {
		return t.finish(ctx, &ending)
	}
	begun := ending
	if t.nextPlan != "" {
		if begun, err = plan.Load(ctx, t.tx, t.nextPlan, t.nextVersion); err != nil {
			return err
		}
	}
	if err := t.begin(t.end, t.period+1, &begun); err != nil {
		return err
	}
	if err := t.carry(ctx, &ending, left); err != nil {
		return err
	}
	if err := t.month(ctx, &begun); err != nil {
		return err
	}
	if err := t.overdraft(ctx, ending.Limits.Overdraft, begun.Limits.Overdraft); err != nil {
		return err
	}
	return t.report(ctx, event.ActionSubscriptionRenewed)
}

// begin makes the state that of a period that starts, without its credits.
func (t *turn) begin(start time.Time, number int, offered *query.Plan) error {
	calendar, err := period.NewCalendar(t.anchor, t.zone)
	if err != nil {
		return fmt.Errorf("day %d in time zone %q: %w", t.anchor, t.zone, err)
	}
	t.status, t.period, t.start, t.end = query.SubscriptionActive, number, start, calendar.Next(start)
	t.grants, t.cancelAtEnd = nil, false
	t.adopt(offered)
	return nil
}

// adopt makes the plan that of the subscription, from now on.
func (t *turn) adopt(offered *query.Plan) {
	t.plan, t.version, t.features = offered.PlanID, offered.Version, offered.Features
	t.nextPlan, t.nextVersion = "", 0
	t.limits.maxConcurrency = offered.Limits.MaxConcurrency
}

// carry gives again what was left of the period before, as far as the plan that it ended with lets it: a grant of the new period.
func (t *turn) carry(ctx context.Context, ended *query.Plan, left credit.Micro) error {
	amount := left
	switch ended.Rollover.Rule {
	case query.RolloverNone:
		amount = 0
	case query.RolloverCapped:
		amount = min(left, ended.Rollover.Max)
	case query.RolloverAll: // of a grant from before the plan had this rule
	}
	given, err := t.give(ctx, "/rollover", query.GrantRollover, amount, ended)
	t.moved.Carried += given
	return err
}

// month gives the plan's credits of the period.
func (t *turn) month(ctx context.Context, offered *query.Plan) error {
	given, err := t.give(ctx, "", query.GrantMonthly, offered.MonthlyCredits, offered)
	t.moved.Granted += given
	return err
}

// give makes a grant of the period: it expires at its end unless the plan says otherwise. suffix tells it apart from other grants of the period;
// the same one is given once. It returns what was given: less than amount only where the balance would grow too large.
func (t *turn) give(
	ctx context.Context, suffix string, kind query.GrantKind, amount credit.Micro, offered *query.Plan,
) (credit.Micro, error) {
	if amount == 0 {
		return 0, nil
	}
	made := query.GrantRequest{
		ID: fmt.Sprintf("subscription/%d/%d%s", t.number, t.period, suffix), CustomerID: t.customer, Amount: amount, Kind: kind,
		Priority: &offered.Priority, Reason: fmt.Sprintf("plan %s/%d", offered.PlanID, offered.Version), Actor: t.actor,
	}
	expires := offered.Rollover.Rule != query.RolloverAll
	if expires {
		made.ExpiresAt = &t.end
	}
	_, err := t.Ledger.GrantTx(ctx, t.tx, made)
	if errors.Is(err, ledger.ErrMaxBalance) {
		t.moved.NotGranted += amount
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("grant %s: %w", made.ID, err)
	}
	t.grants = append(t.grants, grant{ID: made.ID, Expires: expires})
	return amount, nil
}

// expire ends the grants of the period: those that were given until its end, or all. It returns what was left of them. That counts what has
// expired before, because a debit may have found the grant over earlier than this did.
func (t *turn) expire(ctx context.Context, at time.Time, atEnd bool) (left credit.Micro, err error) {
	for _, given := range t.grants {
		if atEnd && !given.Expires {
			continue
		}
		expired, err := t.Ledger.ExpireTx(ctx, t.tx, t.customer, given.ID, at)
		if err != nil {
			return 0, fmt.Errorf("expire grant %s: %w", given.ID, err)
		}
		left += expired
	}
	t.moved.Expired += left
	return left, nil
}

// overdraft sets the customer's overdraft where plans say something of it: the new one does, or the old one did.
func (t *turn) overdraft(ctx context.Context, before, after *credit.Micro) error {
	switch {
	case after != nil && (before == nil || *before != *after):
		return t.Ledger.SetOverdraftTx(ctx, t.tx, t.customer, *after, t.actor)
	case after == nil && before != nil:
		return t.Ledger.SetOverdraftTx(ctx, t.tx, t.customer, 0, t.actor)
	}
	return nil
}

// finish ends the subscription. What it has given stays until it expires.
func (t *turn) finish(ctx context.Context, ended *query.Plan) error {
	t.status, t.grants, t.cancelAtEnd, t.nextPlan, t.nextVersion = query.SubscriptionCancelled, nil, false, "", 0
	t.limits.maxConcurrency = nil
	if err := t.overdraft(ctx, ended.Limits.Overdraft, nil); err != nil {
		return err
	}
	return t.report(ctx, event.ActionSubscriptionCancelled)
}

// proration is the part of what a whole period gives that falls to the rest of it, rounded down to the micro-credit. It is exact before that:
// times have whole microseconds.
func proration(amount credit.Micro, start, now, end time.Time) credit.Micro {
	whole, rest := end.Sub(start), min(max(end.Sub(now), 0), end.Sub(start))
	high, low := bits.Mul64(uint64(amount), uint64(rest.Microseconds())) //nolint:gosec // neither is negative
	part, _ := bits.Div64(high, low, uint64(whole.Microseconds()))       //nolint:gosec // and rest is at most whole
	return credit.Micro(part)                                            //nolint:gosec // so that the part is at most amount
}
