package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
)

// look is one look at several executions.
type look struct {
	*Watch
	now time.Time
	// ready is what services say of themselves, each asked once.
	ready map[string]bool
}

func (l *look) isReady(ctx context.Context, service string) bool {
	ready, asked := l.ready[service]
	if !asked {
		answer, err := bus.Ask[query.Readiness](ctx, l.Bus, service, query.Ready, struct{}{})
		ready = err == nil && answer.Ready
		l.ready[service] = ready
	}
	return ready
}

// examine says how an execution is stuck; the zero Kind when it is not.
func (l *look) examine(ctx context.Context, candidate *candidate) (Finding, error) {
	finding := Finding{CustomerID: candidate.Customer, ExecutionID: candidate.ID, AcceptedAt: candidate.accepted}
	last, err := l.Journal.Last(ctx, candidate.Execution)
	if err == nil && last.Kind == event.Completed {
		return finding, nil // the projection will hear of it
	}
	first := last
	if err == nil && last.Kind != event.Accepted {
		first, err = l.Journal.First(ctx, candidate.Execution)
	}
	if errors.Is(err, journal.ErrNotFound) {
		finding.Kind, finding.Since = Lost, candidate.accepted
		return finding, nil
	}
	if err != nil {
		return finding, err
	}
	finding.LastEvent = last.Kind
	kind, since, err := l.classify(ctx, &first, &last)
	if err == nil && since.Add(grace).Before(l.now) {
		finding.Kind, finding.Since = kind, since
	}
	return finding, err
}

// classify says what an execution would be if it did not go on before a moment.
func (l *look) classify(ctx context.Context, first, last *journal.Record) (kind Kind, since time.Time, err error) {
	var request event.Request
	if err := json.Unmarshal(first.Data, &request); err != nil {
		return "", time.Time{}, fmt.Errorf("decode %s: %w", first.ID(), err)
	}
	if request.Deadline.Add(grace).Before(l.now) {
		return Overdue, request.Deadline, nil
	}
	switch last.Kind {
	case event.Accepted:
		return l.unfunded(ctx, last.Stored)
	case event.Waiting:
		checkpoint, _, err := last.Checkpoint()
		if err != nil {
			return "", time.Time{}, err
		}
		if last.WaitsForCredits() {
			return l.unfunded(ctx, l.wake(ctx, &request, last, &checkpoint))
		}
		return Asleep, l.wake(ctx, &request, last, &checkpoint), nil
	case event.Funded, event.Started, event.Step, event.Completed:
	}
	return Silent, last.Stored.Add(longest(l.recipe(ctx, &request))), nil
}

// unfunded is what is said of an execution about which billing should have decided since a moment, if it works.
func (l *look) unfunded(ctx context.Context, since time.Time) (kind Kind, at time.Time, err error) {
	if !l.isReady(ctx, query.ServiceBilling) {
		return "", l.now, nil
	}
	return Unfunded, since, nil
}

// wake is when an execution that waits is woken, or ended, at the latest.
func (l *look) wake(ctx context.Context, request *event.Request, last *journal.Record, checkpoint *event.Checkpoint) time.Time {
	wake := request.Deadline
	earlier := func(at time.Time) {
		if at.Before(wake) {
			wake = at
		}
	}
	timed := true
	for i := range checkpoint.Waits {
		wait := &checkpoint.Waits[i]
		earlier(wait.Until)
		if wait.Execution != "" {
			earlier(last.Stored.Add(event.MaxChildWait))
		}
		timed = timed && wait.Credits == 0 // the time-out of a recipe begins when it is paid for,
		if wait.Slot != "" {
			timed = false // and with the slot
			earlier(last.Stored.Add(event.MaxSlotWait))
		}
	}
	if found := l.recipe(ctx, request); timed && found != nil {
		earlier(checkpoint.StartedAt.Add(found.Timeout))
	}
	return wake
}

// recipe is nil for one that cannot be found at the moment.
func (l *look) recipe(ctx context.Context, request *event.Request) *recipe.Recipe {
	pinned, err := l.Recipes.Resolve(ctx, request.CustomerID, request.AgentID, request.RecipeID, request.RecipeVersion)
	if err != nil {
		return nil
	}
	return pinned.Recipe
}

// longest is how long a worker may be at an execution without an event: as long as the step takes that may take longest, with all its
// attempts and the delays between them. Without a recipe nobody can say.
func longest(found *recipe.Recipe) time.Duration {
	if found == nil {
		return bus.MaxExecution
	}
	var limit time.Duration
	for _, step := range found.Steps {
		if !step.Waits() {
			limit = max(limit, time.Duration(step.Retry.MaxAttempts)*(step.Timeout+step.Retry.Max))
		}
	}
	return min(limit, found.Timeout)
}
