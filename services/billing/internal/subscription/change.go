package subscription

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/internal/period"
	"github.com/galley-engine/galley/services/billing/internal/plan"
)

// maxBackdate is how far in the past a subscription may begin: each period since then gets its credits.
const maxBackdate = 366 * 24 * time.Hour

// set makes the subscription what the request says: a subscription to a published plan, or a note about one that is not published.
func (t *turn) set(ctx context.Context, request *query.SubscribeRequest) error {
	offered, err := plan.Load(ctx, t.tx, request.Plan, request.Version)
	if refused, ok := errors.AsType[*problem.Error](err); ok && refused.Code == problem.NotFound {
		if request.Version != 0 || request.Anchor != 0 || request.TimeZone != "" || request.Start != nil {
			return err
		}
		return t.note(ctx, request)
	}
	switch {
	case err != nil:
		return err
	case request.Status != query.SubscriptionActive:
		return refusal(problem.InvalidRequest, "plan %s is published: a subscription to it is cancelled, not set to cancelled", request.Plan)
	case len(request.Features) > 0:
		return refusal(problem.InvalidRequest, "plan %s is published, and the features are those of the plan", request.Plan)
	case !t.ongoing():
		return t.subscribe(ctx, request, &offered)
	}
	if err := t.keepsCalendar(request); err != nil {
		return err
	}
	return t.switchTo(ctx, &offered)
}

// note writes down a plan that is not published. Features are kept in their order, each once.
func (t *turn) note(ctx context.Context, request *query.SubscribeRequest) error {
	if t.ongoing() {
		return refusal(problem.Conflict, "plan %s is not published, and a subscription to plan %s goes on: cancel that first", request.Plan, t.plan)
	}
	features := append([]string{}, request.Features...)
	slices.Sort(features)
	features = slices.Compact(features)
	if t.version == 0 && t.plan == request.Plan && t.status == request.Status && slices.Equal(t.features, features) {
		return nil
	}
	t.state = state{plan: request.Plan, status: request.Status, features: features, number: t.number, limits: t.limits}
	return t.report(ctx, event.ActionSubscriptionUpdated)
}

// subscribe begins a subscription, with its first period. Where that began in the past, the periods since then follow at once.
func (t *turn) subscribe(ctx context.Context, request *query.SubscribeRequest, offered *query.Plan) error {
	if offered.RetiredAt != nil {
		return refusal(problem.Conflict, "plan %s is retired: it takes no new subscriptions", offered.PlanID)
	}
	start := t.now
	if request.Start != nil {
		start = request.Start.UTC().Truncate(time.Microsecond)
		if start.After(t.now) || t.now.Sub(start) > maxBackdate {
			return refusal(problem.InvalidRequest, "start must not be in the future, nor more than 366 days in the past")
		}
	}
	name := request.TimeZone
	if name == "" {
		name = time.UTC.String()
	}
	zone, err := period.Zone(name)
	if err != nil {
		return refusal(problem.InvalidRequest, "time_zone %v", err)
	}
	t.zone, t.anchor = name, request.Anchor
	if t.anchor == 0 {
		t.anchor = start.In(zone).Day()
	}
	if t.anchor < 1 || t.anchor > period.MaxDay {
		return refusal(problem.InvalidRequest, "anchor_day %v", period.ErrDay)
	}
	t.number++
	if err := t.begin(start, 1, offered); err != nil {
		return err
	}
	if err := t.month(ctx, offered); err != nil {
		return err
	}
	if t.moved.NotGranted > 0 {
		return refusal(problem.InvalidRequest, "%v", ledger.ErrMaxBalance)
	}
	if err := t.overdraft(ctx, nil, offered.Limits.Overdraft); err != nil {
		return err
	}
	if err := t.report(ctx, event.ActionSubscriptionCreated); err != nil {
		return err
	}
	return t.advance(ctx)
}

// keepsCalendar refuses another calendar for a subscription that goes on. A request that is repeated says what is so already.
func (t *turn) keepsCalendar(request *query.SubscribeRequest) error {
	if request.Anchor != 0 && request.Anchor != t.anchor || request.TimeZone != "" && request.TimeZone != t.zone ||
		request.Start != nil && (t.period != 1 || !request.Start.Truncate(time.Microsecond).Equal(t.start)) {
		return refusal(problem.Conflict, "a subscription goes on, and its start, anchor day and time zone stay as they are: cancel it first")
	}
	return nil
}

// switchTo changes the plan of a subscription that goes on: at once where the new one has as many credits a month or more, at the end of the
// period where it has fewer. The plan that it has already withdraws what was to happen at the end.
func (t *turn) switchTo(ctx context.Context, offered *query.Plan) error {
	same := func(id string, version int) bool { return offered.PlanID == id && offered.Version == version }
	switch {
	case same(t.plan, t.version) && !t.cancelAtEnd && t.nextPlan == "", same(t.nextPlan, t.nextVersion):
		return nil
	case same(t.plan, t.version):
		t.cancelAtEnd, t.nextPlan, t.nextVersion = false, "", 0
		return t.report(ctx, event.ActionSubscriptionChanged)
	case offered.RetiredAt != nil:
		return refusal(problem.Conflict, "plan %s is retired: nobody can change to it", offered.PlanID)
	}
	current, err := plan.Load(ctx, t.tx, t.plan, t.version)
	if err != nil {
		return err
	}
	t.cancelAtEnd = false
	more := offered.MonthlyCredits - current.MonthlyCredits
	if more < 0 {
		t.nextPlan, t.nextVersion = offered.PlanID, offered.Version
		return t.report(ctx, event.ActionSubscriptionChanged)
	}
	t.adopt(offered)
	// Plans follow one another upwards within a period, so each is changed to for more credits at most once in it.
	suffix := fmt.Sprintf("/%s/%d", offered.PlanID, offered.Version)
	t.moved.Granted, err = t.give(ctx, suffix, query.GrantProration, proration(more, t.start, t.now, t.end), offered)
	if err != nil {
		return err
	}
	if t.moved.NotGranted > 0 {
		return refusal(problem.InvalidRequest, "%v", ledger.ErrMaxBalance)
	}
	if err := t.overdraft(ctx, current.Limits.Overdraft, offered.Limits.Overdraft); err != nil {
		return err
	}
	return t.report(ctx, event.ActionSubscriptionChanged)
}

func (t *turn) cancel(ctx context.Context, atOnce bool) error {
	switch {
	case t.status == "":
		return refusal(problem.NotFound, "customer %s has no subscription", t.customer)
	case t.status == query.SubscriptionCancelled, t.cancelAtEnd && !atOnce:
		return nil
	case t.version == 0:
		t.status = query.SubscriptionCancelled
		return t.report(ctx, event.ActionSubscriptionUpdated)
	case !atOnce:
		t.cancelAtEnd, t.nextPlan, t.nextVersion = true, "", 0
		return t.report(ctx, event.ActionSubscriptionChanged)
	}
	ended, err := plan.Load(ctx, t.tx, t.plan, t.version)
	if err != nil {
		return err
	}
	if _, err := t.expire(ctx, t.now, false); err != nil {
		return err
	}
	return t.finish(ctx, &ended)
}
