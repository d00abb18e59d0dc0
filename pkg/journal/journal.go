// Package journal keeps the ordered log of each execution in the stream EXECUTIONS.
//
// All writes go through [Journal.Append], which holds these rules:
//
//   - Every append names the sequence of the execution's last event (0: none), guarded by the one wildcard over the execution's
//     subjects. There is no unguarded write. Normally the sequence is that of the message being handled, so nothing is read.
//   - When the server reports a conflict (10071, 10164), or says nothing, the last event is read through the stream's leader. If it carries the
//     mark of this very append, the append had succeeded. If the execution stands where the append expected it, the append is
//     tried again, with its guard. Otherwise somebody else moved the execution on: [MovedError].
//   - An event's id is deterministic ("<execution>/funded", "<execution>/step/3"), so a replay is recognised at any distance
//     in time; the mark (header galley-append) tells two workers apart that write the same id.
//   - Nothing follows completed.
//
// A caller acknowledges the message that it consumed only after its effect is committed and the next event is appended.
package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	headerExpected        = "Nats-Expected-Last-Subject-Sequence"
	headerExpectedSubject = "Nats-Expected-Last-Subject-Sequence-Subject"

	// ownHeaders is how many headers Append adds.
	ownHeaders = 8

	ackTimeout = 5 * time.Second
	maxTries   = 5
)

// ErrNotFound says that the journal holds no event of the execution: it never was, or its events have expired.
var ErrNotFound = errors.New("no such execution in the journal")

// Entry is an event to append.
type Entry struct {
	Execution subject.Execution
	Kind      event.Kind
	// Qualifier tells events of the same kind apart in the event's id ("3" in "<execution>/step/3") and subject; empty for the
	// milestones, which occur once.
	Qualifier string
	// Expect is the sequence of the execution's last event, 0 when it must not have any.
	Expect uint64
	// Source is the appending service, such as "billing".
	Source string
	Time   time.Time
	// Header, from NewHeader, holds the extension attributes and traceparent; Append adds the rest to this very map, among it the mark
	// of this append: an Entry that is passed again, with the same Header, is the same append. For any other purpose it must not be
	// used again.
	Header nats.Header
	Data   []byte
}

// NewHeader makes an empty header with room for everything that an event has: a map that grows costs more than the rest of an append.
func NewHeader() nats.Header {
	return make(nats.Header, event.MaxHeaders)
}

// ID is the event's deterministic id.
func (e *Entry) ID() string {
	id := e.Execution.ID + "/" + string(e.Kind)
	if e.Qualifier != "" {
		id += "/" + e.Qualifier
	}
	return id
}

// Record is an event of the journal.
type Record struct {
	Execution subject.Execution
	Kind      event.Kind
	Sequence  uint64
	Stored    time.Time
	Header    nats.Header
	Data      []byte
}

// ID is the event's deterministic id.
func (r *Record) ID() string {
	return r.Header.Get(event.HeaderID)
}

// Credits is the amount in the event's header, in micro-credits.
func (r *Record) Credits() (int64, error) {
	amount, err := strconv.ParseInt(r.Header.Get(event.HeaderCredits), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("event %s: header %s: %w", r.ID(), event.HeaderCredits, err)
	}
	return amount, nil
}

// WaitsForCredits tells whether the event says that the execution waits for credits. Like accepted, it is followed by funded or completed.
func (r *Record) WaitsForCredits() bool {
	return r.Kind == event.Waiting && strings.HasSuffix(r.ID(), "/"+event.WaitingForCredits)
}

// Recipe is what the execution runs, from the header that accepted, funded and completed have.
func (r *Record) Recipe() (event.RecipeVersion, error) {
	recipe, err := event.ParseRecipeVersion(r.Header.Get(event.HeaderSubject))
	if err != nil {
		return event.RecipeVersion{}, fmt.Errorf("event %s: header %s: %w", r.ID(), event.HeaderSubject, err)
	}
	return recipe, nil
}

// Checkpoint decodes the resume state that started, step and waiting hold; found is false for the other kinds.
func (r *Record) Checkpoint() (checkpoint event.Checkpoint, found bool, err error) {
	if !r.Kind.HasCheckpoint() {
		return event.Checkpoint{}, false, nil
	}
	if err := json.Unmarshal(r.Data, &checkpoint); err != nil {
		return event.Checkpoint{}, true, fmt.Errorf("decode the checkpoint of %s: %w", r.ID(), err)
	}
	return checkpoint, true, nil
}

// MovedError says that the execution is not where the append expected it. Last is its last event; the zero Record when it has none.
type MovedError struct {
	ID   string
	Last Record
}

