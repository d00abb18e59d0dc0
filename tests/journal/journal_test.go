// Package journal_test holds the journal to its promises on real servers: one node, and three replicated ones whose leader changes.
package journal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// installation is a server, or several, with the streams of galley.
type installation struct {
	bus     *bus.Bus
	journal *journal.Journal
	// disturb does what an installation may suffer in the middle of an append.
	disturb func()
}

func single(t *testing.T) *installation {
	t.Helper()
	return install(t, testkit.NATS(t).Conn(t), 1, func() {})
}

func replicated(t *testing.T) *installation {
	t.Helper()
	cluster := testkit.Cluster(t, 3)
	return install(t, cluster.Conn(t), 3, func() { cluster.StepDown(t, subject.StreamExecutions) })
}

func install(t *testing.T, conn *nats.Conn, replicas int, disturb func()) *installation {
	t.Helper()
	messages, err := bus.New(conn, bus.Settings{Replicas: replicas, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	require.Eventually(t, func() bool { return messages.Provision(t.Context()) == nil }, 30*time.Second, 100*time.Millisecond)
	return &installation{bus: messages, journal: journal.New(conn, messages.JS), disturb: disturb}
}

func newExecution() subject.Execution {
	return subject.Execution{Customer: "cust_001", ID: uuid.NewString()}
}

func entry(execution subject.Execution, kind event.Kind, qualifier string, expect uint64, data any) journal.Entry {
	encoded, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	return journal.Entry{
		Execution: execution, Kind: kind, Qualifier: qualifier, Expect: expect, Source: "test", Time: time.Unix(0, 0),
		Header: nats.Header{}, Data: encoded,
	}
}

// events reads an execution's whole journal through the leader, again and again until it ends with the event that Last tells of.
func (i *installation) events(t require.TestingT, execution subject.Execution) []string {
	for range 100 {
		ids, err := i.walk(execution)
		if err == nil {
			return ids
		}
		<-time.After(50 * time.Millisecond)
	}
	require.Fail(t, "the journal cannot be read")
	return nil
}

func (i *installation) walk(execution subject.Execution) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	last, err := i.journal.Last(ctx, execution)
	if err != nil {
		return nil, err
	}
	stream, err := i.bus.JS.Stream(ctx, subject.StreamExecutions)
	if err != nil {
		return nil, err
	}
	var ids []string
	for next := uint64(1); next <= last.Sequence; next++ {
		message, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(execution.All()))
		if err != nil {
			return nil, err
		}
		ids = append(ids, strings.TrimPrefix(message.Header.Get(event.HeaderID), execution.ID+"/"))
		next = message.Sequence
	}
	return ids, nil
}

func TestAppendGuardsAndReads(t *testing.T) {
	t.Parallel()
	i := single(t)
	execution := newExecution()
	_, err := i.journal.Last(t.Context(), execution)
	require.ErrorIs(t, err, journal.ErrNotFound)

	accepted := i.journal.Append(t.Context(), entry(execution, event.Accepted, "", 0, "request"))[0]
	require.NoError(t, accepted.Err)
	again := i.journal.Append(t.Context(), entry(execution, event.Accepted, "", 0, "request"))[0]
	var moved *journal.MovedError
	require.ErrorAs(t, again.Err, &moved)
	require.Equal(t, accepted.Sequence, moved.Last.Sequence)
	require.Equal(t, execution.ID+"/accepted", moved.Last.ID())

	funded := i.journal.Append(t.Context(), entry(execution, event.Funded, "", accepted.Sequence, "debit"))[0]
	require.NoError(t, funded.Err)
	last, err := i.journal.Last(t.Context(), execution)
	require.NoError(t, err)
	require.Equal(t, event.Funded, last.Kind)
	require.Equal(t, funded.Sequence, last.Sequence)
	require.JSONEq(t, `"debit"`, string(last.Data))
	first, err := i.journal.First(t.Context(), execution)
	require.NoError(t, err)
	require.Equal(t, accepted.Sequence, first.Sequence)
}

// An append whose acknowledgement is lost is recognised by its mark when it is tried again, not taken for somebody else's.
func TestAppendAgainAfterLostAcknowledgement(t *testing.T) {
	t.Parallel()
	i := single(t)
	for n := range 50 {
		execution := newExecution()
		opening := entry(execution, event.Accepted, "", 0, n)
		lost, cancel := context.WithCancel(t.Context())
		cancel()
		first := i.journal.Append(lost, opening)[0]
		again := i.journal.Append(t.Context(), opening)[0]
		require.NoError(t, again.Err)
		if first.Err == nil {
			require.Equal(t, first.Sequence, again.Sequence)
		}
		require.Equal(t, []string{"accepted"}, i.events(t, execution))
	}
}

