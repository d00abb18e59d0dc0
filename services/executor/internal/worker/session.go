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
	delivery
	// expect is the sequence of the execution's last event, as far as this worker knows.
	expect uint64
	// damage is why what is stored of the execution cannot be read. It fails then, for it was paid for.
	damage error
}

// patience is how long an unreachable journal is waited for.
const patience = time.Minute

// Start implements engine.Journal. An execution that was taken over was started then.
func (s *session) Start(ctx context.Context, checkpoint []byte) error {
	if s.expect != s.record.Sequence {
		return nil
	}
	return s.start(ctx, 1, checkpoint)
}

func (s *session) start(ctx context.Context, turn int, checkpoint []byte) error {
	return s.append(ctx, event.Started, strconv.Itoa(turn), s.progressHeader(), checkpoint)
}

// Checkpoint implements engine.Journal.
func (s *session) Checkpoint(ctx context.Context, step int, checkpoint []byte) error {
	return s.append(ctx, event.Step, strconv.Itoa(step), s.progressHeader(), checkpoint)
}

// Hold implements engine.Journal.
func (s *session) Hold() error {
	return s.held()
}

// takeOver fences the worker that had the execution before, wherever it is now, and gives the checkpoint to go on from. It tries
// until no other append comes in between: each of those brings the execution nearer to its end.
func (s *session) takeOver(ctx context.Context) (event.Checkpoint, error) {
	last, err := s.last(ctx)
	if err != nil {
		return event.Checkpoint{}, err
	}
	for last.Kind != event.Completed {
		checkpoint := s.resume(&last)
		data, err := json.Marshal(&checkpoint)
		if err != nil {
			return checkpoint, fmt.Errorf("encode checkpoint: %w", err)
		}
		s.expect = last.Sequence
		err = s.start(ctx, checkpoint.Delivery, data)
		var moved *journal.MovedError
		if !errors.As(err, &moved) || moved.Last.Sequence == 0 {
			return checkpoint, err
		}
		last = moved.Last
	}
	return event.Checkpoint{}, &journal.MovedError{ID: s.record.ID(), Last: last}
}

// resume reads the checkpoint of the last event; funded has none.
func (s *session) resume(last *journal.Record) event.Checkpoint {
	checkpoint := s.engine.Begin(s.record.Execution.ID)
	if last.Kind != event.Funded {
		var found event.Checkpoint
		if err := json.Unmarshal(last.Data, &found); err != nil {
			s.damage = fmt.Errorf("decode the checkpoint of %s: %w", last.ID(), err)
		} else {
			checkpoint = found
		}
	}
	checkpoint.Delivery++
	return checkpoint
}

// last reads the execution's last event, for as long as that may take.
func (s *session) last(ctx context.Context) (last journal.Record, err error) {
	err = insist(ctx, func() error {
		last, err = s.journal.Last(ctx, s.record.Execution)
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
	s.reply(header, completion.Data)
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
		Execution: s.record.Execution, Kind: kind, Qualifier: qualifier, Expect: s.expect, Source: query.ServiceExecutor, Time: s.clock(),
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
