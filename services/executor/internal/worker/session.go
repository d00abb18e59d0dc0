package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/executor/internal/engine"
)

// session is one worker's turn at an execution. It is the engine's Journal.
type session struct {
	*processor
	given
	held func() error
	// turn counts the workers that had the execution, as its checkpoint does.
	turn int
	// expect is the sequence of the execution's last event, as far as this worker knows.
	expect uint64
	// damage is why what is stored of the execution cannot be read. It fails then, for it was paid for.
	damage error
}

// errElsewhere says that the execution goes on by another message, or waits for one.
var errElsewhere = errors.New("the execution is not this message's")

// replyTime bounds what is done for those who wait for the end.
const replyTime = 5 * time.Second

// patience is how long an unreachable journal is waited for.
const patience = time.Minute

// Start implements engine.Journal. An execution that was taken over was started then.
func (s *session) Start(ctx context.Context, checkpoint []byte) error {
	if s.expect != s.record.Sequence {
		return nil
	}
	return s.start(ctx, checkpoint)
}

func (s *session) start(ctx context.Context, checkpoint []byte) error {
	return s.append(ctx, event.Started, strconv.Itoa(s.turn), s.progressHeader(), checkpoint)
}

// Checkpoint implements engine.Journal.
func (s *session) Checkpoint(ctx context.Context, number int, checkpoint []byte) error {
	return s.append(ctx, event.Step, strconv.Itoa(number), s.progressHeader(), checkpoint)
}

// Park implements engine.Journal. The call comes first: an execution that waits and has none would wait for ever, while a call for one that does
// not wait is harmless. What came between the engine's last look and the append found no execution that waits, so it is looked for once more.
func (s *session) Park(
	ctx context.Context, checkpoint []byte, wake time.Time, news func(ctx context.Context) (bool, error),
) error {
	if err := s.held(); err != nil {
		return err // the call that there is belongs to whoever has the execution now
	}
	never := func(error) bool { return false }
	call := func() error { return s.delays.Delay(ctx, s.execution.Delay(), s.execution.Due(), wake) }
	if err := insist(ctx, call, never); err != nil {
		return err
	}
	if err := s.append(ctx, event.Waiting, strconv.Itoa(s.turn), s.progressHeader(), checkpoint); err != nil {
		return err
	}
	return insist(ctx, func() error {
		came, err := news(ctx)
		if err == nil && (came || !s.clock().Before(wake)) {
			err = s.delays.Due(ctx, s.execution.Due())
		}
		return err
	}, never)
}

// Hold implements engine.Journal.
func (s *session) Hold() error {
	return s.held()
}

// takeOver fences the worker that had the execution before, wherever it is now, and gives the checkpoint to go on from. It tries
// until no other append comes in between: each of those brings the execution nearer to its end.
//
// An execution that waits belongs to whoever is called to wake it up. Any other one belongs to the message by which its worker got it:
// that same message, delivered again, finds it where a worker that is gone has left it.
func (s *session) takeOver(ctx context.Context, execution *engine.Execution) (event.Checkpoint, error) {
	last, err := s.last(ctx)
	if err != nil {
		return event.Checkpoint{}, err
	}
	for last.Kind != event.Completed {
		checkpoint := s.resume(execution, &last)
		switch {
		case last.Kind == event.Waiting && s.call == 0:
			return checkpoint, s.wake(ctx)
		case last.Kind != event.Waiting && checkpoint.Owner != s.call:
			return checkpoint, errElsewhere
		}
		checkpoint.Owner, s.turn = s.call, checkpoint.Delivery
		data, err := json.Marshal(&checkpoint)
		if err != nil {
			return checkpoint, fmt.Errorf("encode checkpoint: %w", err)
		}
		s.expect = last.Sequence
		err = s.start(ctx, data)
		var moved *journal.MovedError
		if !errors.As(err, &moved) || moved.Last.Sequence == 0 {
			return checkpoint, err
		}
		last = moved.Last
	}
	return event.Checkpoint{}, &journal.MovedError{ID: s.record.ID(), Last: last}
}