// Error names the event that was not appended and the one that stands last.
func (e *MovedError) Error() string {
	return fmt.Sprintf("append %s: the execution moved on to %s (sequence %d)", e.ID, e.Last.ID(), e.Last.Sequence)
}

// Result is what became of one entry: its sequence, or an error. A *MovedError is final; any other error means that it is not
// known whether the event was stored, and the same append may be tried again.
type Result struct {
	Sequence uint64
	Err      error
}

// Journal reads and appends.
type Journal struct {
	conn *nats.Conn
	js   jetstream.JetStream
}

// New makes a Journal over an open connection. The stream itself is provisioned by package bus.
func New(conn *nats.Conn, js jetstream.JetStream) *Journal {
	return &Journal{conn: conn, js: js}
}

// Append adds the entries, each to its own execution, and waits for all of them. Results are in the order of the entries.
func (j *Journal) Append(ctx context.Context, entries ...Entry) []Result {
	results := make([]Result, len(entries))
	futures := make([]jetstream.PubAckFuture, len(entries))
	messages := make([]*nats.Msg, len(entries))
	for i := range entries {
		messages[i] = entries[i].message()
		futures[i], results[i].Err = j.js.PublishMsgAsync(messages[i], jetstream.WithRetryAttempts(0))
	}
	timer := time.NewTimer(ackTimeout)
	defer timer.Stop()
	for i, future := range futures {
		if future != nil {
			results[i] = await(ctx, future, timer.C)
		}
		if results[i].Err != nil {
			results[i] = j.resolve(ctx, &entries[i], messages[i], results[i].Err)
		}
	}
	return results
}

var errNoAck = errors.New("no acknowledgement in time")

func await(ctx context.Context, future jetstream.PubAckFuture, timeout <-chan time.Time) Result {
	select {
	case ack := <-future.Ok():
		return Result{Sequence: ack.Sequence}
	case err := <-future.Err():
		return Result{Err: err}
	case <-timeout:
		return Result{Err: errNoAck}
	case <-ctx.Done():
		return Result{Err: ctx.Err()}
	}
}

// resolve finds out what became of an append that was not acknowledged, and repeats it where that is safe. A leader that was just
// elected may answer from before the expected event: that says nothing yet, so it is asked again.
func (j *Journal) resolve(ctx context.Context, entry *Entry, message *nats.Msg, cause error) Result {
	var backoff lifecycle.Backoff
	for try := 1; ; try++ {
		last, err := j.Last(ctx, entry.Execution)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return Result{Err: fmt.Errorf("append %s: %w (and its outcome cannot be read: %w)", entry.ID(), cause, err)}
		}
		switch {
		case last.Sequence > 0 && last.Header.Get(event.HeaderAppend) == message.Header.Get(event.HeaderAppend):
			return Result{Sequence: last.Sequence}
		case last.Sequence > entry.Expect, last.Sequence == 0 && entry.Expect > 0 && try == maxTries:
			return Result{Err: &MovedError{ID: entry.ID(), Last: last}}
		case try == maxTries || ctx.Err() != nil:
			return Result{Err: fmt.Errorf("append %s: %w", entry.ID(), cause)}
		}
		if last.Sequence == entry.Expect {
			ack, err := j.js.PublishMsg(ctx, message)
			if err == nil {
				return Result{Sequence: ack.Sequence}
			}
			cause = err
		}
		if try > 1 && !backoff.Wait(ctx) {
			return Result{Err: fmt.Errorf("append %s: %w", entry.ID(), cause)}
		}
	}
}

