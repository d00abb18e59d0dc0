// Package inspect checks a whole installation after the fact: it reads every execution's journal, the database of every service
// and what the callers saw, and says where they contradict one another or a rule.
package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/tests/internal/contract"
)

// Event is a journal event as any subscriber sees it.
type Event struct {
	Sequence uint64
	Kind     event.Kind
	Stored   time.Time
	Header   nats.Header
	Data     []byte
}

// credits is the amount in the header.
func (e *Event) credits() (int64, error) {
	return strconv.ParseInt(e.Header.Get(event.HeaderCredits), 10, 64)
}

// Execution is the journal of one execution.
type Execution struct {
	subject.Execution
	Events []Event
}

// Last gives the last event of a kind, nil when there is none.
func (e *Execution) Last(kind event.Kind) *Event {
	for i := len(e.Events) - 1; i >= 0; i-- {
		if e.Events[i].Kind == kind {
			return &e.Events[i]
		}
	}
	return nil
}

// TakenOver tells whether another worker went on with the execution, other than after a wait.
func (e *Execution) TakenOver() bool {
	for i := range e.Events {
		if e.Events[i].Kind != event.Started || i == 0 || e.Events[i-1].Kind == event.Waiting {
			continue
		}
		var checkpoint event.Checkpoint
		if err := json.Unmarshal(e.Events[i].Data, &checkpoint); err == nil && checkpoint.Delivery > 1 {
			return true
		}
	}
	return false
}

// String lists the events, one a line, for a person who looks for the cause of a violation.
func (e *Execution) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "execution %s of %s\n", e.ID, e.Customer)
	for _, each := range e.Events {
		fmt.Fprintf(&text, "  %8d %s %-9s %s %s\n", each.Sequence, each.Stored.Format("15:04:05.000000"), each.Kind,
			each.Header.Get(event.HeaderID), shorten(each.Data))
	}
	return text.String()
}

func shorten(data []byte) string {
	const limit = 600
	if len(data) <= limit {
		return string(data)
	}
	return string(data[:limit]) + "…"
}

// Journal is every execution's journal, by execution id.
type Journal map[string]*Execution

const pullTimeout = 5 * time.Second

// Reader reads the whole stream EXECUTIONS again and again, each time only what is new.
type Reader struct {
	js      jetstream.JetStream
	journal Journal
	last    uint64
}

// NewReader makes a Reader that has read nothing yet.
func NewReader(js jetstream.JetStream) *Reader {
	return &Reader{js: js, journal: Journal{}}
}

// Read reads the stream as it is when the call begins. The next call goes on with the same journal.
func (r *Reader) Read(ctx context.Context) (Journal, error) {
	stream, err := r.js.Stream(ctx, subject.StreamExecutions)
	if err != nil {
		return nil, fmt.Errorf("look up the journal: %w", err)
	}
	// Nothing is ever deleted there, so the sequences have no gaps.
	count := stream.CachedInfo().State.LastSeq - r.last
	r.last, err = r.journal.read(ctx, stream, subject.AllExecutions, r.last, count)
	return r.journal, err
}

// ReadJournal reads the whole stream EXECUTIONS once.
func ReadJournal(ctx context.Context, js jetstream.JetStream) (Journal, error) {
	return NewReader(js).Read(ctx)
}

// ReadExecution reads the journal of one execution; it is nil when there is none.
func ReadExecution(ctx context.Context, js jetstream.JetStream, execution subject.Execution) (*Execution, error) {
	stream, err := js.Stream(ctx, subject.StreamExecutions)
	if err != nil {
		return nil, fmt.Errorf("look up the journal: %w", err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(execution.All()))
	if err != nil {
		return nil, fmt.Errorf("look up the execution: %w", err)
	}
	count := uint64(0)
	for _, messages := range info.State.Subjects {
		count += messages
	}
	journal := Journal{}
	if _, err := journal.read(ctx, stream, execution.All(), 0, count); err != nil {
		return nil, err
	}
	return journal[execution.ID], nil
}

// read adds the first count messages of a filter after a sequence, and gives the sequence of the last one that it has added.
func (j Journal) read(ctx context.Context, stream jetstream.Stream, filter string, after, count uint64) (last uint64, err error) {
	last = after
	if count == 0 {
		return last, nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{filter}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
	})
	if err != nil {
		return last, fmt.Errorf("read the journal: %w", err)
	}
	for rest := count; rest > 0; {
		batch, err := consumer.Fetch(int(min(1000, rest)), jetstream.FetchMaxWait(pullTimeout))
		if err != nil {
			return last, fmt.Errorf("read the journal: %w", err)
		}
		before := rest
		for message := range batch.Messages() {
			if last, err = j.add(message, last); err != nil {
				return last, err
			}
			rest--
		}
		if rest == before {
			return last, fmt.Errorf("read the journal: %d of %d events are missing: %w", rest, count, errors.Join(batch.Error(), ctx.Err()))
		}
	}
	return last, nil
}

// add adds a message and gives its sequence; on an error, the one of before.
func (j Journal) add(message jetstream.Msg, before uint64) (sequence uint64, err error) {
	meta, err := message.Metadata()
	if err != nil {
		return before, fmt.Errorf("read the journal: %w", err)
	}
	name, kind, _, err := subject.ParseExecution(message.Subject())
	if err != nil {
		return before, fmt.Errorf("read the journal: %w", err)
	}
	execution, found := j[name.ID]
	if !found {
		execution = &Execution{Execution: name}
		j[name.ID] = execution
	}
	execution.Events = append(execution.Events, Event{
		Sequence: meta.Sequence.Stream, Kind: event.Kind(kind), Stored: meta.Timestamp, Header: message.Headers(), Data: message.Data(),
	})
	return meta.Sequence.Stream, nil
}