// wake calls for an execution whose worker parked it and may have died before it looked for news.
func (s *session) wake(ctx context.Context) error {
	if err := s.delays.Due(ctx, s.execution.Due()); err != nil {
		return err
	}
	return errElsewhere
}

// find reads the funded event that a wake-up call does not bring.
func (s *session) find(ctx context.Context) error {
	if s.call == 0 {
		return nil
	}
	return insist(ctx, func() (err error) {
		s.record, err = s.journal.Funded(ctx, s.execution)
		return err
	}, func(err error) bool { return errors.Is(err, journal.ErrNotFound) })
}

// resume reads the checkpoint of the last event; funded has none.
func (s *session) resume(execution *engine.Execution, last *journal.Record) event.Checkpoint {
	checkpoint := s.engine.Begin(execution)
	switch stored, found, err := last.Checkpoint(); {
	case err != nil:
		s.damage = err
	case found:
		checkpoint = stored
	}
	checkpoint.Delivery++
	return checkpoint
}

// last reads the execution's last event, for as long as that may take.
func (s *session) last(ctx context.Context) (last journal.Record, err error) {
	err = insist(ctx, func() error {
		last, err = s.journal.Last(ctx, s.execution)
		return err
	}, func(err error) bool { return errors.Is(err, journal.ErrNotFound) })
	return last, err
}

// complete ends the execution and tells the caller.
func (s *session) complete(ctx context.Context, completion engine.Completion) error {
	response := &completion.Response
	header := journal.NewHeader()
	header[event.HeaderStatus] = []string{string(response.Status)}
	header[event.HeaderCredits] = []string{strconv.FormatInt(int64(response.Metadata.CreditsConsumed), 10)}
	header[event.HeaderDuration] = []string{strconv.FormatInt(response.Metadata.DurationMS, 10)}
	if len(response.Errors) > 0 {
		header[event.HeaderCode] = []string{string(response.Errors[0].Code)}
	}
	if steps := response.Steps(); steps != "" {
		header[event.HeaderSteps] = []string{steps}
	}
	for _, name := range []string{
		event.HeaderSubject, event.HeaderActor, event.HeaderTraceParent,
	} {
		if values := s.record.Header[name]; len(values) > 0 {
			header[name] = values
		}
	}
	if err := s.append(ctx, event.Completed, "", header, completion.Data); err != nil {
		return err
	}
	s.reply(ctx, header, completion.Data)
	return nil
}

func (s *session) progressHeader() nats.Header {
	header := journal.NewHeader()
	if values := s.record.Header[event.HeaderTraceParent]; len(values) > 0 {
		header[event.HeaderTraceParent] = values
	}
	return header
}

// append adds an event after the last one that this worker knows of. It is not cut short by the end of ctx: an outcome that exists should
// become durable. Repeated with the same header it is the same append, so an unknown outcome is safe to repeat.
func (s *session) append(ctx context.Context, kind event.Kind, qualifier string, header nats.Header, data []byte) error {
	entry := journal.Entry{
		Execution: s.execution, Kind: kind, Qualifier: qualifier, Expect: s.expect, Source: query.ServiceExecutor, Time: s.clock(),
		Header: header, Data: data,
	}
	return insist(ctx, func() error {
		result := s.journal.Append(context.WithoutCancel(ctx), entry)[0]
		if result.Err == nil {
			s.expect = result.Sequence
		}
		return result.Err
	}, isMoved)
}

func isMoved(err error) bool {
	var moved *journal.MovedError
	return errors.As(err, &moved)
}

// insist repeats do until it succeeds or fails for good, at least once and for as long as ctx and patience last.
func insist(ctx context.Context, do func() error, final func(error) bool) error {
	err := do()
	if err == nil || final(err) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var backoff lifecycle.Backoff
	for backoff.Wait(ctx) {
		if err = do(); err == nil || final(err) {
			return err
		}
	}
	return err
}
