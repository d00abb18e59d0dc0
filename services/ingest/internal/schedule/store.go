package schedule

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

// MaxPerCustomer is how many schedules a customer may have.
const MaxPerCustomer = 1000

// lockChanges is the first half of the advisory lock under which a customer's schedules are changed; the second is a hash of the customer.
const lockChanges = 7321

// Checker tells whether a command would be accepted now.
type Checker interface {
	Check(ctx context.Context, command accept.Command) error
}

// Store keeps schedules and records what people do to them. Errors that a caller may see are *problem.Error, or unwrap to one.
type Store struct{ StoreDeps }

// StoreDeps is what a Store is given.
type StoreDeps struct {
	// Pool acts as the role galley_ingest_reader.
	Pool    *pgxpool.Pool
	Bus     *bus.Bus
	Outbox  *outbox.Outbox
	Checker Checker
	Clock   clock.Clock
}

// NewStore makes a Store.
func NewStore(deps StoreDeps) *Store {
	return &Store{StoreDeps: deps}
}

// Create makes a schedule. One that exists is a CONFLICT, and so is one too many.
func (s *Store) Create(ctx context.Context, customer, id string, plan Plan, author catalogue.Author) (Schedule, error) {
	plan.complete()
	if !subject.ValidID(id) {
		return Schedule{}, violation("/schedule_id", subject.ErrInvalidID.Error())
	}
	if err := s.check(ctx, customer, &plan); err != nil {
		return Schedule{}, err
	}
	now := s.Clock()
	made := stored{Schedule: Schedule{ScheduleID: id, CustomerID: customer, Plan: plan, CreatedAt: now, UpdatedAt: now}}
	var err error
	if made.NextAt, err = plan.next(now); err != nil {
		return Schedule{}, err
	}
	if made.NextAt == nil {
		return Schedule{}, errPast()
	}
	err = s.transact(ctx, customer, func(tx pgx.Tx, schedules bucket) error {
		others, err := schedules.list(ctx, subject.ScheduleKey(customer, "*"))
		if err != nil {
			return err
		}
		if len(others) >= MaxPerCustomer {
			return &problem.Error{Code: problem.Conflict, Message: fmt.Sprintf("there are %d schedules, which is the limit", len(others))}
		}
		done := action{customer, id, event.ActionScheduleCreated, author}
		err = s.recorded(ctx, tx, done, nil, &made, func() error { return schedules.put(ctx, &made) })
		if !errors.Is(err, errMoved) {
			return err
		}
		return &problem.Error{Code: problem.Conflict, Message: fmt.Sprintf("schedule %q exists already", id)}
	})
	if err != nil {
		return Schedule{}, err
	}
	s.arm(ctx, &made)
	return made.Schedule, nil
}

// Change replaces the plan. Where the times are still the same, those that are due stay due.
func (s *Store) Change(ctx context.Context, customer, id string, plan Plan, author catalogue.Author) (Schedule, error) {
	plan.complete()
	if err := s.check(ctx, customer, &plan); err != nil {
		return Schedule{}, err
	}
	return s.change(ctx, action{customer, id, event.ActionScheduleChanged, author}, func(current *stored, now time.Time) (bool, error) {
		same := current.sameTimes(&plan)
		if !same && plan.At != nil && !plan.At.After(now) {
			return false, errPast()
		}
		current.Plan = plan
		if same || current.Paused {
			return true, nil
		}
		var err error
		current.NextAt, err = plan.next(now)
		return true, err
	})
}

// Pause keeps a schedule from starting anything; nothing changes when it is paused.
func (s *Store) Pause(ctx context.Context, customer, id string, author catalogue.Author) (Schedule, error) {
	return s.change(ctx, action{customer, id, event.ActionSchedulePaused, author}, func(current *stored, _ time.Time) (bool, error) {
		changes := !current.Paused
		current.Paused, current.NextAt = true, nil
		return changes, nil
	})
}

// Resume lets a paused schedule go on with the next time from now. Times that went by meanwhile were not missed.
func (s *Store) Resume(ctx context.Context, customer, id string, author catalogue.Author) (Schedule, error) {
	return s.change(ctx, action{customer, id, event.ActionScheduleResumed, author}, func(current *stored, now time.Time) (changes bool, err error) {
		if !current.Paused {
			return false, nil
		}
		current.Paused = false
		current.NextAt, err = current.next(now)
		return true, err
	})
}

// Delete removes a schedule. Executions that it started go on.
func (s *Store) Delete(ctx context.Context, customer, id string, author catalogue.Author) error {
	gone := stored{Schedule: Schedule{CustomerID: customer, ScheduleID: id}}
	done := action{customer, id, event.ActionScheduleDeleted, author}
	err := s.transact(ctx, customer, func(tx pgx.Tx, schedules bucket) error {
		_, err := settled(ctx, schedules, customer, id, func(current *stored) error {
			return s.recorded(ctx, tx, done, current, nil, func() error { return schedules.remove(ctx, current) })
		})
		return err
	})
	if err == nil {
		s.arm(ctx, &gone)
	}
	return err
}

// Get finds a schedule.
func (s *Store) Get(ctx context.Context, customer, id string) (Schedule, error) {
	schedules, err := openBucket(ctx, s.Bus.JS)
	if err != nil {
		return Schedule{}, failure(err)
	}
	found, known, err := schedules.get(ctx, customer, id)
	if err != nil {
		return Schedule{}, failure(err)
	}
	if !known {
		return Schedule{}, unknown(id)
	}
	return found.Schedule, nil
}