// Check says where a journal breaks the rules of the contract: exactly one accepted and completed, at most one debit, checkpoints
// that only go forward, and no charge above the debit.
func (e *Execution) Check(rules *contract.Contract) []error {
	var problems []error
	report := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	counts := map[event.Kind]int{}
	ids := map[string]bool{}
	for i := range e.Events {
		each := &e.Events[i]
		if each.waitsForCredits() {
			if i != 1 {
				report("event %d waits for credits, and is not the second", each.Sequence)
			}
			counts[event.Waiting]--
		}
		counts[each.Kind]++
		id := each.Header.Get(event.HeaderID)
		if ids[id] {
			report("event %s is there twice", id)
		}
		ids[id] = true
		if err := rules.Check(each.Header, each.Data); err != nil {
			report("event %d breaks the contract: %w", each.Sequence, err)
		}
	}
	if e.Events[0].Kind != event.Accepted || counts[event.Accepted] != 1 {
		report("%d accepted events, the first event is %s", counts[event.Accepted], e.Events[0].Kind)
	}
	if last := e.Events[len(e.Events)-1].Kind; last != event.Completed || counts[event.Completed] != 1 {
		report("%d completed events, the last event is %s", counts[event.Completed], last)
	}
	if counts[event.Funded] > 1 {
		report("funded %d times", counts[event.Funded])
	}
	if counts[event.Funded] == 0 && counts[event.Started]+counts[event.Step]+counts[event.Waiting] > 0 {
		report("steps without a debit")
	}
	return append(problems, append(e.checkProgress(), e.checkCharge()...)...)
}

func (e *Event) waitsForCredits() bool {
	return e.Kind == event.Waiting && strings.HasSuffix(e.Header.Get(event.HeaderID), "/"+event.WaitingForCredits)
}

// WaitedForCredits tells whether the execution had to wait for credits.
func (e *Execution) WaitedForCredits() bool {
	return len(e.Events) > 1 && e.Events[1].waitsForCredits()
}

// checkProgress sees to it that no checkpoint knows less than one before it, and that whoever waits says for what.
func (e *Execution) checkProgress() []error {
	var problems []error
	var before event.Checkpoint
	finished := map[string]bool{}
	for i := range e.Events {
		each := &e.Events[i]
		if !each.Kind.HasCheckpoint() {
			continue
		}
		var checkpoint event.Checkpoint
		if err := json.Unmarshal(each.Data, &checkpoint); err != nil {
			problems = append(problems, fmt.Errorf("event %d: %w", each.Sequence, err))
			continue
		}
		now := Finished(&checkpoint)
		if checkpoint.Checkpoints < before.Checkpoints || checkpoint.Delivery < before.Delivery {
			problems = append(problems, fmt.Errorf("event %d goes back: checkpoint %d of delivery %d after checkpoint %d of delivery %d",
				each.Sequence, checkpoint.Checkpoints, checkpoint.Delivery, before.Checkpoints, before.Delivery))
		}
		for name := range finished {
			if !now[name] {
				problems = append(problems, fmt.Errorf("event %d goes back: %s was done before", each.Sequence, name))
			}
		}
		if each.Kind == event.Waiting && len(checkpoint.Waits) == 0 {
			problems = append(problems, fmt.Errorf("event %d waits for nothing", each.Sequence))
		}
		finished, before = now, checkpoint
	}
	return problems
}

// Finished names the steps and items whose outcome a checkpoint holds, as idempotency keys do: "<step>" and "<step>/<item>".
func Finished(checkpoint *event.Checkpoint) map[string]bool {
	finished := map[string]bool{}
	for i := range checkpoint.Steps {
		outcome := &checkpoint.Steps[i]
		if outcome.Status != event.StepRunning {
			finished[outcome.ID] = true
		}
		for j := range outcome.Items {
			finished[outcome.ID+"/"+strconv.Itoa(outcome.Items[j].Index)] = true
		}
	}
	return finished
}

func (e *Execution) checkCharge() []error {
	completed := e.Last(event.Completed)
	if completed == nil {
		return nil
	}
	charged, err := completed.credits()
	if err != nil {
		return []error{err}
	}
	debited := int64(0)
	if funded := e.Last(event.Funded); funded != nil {
		if debited, err = funded.credits(); err != nil {
			return []error{err}
		}
	}
	var problems []error
	if charged < 0 || charged > debited {
		problems = append(problems, fmt.Errorf("charged %d of %d debited", charged, debited))
	}
	var response event.Response
	if err := json.Unmarshal(completed.Data, &response); err != nil {
		return append(problems, err)
	}
	if int64(response.Metadata.CreditsConsumed) != charged || string(response.Status) != completed.Header.Get(event.HeaderStatus) {
		problems = append(problems, fmt.Errorf("the response says %s, %v credits; its headers say %s, %d micro-credits",
			response.Status, response.Metadata.CreditsConsumed, completed.Header.Get(event.HeaderStatus), charged))
	}
	return problems
}