// Of many writers of the same event one succeeds, and the others learn that it exists.
func TestDuplicateWriters(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) *installation{"single": single, "replicated": replicated} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := start(t)
			for range 20 {
				execution := newExecution()
				var group sync.WaitGroup
				results := make([]journal.Result, 8)
				for writer := range results {
					group.Go(func() {
						results[writer] = i.journal.Append(t.Context(), entry(execution, event.Accepted, "", 0, writer))[0]
					})
				}
				group.Wait()
				succeeded := 0
				for _, result := range results {
					var moved *journal.MovedError
					if result.Err == nil {
						succeeded++
					} else {
						require.ErrorAs(t, result.Err, &moved)
						require.Equal(t, execution.ID+"/accepted", moved.Last.ID())
					}
				}
				require.Equal(t, 1, succeeded)
				require.Equal(t, []string{"accepted"}, i.events(t, execution))
			}
		})
	}
}

const steps = 4

// worker is one delivery of the funded event, as the executor handles it, cut into operations that anything may come between.
type worker struct {
	delivery int
	expect   uint64
	next     int
	// ran tells that the step at next has run and waits for its checkpoint.
	ran bool
	// unknown is an append whose outcome the worker does not know yet.
	unknown *journal.Entry
	done    bool
	// fenced is set by the test when another worker took over; runsAfter counts the steps that it ran since.
	fenced    bool
	runsAfter int
}

type model struct {
	*installation
	t         *rapid.T
	execution subject.Execution
	funded    uint64
	workers   []*worker
	// runs counts how often each step ran.
	runs [steps]int
}

type resume struct {
	Next int `json:"next"`
}

// deliver hands the funded event to a new worker. An append of a dead worker may still arrive between reading and fencing: then the
// new worker reads again, as the next redelivery would.
func (m *model) deliver() {
	w := &worker{delivery: len(m.workers) + 1, expect: m.funded}
	m.workers = append(m.workers, w)
	if w.delivery == 1 {
		return
	}
	for !m.takeOver(w) {
		w.done = false
	}
}

func (m *model) takeOver(w *worker) bool {
	last := m.last()
	if last.Kind == event.Completed {
		w.done = true
		return true
	}
	if last.Kind != event.Funded {
		var at resume
		require.NoError(m.t, json.Unmarshal(last.Data, &at))
		w.next = at.Next
	}
	m.append(w, entry(m.execution, event.Started, strconv.Itoa(w.delivery), last.Sequence, resume{Next: w.next}))
	for w.unknown != nil {
		m.append(w, *w.unknown)
	}
	if w.done {
		return false
	}
	for _, other := range m.workers[:len(m.workers)-1] {
		other.fenced = true
	}
	return true
}

// last reads the last event, as often as a change of leaders makes necessary.
func (m *model) last() journal.Record {
	for range 100 {
		last, err := m.journal.Last(context.Background(), m.execution)
		if err == nil {
			return last
		}
		m.t.Logf("read again: %v", err)
	}
	require.Fail(m.t, "the journal cannot be read")
	return journal.Record{}
}

// append writes the entry, sometimes without waiting for the acknowledgement.
func (m *model) append(w *worker, e journal.Entry) {
	ctx := context.Background()
	if e.Kind != event.Started && rapid.IntRange(0, 3).Draw(m.t, "lose the acknowledgement") == 0 {
		lost, cancel := context.WithCancel(ctx)
		cancel()
		ctx = lost
	}
	result := m.journal.Append(ctx, e)[0]
	var moved *journal.MovedError
	switch {
	case result.Err == nil:
		w.unknown = nil
		w.expect = result.Sequence
		w.done = w.done || e.Kind == event.Completed
		if e.Kind == event.Step {
			w.next, w.ran = w.next+1, false
		}
	case errors.As(result.Err, &moved):
		m.t.Logf("worker %d: %v", w.delivery, moved)
		w.done = true
	default:
		w.unknown = &e
	}
}