func (e *Entry) message() *nats.Msg {
	header := e.Header
	if header == nil {
		header = NewHeader()
	}
	values := make([]string, 0, ownHeaders)
	set := func(name, value string) {
		values = append(values, value)
		header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	set(event.HeaderSpecVersion, "1.0")
	set(event.HeaderID, e.ID())
	set(event.HeaderType, e.Kind.Type())
	set(event.HeaderSource, "/galley/"+e.Source)
	set(event.HeaderTime, e.Time.UTC().Format(time.RFC3339Nano))
	if header[event.HeaderAppend] == nil {
		set(event.HeaderAppend, nuid.Next())
	}
	set(headerExpected, strconv.FormatUint(e.Expect, 10))
	set(headerExpectedSubject, e.Execution.All())
	return &nats.Msg{Subject: e.Execution.Event(string(e.Kind), e.Qualifier), Header: header, Data: e.Data}
}

// Reply tells those who wait for the execution that it is completed, header and data being those of that event; asked is the header of
// its accepted or funded event, which names them. The caller's inbox gets the response, which is not stored: a caller that misses
// it reads the journal. An execution that runs this one is woken up.
func (j *Journal) Reply(ctx context.Context, asked, header nats.Header, data []byte) error {
	var failures []error
	if parent := asked.Get(event.HeaderParent); parent != "" {
		if _, err := j.js.Publish(ctx, parent, nil); err != nil {
			failures = append(failures, fmt.Errorf("wake %s: %w", parent, err))
		}
	}
	if inbox := asked.Get(event.HeaderReply); inbox != "" {
		failures = append(failures, j.reply(inbox, header, data))
	}
	return errors.Join(failures...)
}

func (j *Journal) reply(inbox string, header nats.Header, data []byte) error {
	reply := &nats.Msg{Subject: inbox, Header: nats.Header{}, Data: data}
	for _, name := range []string{event.HeaderStatus, event.HeaderCode} {
		if value := header.Get(name); value != "" {
			reply.Header[name] = []string{value}
		}
	}
	if err := j.conn.PublishMsg(reply); err != nil {
		return fmt.Errorf("reply to caller: %w", err)
	}
	return nil
}

// Last reads the execution's last event through the stream's leader (a direct get may be served by a follower that lags behind).
func (j *Journal) Last(ctx context.Context, execution subject.Execution) (Record, error) {
	return j.read(ctx, execution, bus.StoredRequest{LastBySubject: execution.All()})
}

// First reads the execution's accepted event, as Last does.
func (j *Journal) First(ctx context.Context, execution subject.Execution) (Record, error) {
	return j.read(ctx, execution, bus.StoredRequest{LastBySubject: execution.Event(string(event.Accepted), "")})
}

// Events reads the execution's events in their order, as Last does, up to the one that stands last when it begins. An error, also that
// there are none or that the first of them have expired, ends it.
func (j *Journal) Events(ctx context.Context, execution subject.Execution) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		last, err := j.Last(ctx, execution)
		var next Record
		if err == nil {
			next, err = j.First(ctx, execution)
		}
		for err == nil {
			if !yield(next, nil) || next.Sequence >= last.Sequence {
				return
			}
			next, err = j.read(ctx, execution, bus.StoredRequest{Sequence: next.Sequence + 1, NextBySubject: execution.All()})
		}
		yield(Record{}, err)
	}
}

// Funded reads the execution's funded event, as Last does.
func (j *Journal) Funded(ctx context.Context, execution subject.Execution) (Record, error) {
	return j.read(ctx, execution, bus.StoredRequest{LastBySubject: execution.Event(string(event.Funded), "")})
}

// Signal reads the event or decision of this name that has come for the execution, if one has, through the leader as well.
func (j *Journal) Signal(
	ctx context.Context, execution subject.Execution, kind subject.SignalKind, name string,
) (data []byte, found bool, err error) {
	key := "$KV." + subject.BucketSignals + "." + execution.SignalKey(kind, name)
	stored, err := bus.Stored(ctx, j.conn, "KV_"+subject.BucketSignals, bus.StoredRequest{LastBySubject: key})
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, false, nil
	case err != nil:
		return nil, false, err
	}
	return stored.Data, true, nil
}

func (j *Journal) read(ctx context.Context, execution subject.Execution, wanted bus.StoredRequest) (Record, error) {
	stored, err := bus.Stored(ctx, j.conn, subject.StreamExecutions, wanted)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		err = ErrNotFound
	}
	if err != nil {
		return Record{}, fmt.Errorf("execution %s: %w", execution.ID, err)
	}
	return record(stored.Subject, stored.Sequence, stored.Time, stored.Header, stored.Data)
}

// Decode reads a delivered message. Deliveries counts how often it was delivered, from 1.
func Decode(message jetstream.Msg) (decoded Record, deliveries int, err error) {
	meta, err := message.Metadata()
	if err != nil {
		return Record{}, 0, fmt.Errorf("read metadata: %w", err)
	}
	decoded, err = record(message.Subject(), meta.Sequence.Stream, meta.Timestamp, message.Headers(), message.Data())
	return decoded, int(meta.NumDelivered), err //nolint:gosec // a delivery count never comes near 2^63
}

func record(name string, sequence uint64, stored time.Time, header nats.Header, data []byte) (Record, error) {
	execution, kind, _, err := subject.ParseExecution(name)
	if err != nil {
		return Record{}, err
	}
	return Record{
		Execution: execution, Kind: event.Kind(kind), Sequence: sequence, Stored: stored.UTC(), Header: header, Data: data,
	}, nil
}
