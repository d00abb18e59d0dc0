package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
)

const (
	// movedDelay is the pause after somebody else changed a schedule.
	movedDelay = 50 * time.Millisecond
	// overdue is how long after its time the sweep helps a start along.
	overdue = 5 * time.Second
)

// Acceptor accepts commands.
type Acceptor interface {
	Accept(ctx context.Context, commands []accept.Command) []accept.Accepted
}

// Starter starts what is due. Any number of processes may do so at the same time.
type Starter struct{ StarterDeps }

// StarterDeps is what a Starter is given.
type StarterDeps struct {
	Bus      *bus.Bus
	Acceptor Acceptor
	Journal  *journal.Journal
	// AckWait is after how long a message that is due is given to another process.
	AckWait time.Duration
	Clock   clock.Clock
}

// NewStarter makes a Starter.
func NewStarter(deps StarterDeps) *Starter {
	return &Starter{StarterDeps: deps}
}

// Run starts what is due until ctx ends.
func (s *Starter) Run(ctx context.Context) error {
	return bus.Calls{
		Durable: "schedules", Filter: subject.AllDueSchedules, AckWait: s.AckWait, Look: s.look, Sweep: s.Sweep,
	}.Answer(ctx, s.Bus)
}

func (s *Starter) look(ctx context.Context, message jetstream.Msg) (wait time.Duration, err error) {
	customer, id, err := subject.ParseScheduleDue(message.Subject())
	if err != nil {
		return 0, fmt.Errorf("%w: %w", bus.ErrUnreadable, err)
	}
	wait, err = s.start(ctx, message, customer, id)
	if errors.Is(err, errMoved) {
		return movedDelay, nil
	}
	return wait, err
}

// start does everything that is due of a schedule and sets its delay. It returns how long the message has to wait where this process
// thinks that the server's clock is fast.
func (s *Starter) start(ctx context.Context, message jetstream.Msg, customer, id string) (wait time.Duration, err error) {
	schedules, err := openBucket(ctx, s.Bus.JS)
	if err != nil {
		return 0, err
	}
	current, known, err := schedules.get(ctx, customer, id)
	if err != nil || !known {
		return 0, err
	}
	now := s.Clock()
	if len(current.Starting) == 0 {
		if current.NextAt == nil {
			return 0, nil
		}
		if current.NextAt.After(now) {
			if early := bus.Early(*current.NextAt, now); early > 0 {
				return early, nil
			}
			return 0, arm(ctx, s.Bus, &current)
		}
		current.Starting, err = current.pass(now, func() (bool, error) { return s.ongoing(ctx, &current) })
		if err != nil {
			return 0, err
		}
		if err := schedules.put(ctx, &current); err != nil {
			return 0, err
		}
	}
	if len(current.Starting) > 0 {
		if err := s.launch(ctx, message, &current); err != nil {
			return 0, err
		}
		if err := schedules.put(ctx, &current); err != nil {
			return 0, err
		}
	}
	if current.NextAt == nil {
		return 0, nil
	}
	return 0, arm(ctx, s.Bus, &current)
}

// ongoing tells whether the schedule's previous execution goes on. One that the journal does not hold any more has ended.
func (s *Starter) ongoing(ctx context.Context, current *stored) (bool, error) {
	if current.LastExecutionID == "" {
		return false, nil
	}
	last, err := s.Journal.Last(ctx, subject.Execution{Customer: current.CustomerID, ID: current.LastExecutionID})
	if errors.Is(err, journal.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return last.Kind != event.Completed, nil
}

// launch starts the times that were decided on, the oldest first, and enters the last one into the schedule. A start that is refused is
// reported and over.
func (s *Starter) launch(ctx context.Context, message jetstream.Msg, current *stored) error {
	for i, at := range current.Starting {
		command := current.command(at)
		accepted := s.Acceptor.Accept(ctx, []accept.Command{command})[0]
		refused, isRefusal := errors.AsType[*problem.Error](accepted.Err)
		switch {
		case accepted.Err == nil, isRefusal && refused.Code == problem.Conflict:
			// A conflict: the time was started before its schedule was changed.
			current.LastFiredAt, current.LastExecutionID = &current.Starting[i], accepted.Execution.ID
		case isRefusal && !refused.Retryable:
			if err := s.reject(ctx, message, current, at, accepted.Err); err != nil {
				return err
			}
		default:
			return accepted.Err
		}
	}
	current.Starting = nil
	return nil
}

// reject reports a refused start.
func (s *Starter) reject(ctx context.Context, message jetstream.Msg, current *stored, at time.Time, cause error) error {
	meta, err := message.Metadata()
	if err != nil {
		return fmt.Errorf("read metadata: %w", err)
	}
	now := s.Clock()
	body := event.Rejection{
		CustomerID: current.CustomerID, Subject: message.Subject(), MessageID: current.ScheduleID + "/" + at.UTC().Format(time.RFC3339),
		Sequence: meta.Sequence.Stream, Code: problem.InvalidRequest, Message: cause.Error(), RejectedAt: now,
	}
	if refused, ok := errors.AsType[*problem.Error](cause); ok {
		body.Code, body.Message = refused.Code, refused.Message
	}
	if invalid, ok := errors.AsType[*accept.InvalidInput](cause); ok {
		body.Violations = invalid.Violations
	}
	out := nats.NewMsg(subject.RunRejected(current.CustomerID))
	if out.Data, err = json.Marshal(body); err != nil {
		return fmt.Errorf("encode rejection: %w", err)
	}
	eventID := current.CustomerID + "/" + current.occasion(at) + "/rejected"
	for name, value := range map[string]string{
		event.HeaderSpecVersion: "1.0", event.HeaderID: eventID, event.HeaderType: event.TypeRunRejected,
		event.HeaderSource: "/galley/ingest", event.HeaderTime: now.Format(time.RFC3339Nano),
		event.HeaderActor: current.actor().String(), jetstream.MsgIDHeader: eventID,
	} {
		out.Header.Set(name, value)
	}
	if _, err := s.Bus.JS.PublishMsg(ctx, out); err != nil {
		return fmt.Errorf("report refused start: %w", err)
	}
	return nil
}

// Sweep makes up for what was lost between the bucket and the delays. It looks at every schedule once: what is overdue is made due, what has no delay gets one.
func (s *Starter) Sweep(ctx context.Context) error {
	schedules, err := openBucket(ctx, s.Bus.JS)
	if err != nil {
		return err
	}
	all, err := schedules.list(ctx, ">")
	if err != nil || len(all) == 0 {
		return err
	}
	delays, err := s.Bus.JS.Stream(ctx, subject.StreamDelays)
	if err != nil {
		return fmt.Errorf("look up delays: %w", err)
	}
	info, err := delays.Info(ctx, jetstream.WithSubjectFilter(subject.ScheduleDelay("*", "*")))
	if err != nil {
		return fmt.Errorf("list delays: %w", err)
	}
	late := s.Clock().Add(-overdue)
	for i := range all {
		current := &all[i]
		_, delayed := info.State.Subjects[subject.ScheduleDelay(current.CustomerID, current.ScheduleID)]
		switch {
		case len(current.Starting) > 0, current.NextAt != nil && current.NextAt.Before(late):
			err = s.Bus.Due(ctx, subject.ScheduleDue(current.CustomerID, current.ScheduleID))
		case current.NextAt != nil && !delayed:
			err = arm(ctx, s.Bus, current)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