// advance has the worker do its next operation.
func (m *model) advance(w *worker) {
	switch {
	case w.done:
	case w.unknown != nil:
		m.append(w, *w.unknown)
	case !w.ran:
		m.runs[w.next]++
		w.ran = true
		if w.fenced {
			w.runsAfter++
			require.LessOrEqual(m.t, w.runsAfter, 1, "a fenced worker ran more than the step it was at")
		}
	case w.next == steps-1:
		m.append(w, entry(m.execution, event.Completed, "", w.expect, "response"))
	default:
		m.append(w, entry(m.execution, event.Step, strconv.Itoa(w.next), w.expect, resume{Next: w.next + 1}))
	}
}

func (m *model) verify() {
	ids := m.events(m.t, m.execution)
	require.Equal(m.t, "accepted", ids[0])
	require.Equal(m.t, "funded", ids[1])
	require.Equal(m.t, "completed", ids[len(ids)-1], "%v", ids)
	next := 0
	for _, id := range ids[2 : len(ids)-1] {
		if strings.HasPrefix(id, "step/") {
			require.Equal(m.t, fmt.Sprintf("step/%d", next), id, "checkpoints %v", ids)
			next++
		}
	}
	require.Equal(m.t, steps-1, next, "every step but the last has its checkpoint: %v", ids)
	// Every worker but the first was delivered because of a crash, and a crash repeats at most the one step in flight.
	total := 0
	for step, runs := range m.runs {
		require.GreaterOrEqual(m.t, runs, 1, "step %d never ran", step)
		total += runs
	}
	require.LessOrEqual(m.t, total, steps+2*(len(m.workers)-1))
}

// Random interleavings of workers that crash, are redelivered at any time later, or go on after somebody else took over.
func TestInterleavings(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) *installation{"single": single, "replicated": replicated} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := start(t)
			rapid.Check(t, func(rt *rapid.T) { interleave(rt, i) })
		})
	}
}

func interleave(t *rapid.T, i *installation) {
	m := &model{installation: i, t: t, execution: newExecution()}
	accepted := i.journal.Append(context.Background(), entry(m.execution, event.Accepted, "", 0, "request"))[0]
	require.NoError(t, accepted.Err)
	funding := i.journal.Append(context.Background(), entry(m.execution, event.Funded, "", accepted.Sequence, resume{}))[0]
	require.NoError(t, funding.Err)
	m.funded = funding.Sequence
	m.deliver()
	for range rapid.IntRange(0, 40).Draw(t, "operations") {
		switch rapid.IntRange(0, 9).Draw(t, "operation") {
		case 0:
			m.deliver()
		case 1:
			if rapid.IntRange(0, 9).Draw(t, "disturb") == 0 {
				i.disturb()
			}
		default:
			m.advance(m.workers[rapid.IntRange(0, len(m.workers)-1).Draw(t, "worker")])
		}
	}
	// The last delivery is never interrupted for good.
	m.deliver()
	last := m.workers[len(m.workers)-1]
	for range 50 * steps {
		m.advance(last)
	}
	require.True(t, last.done)
	m.verify()
}

func TestEventsAreReadInOrder(t *testing.T) {
	t.Parallel()
	i := single(t)
	execution, neighbour := newExecution(), newExecution()
	read := func() (ids []string, err error) {
		for record, err := range i.journal.Events(t.Context(), execution) {
			if err != nil {
				return ids, err
			}
			ids = append(ids, strings.TrimPrefix(record.ID(), execution.ID+"/"))
		}
		return ids, nil
	}
	_, err := read()
	require.ErrorIs(t, err, journal.ErrNotFound)
	var last uint64
	var want []string
	for n, kind := range []event.Kind{event.Accepted, event.Funded, event.Started, event.Step, event.Step, event.Waiting, event.Completed} {
		qualifier := ""
		if n >= 2 && kind != event.Completed {
			qualifier = strconv.Itoa(n)
		}
		appended := i.journal.Append(t.Context(), entry(execution, kind, qualifier, last, n))[0]
		require.NoError(t, appended.Err)
		last = appended.Sequence
		want = append(want, strings.TrimSuffix(string(kind)+"/"+qualifier, "/"))
		got, err := read()
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.NoError(t, i.journal.Append(t.Context(), entry(newExecution(), event.Accepted, "", 0, n))[0].Err)
	}
	require.NoError(t, i.journal.Append(t.Context(), entry(neighbour, event.Accepted, "", 0, "x"))[0].Err)
	for record, err := range i.journal.Events(t.Context(), execution) {
		require.NoError(t, err)
		require.Equal(t, event.Accepted, record.Kind)
		break // whoever has seen enough stops
	}
}