// List gives all schedules of a customer, by id, without their inputs.
func (s *Store) List(ctx context.Context, customer string) ([]Schedule, error) {
	schedules, err := openBucket(ctx, s.Bus.JS)
	if err != nil {
		return nil, failure(err)
	}
	found, err := schedules.list(ctx, subject.ScheduleKey(customer, "*"))
	if err != nil {
		return nil, failure(err)
	}
	list := make([]Schedule, len(found))
	for i := range found {
		list[i] = found[i].Schedule
		list[i].Input = nil
	}
	return list, nil
}

// check asks whether the plan is sound and its start would be accepted now.
func (s *Store) check(ctx context.Context, customer string, plan *Plan) error {
	if err := plan.validate(); err != nil {
		return err
	}
	return s.Checker.Check(ctx, accept.Command{
		Customer: customer, Agent: plan.AgentID, Recipe: plan.RecipeID, Version: plan.Version, Input: plan.Input,
	})
}

// action is what somebody does to a schedule.
type action struct {
	customer, id string
	// kind is the type of its activity.
	kind   string
	author catalogue.Author
}

// errUnchanged ends a transaction in which there was nothing to do.
var errUnchanged = errors.New("nothing to change")

// change applies a change to a schedule that exists. apply tells whether there is anything to store.
func (s *Store) change(
	ctx context.Context, done action, apply func(current *stored, now time.Time) (changes bool, err error),
) (Schedule, error) {
	var current stored
	err := s.transact(ctx, done.customer, func(tx pgx.Tx, schedules bucket) (err error) {
		current, err = settled(ctx, schedules, done.customer, done.id, func(current *stored) error {
			before, now := *current, s.Clock()
			changes, err := apply(current, now)
			if err != nil {
				return err
			}
			if !changes {
				return errUnchanged
			}
			current.UpdatedAt = now
			return s.recorded(ctx, tx, done, &before, current, func() error { return schedules.put(ctx, current) })
		})
		return err
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return Schedule{}, err
	}
	s.arm(ctx, &current)
	return current.Schedule, nil
}

// settled reads a schedule and does something to it, again when it was changed in between: by a start, which is soon over.
func settled(ctx context.Context, schedules bucket, customer, id string, do func(current *stored) error) (stored, error) {
	for {
		current, known, err := schedules.get(ctx, customer, id)
		if err != nil {
			return stored{}, err
		}
		if !known {
			return stored{}, unknown(id)
		}
		if err := do(&current); !errors.Is(err, errMoved) {
			return current, err
		}
	}
}

// transact has something done with a customer's schedules. The bucket is written last, so what is refused leaves no activity. Only a commit
// that fails leaves a change without one, and its author with UNAVAILABLE.
func (s *Store) transact(ctx context.Context, customer string, do func(tx pgx.Tx, schedules bucket) error) error {
	err := postgres.Transact(ctx, s.Pool, customer, func(tx pgx.Tx) error {
		// One change of a customer's schedules at a time, so that their number is exact.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1, hashtext($2))`, lockChanges, customer); err != nil {
			return fmt.Errorf("lock schedules: %w", err)
		}
		schedules, err := openBucket(ctx, s.Bus.JS)
		if err != nil {
			return err
		}
		return do(tx, schedules)
	})
	if errors.Is(err, errUnchanged) {
		return err
	}
	if err != nil {
		return failure(err)
	}
	s.Outbox.Wake()
	return nil
}

// recorded stores the activity of a change and then the change itself, or neither: a change that comes too late is tried again. before is nil
// for a schedule that is made, after for one that is removed.
func (s *Store) recorded(ctx context.Context, tx pgx.Tx, done action, before, after *stored, write func() error) error {
	entry := activity.Entry{
		Customer: done.customer, Action: done.kind, ResourceID: done.id, Author: done.author, Secret: []string{"input_data"},
	}
	if before != nil {
		entry.Before = told{before.Plan, before.Paused, before.NextAt}
	}
	if after != nil {
		entry.After = told{after.Plan, after.Paused, after.NextAt}
	}
	return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		if err := activity.Store(ctx, tx, s.Outbox, s.Clock(), &entry); err != nil {
			return err
		}
		return write()
	})
}

// told is what the activity of a change tells of a schedule. The input is the customer's to change and to remove: the log has the names in
// it only.
type told struct {
	Plan
	Paused bool       `json:"paused"`
	NextAt *time.Time `json:"next_at,omitempty"`
}

// arm sets or removes the delay. The starter's sweep makes up for a failure.
func (s *Store) arm(ctx context.Context, current *stored) {
	_ = arm(ctx, s.Bus, current)
}

func arm(ctx context.Context, messages *bus.Bus, current *stored) error {
	delay, due := subject.ScheduleDelay(current.CustomerID, current.ScheduleID), subject.ScheduleDue(current.CustomerID, current.ScheduleID)
	if current.NextAt == nil {
		return messages.Undelay(ctx, delay)
	}
	return messages.Delay(ctx, delay, due, *current.NextAt)
}

func unknown(id string) error {
	return &problem.Error{Code: problem.NotFound, Message: fmt.Sprintf("there is no schedule %q", id)}
}

func errPast() error { return violation("/at", "must be in the future") }

func violation(path, message string) error {
	return &catalogue.InvalidError{Violations: []problem.Violation{{Path: path, Message: message}}}
}

// failure makes err one that a caller may see.
func failure(err error) error {
	return problem.Public(err, "the schedules cannot be reached at the moment")
}
