package worker

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/catalogue"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/state"
	"github.com/galley-engine/galley/services/executor/internal/engine"
)

var errUnknownOutcome = errors.New("no acknowledgement in time")

// call is a component in the place of action.http.
type call func(ctx context.Context, call *component.Call) (component.Result, error)

func (c call) Execute(ctx context.Context, arguments *component.Call) (component.Result, error) {
	return c(ctx, arguments)
}

// shelf holds one recipe.
type shelf struct {
	recipe *recipe.Recipe
	err    error
}

func (s shelf) Recipe(context.Context, catalogue.Key) (*recipe.Recipe, error) { return s.recipe, s.err }

func load(t require.TestingT, compiler *recipe.Compiler, spec string) *recipe.Recipe {
	document := "apiVersion: galley/v1\nkind: Recipe\nmetadata: {agent: the-hunter, id: discovery}\nspec:\n" + spec
	compiled, err := compiler.Load([]byte(document))
	require.NoError(t, err, document)
	return compiled
}

func newCompiler(tb testing.TB) *recipe.Compiler {
	tb.Helper()
	compiler, err := recipe.NewCompiler()
	require.NoError(tb, err)
	return compiler
}

// store is the journal of one execution, with the semantics of pkg/journal.
type store struct {
	execution subject.Execution
	records   []journal.Record
	replies   int
}

const fundedSequence = 2

func newStore(t require.TestingT, debit int64) *store {
	now := clock.System()
	s := &store{execution: subject.Execution{Customer: "cust_001", ID: "e1"}}
	data, err := json.Marshal(event.Funding{
		Debit: event.Debit{Amount: 1 << 40},
		Request: event.Request{
			ExecutionID: "e1", CustomerID: "cust_001", AgentID: "the-hunter", RecipeID: "discovery", RecipeVersion: 1,
			Input: json.RawMessage(`{"query": "dentists"}`), AcceptedAt: now, Deadline: now.Add(time.Hour),
		},
	})
	require.NoError(t, err)
	header := nats.Header{
		event.HeaderSubject: {"the-hunter/discovery/1"},
		event.HeaderReply:   {"_INBOX.1"}, event.HeaderTraceParent: {"00-trace"}, event.HeaderCredits: {strconv.FormatInt(debit, 10)},
	}
	s.records = []journal.Record{
		{Execution: s.execution, Kind: event.Accepted, Sequence: 1, Header: nats.Header{event.HeaderID: {"e1/accepted"}}},
		{Execution: s.execution, Kind: event.Funded, Sequence: fundedSequence, Header: header, Data: data},
	}
	header[event.HeaderID] = []string{"e1/funded"}
	return s
}

func (s *store) last() journal.Record { return s.records[len(s.records)-1] }

func (s *store) append(entry *journal.Entry) journal.Result {
	if entry.Header.Get(event.HeaderAppend) == "" {
		entry.Header.Set(event.HeaderAppend, nuid.Next())
	}
	last := s.last()
	switch {
	case last.Sequence == entry.Expect:
	case last.Header.Get(event.HeaderAppend) == entry.Header.Get(event.HeaderAppend):
		return journal.Result{Sequence: last.Sequence}
	default:
		return journal.Result{Err: &journal.MovedError{ID: entry.ID(), Last: last}}
	}
	header := maps.Clone(entry.Header)
	header.Set(event.HeaderID, entry.ID())
	record := journal.Record{
		Execution: entry.Execution, Kind: entry.Kind, Sequence: last.Sequence + 1, Header: header, Data: entry.Data,
	}
	s.records = append(s.records, record)
	return journal.Result{Sequence: record.Sequence}
}

func (s *store) checkpoint() (found event.Checkpoint) {
	last := s.last()
	if last.Kind == event.Started || last.Kind == event.Step {
		if err := json.Unmarshal(last.Data, &found); err != nil {
			panic(err)
		}
	}
	return found
}

func (s *store) names() string {
	var names []string
	for _, record := range s.records {
		names = append(names, strings.TrimPrefix(record.ID(), "e1/"))
	}
	return strings.Join(names, " ")
}

// actor is a worker that goes on only when it is told to, and can be killed wherever it waits.
type actor struct {
	store      *store
	deliveries int
	revoked    bool // NATS has given the execution to somebody else
	stop       context.CancelFunc

	resume  chan bool // false: die
	waiting chan string
	loseAck func() (lost, stored bool)

	finished bool
	verdict  verdict
	err      error
}

// pause hands control to the test. A killed actor does not come back: not even its recover sees that.
func (a *actor) pause(where string) {
	a.waiting <- where
	if !<-a.resume {
		runtime.Goexit()
	}
}

// step lets the actor go on to its next pause or to its end.
func (a *actor) step() {
	if a.finished {
		return
	}
	a.resume <- true
	if <-a.waiting == "end" {
		a.finished = true
	}
}

func (a *actor) kill() {
	if !a.finished {
		a.resume <- false
		<-a.waiting // "end"
		a.finished, a.verdict = true, leave
	}
}

func (a *actor) held() error {
	if a.revoked {
		return errNotHeld
	}
	return nil
}

func (a *actor) Append(_ context.Context, entries ...journal.Entry) []journal.Result {
	entry := entries[0]
	a.pause("before " + entry.ID())
	if lost, stored := a.loseAck(); lost {
		if stored {
			a.store.append(&entry)
		}
		return []journal.Result{{Err: errUnknownOutcome}}
	}
	result := a.store.append(&entry)
	a.pause("after " + entry.ID())
	return []journal.Result{result}
}

func (a *actor) Last(context.Context, subject.Execution) (journal.Record, error) {
	a.pause("before last")
	last := a.store.last()
	a.pause("after last")
	return last, nil
}

func (a *actor) Funded(context.Context, subject.Execution) (journal.Record, error) {
	return a.store.records[1], nil
}

func (a *actor) Delay(context.Context, string, string, time.Time) error { return nil }

func (a *actor) Due(context.Context, string) error { return nil }

func (a *actor) Reply(context.Context, nats.Header, nats.Header, []byte) error {
	a.store.replies++
	return nil
}

// newActor starts a worker with a delivery of the funded event. It waits at once.
func newActor(t require.TestingT, s *store, compiled *recipe.Recipe, deliveries int, http func(*actor) component.Component) *actor {
	require.NotNil(t, compiled)
	ctx, stop := context.WithCancel(context.Background())
	a := &actor{
		store: s, deliveries: deliveries, stop: stop, resume: make(chan bool), waiting: make(chan string),
		loseAck: func() (bool, bool) { return false, false },
	}
	components := component.Registry{recipe.KindHTTP: http(a), recipe.KindStateSet: component.Func(state.Set)}
	p := &processor{
		journal: a, recipes: shelf{recipe: compiled}, engine: engine.New(components, nil, clock.System, zerolog.Nop()),
		delays: a, live: newLive(a, zerolog.Nop()), clock: clock.System, log: zerolog.Nop(),
	}
	go func() {
		defer func() {
			stop()
			a.waiting <- "end"
		}()
		a.pause("begin")
		a.verdict, a.err = p.process(ctx, given{execution: s.execution, record: s.records[1], deliveries: deliveries}, a.held)
	}()
	<-a.waiting
	return a
}
