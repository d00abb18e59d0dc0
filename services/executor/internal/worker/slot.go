package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/engine"
	"github.com/galley-engine/galley/services/executor/internal/slot"
)

// comeBack is after how long the first of those that wait for a slot looks again without being called. Each one further back
// waits that much longer, up to event.MaxSlotWait: so a queue of any length costs about one look a second, and those that the queue has no
// room for are spread over minutes.
const comeBack = 5 * time.Second

// Slots bounds how many executions are under way at the same time.
type Slots interface {
	Enter(claim slot.Claim) (slot.Standing, error)
	Holds(ctx context.Context, execution subject.Execution) (bool, error)
	Release(execution subject.Execution) error
	Refresh(customer string)
}

// maxCustomer is the customer's limit as far as it concerns this execution. One that another execution runs is counted with that one,
// which could wait for it for ever otherwise.
func maxCustomer(execution *engine.Execution) int {
	if execution.Parent != nil {
		return 0
	}
	return execution.MaxConcurrency
}

func maxRecipe(execution *engine.Execution) int {
	if execution.Recipe == nil {
		return 0
	}
	return execution.Recipe.Concurrency
}

// enter takes a slot for an execution that is limited, before its first step, unless it has one. When there is none it puts the execution
// down.
func (s *session) enter(ctx context.Context, execution *engine.Execution, from *event.Checkpoint) error {
	claim := slot.Claim{Execution: s.execution, MaxCustomer: maxCustomer(execution), MaxRecipe: maxRecipe(execution)}
	if claim.MaxCustomer == 0 && claim.MaxRecipe == 0 {
		return nil
	}
	claim.Ticket, claim.Accepted = s.record.Sequence, execution.AcceptedAt
	claim.Recipe, claim.Version = execution.AgentID+"."+execution.RecipeID, execution.RecipeVersion
	now := s.clock()
	wait := event.Wait{Since: now, Until: execution.Deadline}
	waited := slices.IndexFunc(from.Waits, slot.IsWait)
	if waited >= 0 {
		wait.Since = from.Waits[waited].Since
		from.Waits = slices.Delete(slices.Clone(from.Waits), waited, waited+1)
	}
	if !now.Before(execution.Deadline) {
		return &problem.Error{Code: problem.Timeout, Message: "the execution ran out of time before it could begin", Retryable: true}
	}
	standing, err := s.slots.Enter(claim)
	if err != nil {
		return err
	}
	if standing.Held {
		if waited >= 0 && from.Checkpoints == 0 && len(from.Waits) == 0 {
			from.StartedAt = now // its time-out begins with it
		}
		return nil
	}
	wait.Slot = standing.Full
	return s.parkForSlot(ctx, *from, wait, pause(standing.Place))
}

func (s *session) parkForSlot(ctx context.Context, from event.Checkpoint, wait event.Wait, pause time.Duration) error {
	from.Waits = append(slices.Clone(from.Waits), wait)
	checkpoint, err := json.Marshal(&from)
	if err != nil {
		return fmt.Errorf("encode checkpoint: %w", err)
	}
	wake := s.clock().Add(pause)
	if wait.Until.Before(wake) {
		wake = wait.Until
	}
	err = s.Park(context.WithoutCancel(ctx), checkpoint, wake, func(ctx context.Context) (bool, error) {
		return s.slots.Holds(ctx, s.execution)
	})
	if err != nil {
		return err
	}
	return engine.ErrParked
}

// pause is after how long the execution at this place of the queue looks again: with jitter, for those that came together.
func pause(place int) time.Duration {
	longest := min(comeBack*time.Duration(place+1), event.MaxSlotWait)
	return longest*3/4 + rand.N(longest/4) //nolint:gosec // nobody gains by guessing the jitter
}

// leaveSlots gives the slots of an execution back when it has ended, as the error that stopped this worker tells. If that fails the delivery
// is made again; and slots that are held by nobody are found when somebody needs them.
func (s *session) leaveSlots(execution *engine.Execution, reason error) error {
	if !hasEnded(reason) || maxCustomer(execution) == 0 && maxRecipe(execution) == 0 {
		return nil
	}
	return s.slots.Release(s.execution)
}

func hasEnded(reason error) bool {
	var moved *journal.MovedError
	return reason == nil || errors.Is(reason, errEnded) || errors.As(reason, &moved) && moved.Last.Kind == event.Completed
}
