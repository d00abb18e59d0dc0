package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/catalogue"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/state"
	"github.com/galley-engine/galley/services/executor/internal/engine"
	"github.com/galley-engine/galley/services/executor/internal/outside"
)

const (
	patience30 = 30 * time.Second
	// quickAckWait is for the tests that wait for a redelivery; the others must not see one, however busy the machine is.
	quickAckWait = time.Second

	callTwice = `
  steps:
    - {id: a, uses: action.http, with: {url: "https://a.example"}, price: 0.02, timeout: 20s}
    - {id: b, uses: action.http, with: {url: "https://a.example"}, price: 0.02, timeout: 20s}
    - {id: c, uses: state.set, with: {all: ["${steps.a.output}", "${steps.b.output}", "${input.query}"]}}`
)

// bench is a NATS server with executions to run.
type bench struct {
	t      testing.TB
	server *testkit.NATSServer
	bus    *bus.Bus
	recipe *recipe.Recipe
	// ackWait is that of the workers started from here on.
	ackWait time.Duration
}

func newBench(tb testing.TB, spec string) *bench {
	tb.Helper()
	b := &bench{t: tb, server: testkit.NATS(tb), recipe: load(tb, newCompiler(tb), spec), ackWait: patience30}
	b.bus = b.connect()
	require.NoError(tb, b.bus.Provision(tb.Context()))
	return b
}

func (b *bench) connect() *bus.Bus {
	b.t.Helper()
	made, err := bus.New(b.server.Conn(b.t), bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(b.t, err)
	return made
}

// fund puts a funded execution into the journal, as ingest and billing would.
func (b *bench) fund(id, reply string, data []byte) {
	b.t.Helper()
	now := clock.System()
	header := func() nats.Header {
		header := nats.Header{
			event.HeaderSubject: {"the-hunter/discovery/7"},
			event.HeaderActor:   {"key:k1"}, event.HeaderTraceParent: {"00-trace"}, event.HeaderCredits: {"40000"},
		}
		if reply != "" {
			header[event.HeaderReply] = []string{reply}
		}
		return header
	}
	if data == nil {
		var err error
		data, err = json.Marshal(event.Funding{
			Debit: event.Debit{Amount: 40_000},
			Request: event.Request{
				ExecutionID: id, CustomerID: "cust_001", AgentID: "the-hunter", RecipeID: "discovery", RecipeVersion: 7,
				Input: json.RawMessage(`{"query": "dentists"}`), AcceptedAt: now, Deadline: now.Add(time.Hour),
			},
		})
		require.NoError(b.t, err)
	}
	log := journal.New(b.bus.Conn, b.bus.JS)
	entry := journal.Entry{Execution: subject.Execution{Customer: "cust_001", ID: id}, Source: "test", Time: now, Data: data}
	for _, kind := range []event.Kind{event.Accepted, event.Funded} {
		entry.Kind, entry.Header = kind, header()
		result := log.Append(b.t.Context(), entry)[0]
		require.NoError(b.t, result.Err)
		entry.Expect = result.Sequence
	}
}

// worker makes a worker with its own connection.
func (b *bench) worker(http call) *Worker {
	b.t.Helper()
	components := component.Registry{recipe.KindHTTP: http, recipe.KindStateSet: component.Func(state.Set)}
	messages := b.connect()
	return New(Settings{Concurrency: 8, AckWait: b.ackWait}, messages, shelf{recipe: b.recipe},
		engine.New(components, outside.New(messages, nil), clock.System, zerolog.Nop()), clock.System, zerolog.Nop())
}

// start runs a worker until the function that it returns is called.
func (b *bench) start(http call, change ...func(*Worker)) (stop func() error) {
	b.t.Helper()
	worker := b.worker(http)
	for _, f := range change {
		f(worker)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	b.t.Cleanup(func() { _ = stop() })
	return stop
}

func (b *bench) last(id string) journal.Record {
	last, err := journal.New(b.bus.Conn, b.bus.JS).Last(b.t.Context(), subject.Execution{Customer: "cust_001", ID: id})
	if err != nil {
		return journal.Record{}
	}
	return last
}

func (b *bench) await(id string) (journal.Record, event.Response) {
	b.t.Helper()
	var last journal.Record
	require.Eventually(b.t, func() bool {
		last = b.last(id)
		return last.Kind == event.Completed
	}, patience30, 5*time.Millisecond)
	var response event.Response
	require.NoError(b.t, json.Unmarshal(last.Data, &response))
	return last, response
}

// awaitSettled waits until every delivery was acknowledged.
func (b *bench) awaitSettled() {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		consumer, err := b.bus.JS.Consumer(b.t.Context(), subject.StreamExecutions, Durable)
		return err == nil && consumer.CachedInfo().NumAckPending == 0 && consumer.CachedInfo().NumPending == 0
	}, patience30, 5*time.Millisecond)
}

// events lists the ids of the journal's events of an execution, in order.
func (b *bench) events(id string) []string {
	b.t.Helper()
	stream, err := b.bus.JS.Stream(b.t.Context(), subject.StreamExecutions)
	require.NoError(b.t, err)
	var names []string
	for sequence := uint64(1); sequence <= stream.CachedInfo().State.LastSeq; sequence++ {
		message, err := stream.GetMsg(b.t.Context(), sequence)
		require.NoError(b.t, err)
		if execution, _, _, err := subject.ParseExecution(message.Subject); err == nil && execution.ID == id {
			names = append(names, message.Header.Get(event.HeaderID)[len(id)+1:])
		}
	}
	return names
}

// calls counts calls by step.
type calls struct {
	mu    sync.Mutex
	count map[string]int
}

func (c *calls) add(step string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == nil {
		c.count = make(map[string]int)
	}
	c.count[step]++
	return c.count[step]
}

func (c *calls) all() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.count)
}

func TestRunsAndAnswers(t *testing.T) {
	t.Parallel()
	b := newBench(t, callTwice)
	inbox := nats.NewInbox()
	replies, err := b.bus.Conn.SubscribeSync(inbox)
	require.NoError(t, err)
	b.fund("e1", inbox, nil)
	stop := b.start(func(_ context.Context, c *component.Call) (component.Result, error) {
		return component.Result{Output: c.Step + c.TraceParent}, nil
	})
	reply, err := replies.NextMsg(patience30)
	require.NoError(t, err)
	last, response := b.await("e1")
	assert.Equal(t, string(last.Data), string(reply.Data))
	assert.Equal(t, event.StatusSuccess, response.Status)
	assert.JSONEq(t, `{"all": ["a00-trace", "b00-trace", "dentists"]}`, string(response.Data))
	for name, want := range map[string]string{
		event.HeaderStatus: "success", event.HeaderCode: "", event.HeaderCredits: "40000", event.HeaderSubject: "the-hunter/discovery/7",
		event.HeaderActor: "key:k1", event.HeaderTraceParent: "00-trace", event.HeaderReply: "",
		event.HeaderDuration: strconv.FormatInt(response.Metadata.DurationMS, 10), event.HeaderSource: "/galley/executor",
		event.HeaderSteps: response.Steps(),
	} {
		assert.Equal(t, want, last.Header.Get(name), name)
	}
	assert.Contains(t, response.Steps(), "=success,")
	assert.Equal(t, []string{"accepted", "funded", "started/1", "step/0", "step/1", "completed"}, b.events("e1"))
	b.awaitSettled()
	require.NoError(t, stop())
}

// TestTakesOverFromADeadWorker: the first worker is cut off from NATS in the middle of its second step, and never notices.
func TestTakesOverFromADeadWorker(t *testing.T) {
	t.Parallel()
	b := newBench(t, callTwice)
	b.ackWait = quickAckWait
	b.fund("e1", "", nil)
	var made calls
	blocked, release := make(chan struct{}), make(chan struct{})
	var dying *Worker
	stopFirst := b.start(func(_ context.Context, c *component.Call) (component.Result, error) {
		made.add("first " + c.IdempotencyKey())
		if c.Step == "b" {
			close(blocked)
			<-release
		}
		return component.Result{Output: c.Step}, nil
	}, func(w *Worker) { dying, w.drainTime = w, time.Millisecond })
	<-blocked
	dying.bus.Conn.Close()

	b.start(func(_ context.Context, c *component.Call) (component.Result, error) {
		made.add("second " + c.IdempotencyKey())
		return component.Result{Output: c.Step}, nil
	})
	_, response := b.await("e1")
	close(release)
	require.NoError(t, stopFirst())
	b.awaitSettled()
	assert.Equal(t, event.StatusSuccess, response.Status)
	assert.Equal(t, "0.04", response.Metadata.CreditsConsumed.String())
	assert.Equal(t, map[string]int{"first e1/a": 1, "first e1/b": 1, "second e1/b": 1}, made.all())
	assert.Equal(t, []string{"accepted", "funded", "started/1", "step/0", "started/2", "step/1", "completed"}, b.events("e1"))
}

// TestZombie: the first worker stands still for longer than AckWait and then goes on. Its lease is over, so its next step does not
// begin, and what it finished is kept or given up, whichever the journal says.
func TestZombie(t *testing.T) {
	t.Parallel()
	b := newBench(t, callTwice)
	b.ackWait = quickAckWait
	b.fund("e1", "", nil)
	var made calls
	blocked, release := make(chan struct{}), make(chan struct{})
	b.start(func(_ context.Context, c *component.Call) (component.Result, error) {
		made.add("first " + c.Step)
		if c.Step == "a" {
			close(blocked)
			<-release
		}
		return component.Result{Output: c.Step}, nil
	}, func(w *Worker) { w.settings.AckWait = time.Hour }) // no heartbeat comes
	<-blocked
	finish := make(chan struct{})
	b.start(func(_ context.Context, c *component.Call) (component.Result, error) {
		made.add("second " + c.Step)
		if c.Step == "b" {
			close(release)
			<-finish
		}
		return component.Result{Output: c.Step}, nil
	}) // the consumer is shared: this worker brings the usual AckWait back
	require.Eventually(t, func() bool { return made.all()["second b"] == 1 }, patience30, time.Millisecond)
	close(finish)
	_, response := b.await("e1")
	b.awaitSettled()
	assert.Equal(t, event.StatusSuccess, response.Status)
	assert.Equal(t, map[string]int{"first a": 1, "second a": 1, "second b": 1}, made.all())
}

func TestHeartbeatKeepsALongStep(t *testing.T) {
	t.Parallel()
	b := newBench(t, callTwice)
	b.ackWait = quickAckWait
	b.fund("e1", "", nil)
	var made calls
	long := func(ctx context.Context, c *component.Call) (component.Result, error) {
		if made.add(c.Step); c.Step == "b" {
			return component.Result{}, nil
		}
		timer := time.NewTimer(5 * quickAckWait / 2)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		return component.Result{}, ctx.Err()
	}
	b.start(long)
	b.start(long)
	_, response := b.await("e1")
	assert.Equal(t, event.StatusSuccess, response.Status)
	assert.Equal(t, map[string]int{"a": 1, "b": 1}, made.all())
	assert.NotContains(t, b.events("e1"), "started/2")
}

func TestDrainFinishesWhatRuns(t *testing.T) {
	t.Parallel()
	b := newBench(t, callTwice)
	b.fund("e1", "", nil)
	began, release := make(chan struct{}), make(chan struct{})
	stop := b.start(func(_ context.Context, c *component.Call) (component.Result, error) {
		if c.Step == "a" {
			close(began)
			<-release
		}
		return component.Result{Output: c.Step}, nil
	})
	<-began
	ended := make(chan error)
	go func() { ended <- stop() }()
	b.fund("e2", "", nil) // it is left for the next one
	close(release)
	require.NoError(t, <-ended)
	_, response := b.await("e1")
	assert.Equal(t, event.StatusSuccess, response.Status)
	assert.Equal(t, event.Funded, b.last("e2").Kind)
}

// TestDrainHandsOverWhatTakesTooLong: at once, without waiting for AckWait, and without calling the step failed.
func TestDrainHandsOverWhatTakesTooLong(t *testing.T) {
	t.Parallel()
	b := newBench(t, callTwice)
	b.fund("e1", "", nil)
	var made calls
	began := make(chan struct{})
	slow := func(w *Worker) { w.drainTime = 10 * time.Millisecond }
	stop := b.start(func(ctx context.Context, c *component.Call) (component.Result, error) {
		made.add("first " + c.Step)
		if c.Step == "b" {
			close(began)
			<-ctx.Done()
			return component.Result{}, &problem.Error{Code: problem.Connection, Retryable: true}
		}
		return component.Result{Output: c.Step}, nil
	}, slow)
	<-began
	started := clock.System()
	require.NoError(t, stop())
	b.start(func(_ context.Context, c *component.Call) (component.Result, error) {
		made.add("second " + c.Step)
		return component.Result{Output: c.Step}, nil
	}, slow)
	_, response := b.await("e1")
	assert.Equal(t, event.StatusSuccess, response.Status)
	assert.Less(t, clock.System().Sub(started), 15*time.Second)
	assert.Equal(t, map[string]int{"first a": 1, "first b": 1, "second b": 1}, made.all())
}

// TestForgetfulServer: a NATS server that was killed delivers again, as if for the first time, what had been delivered and even
// acknowledged shortly before. Making the consumer anew does the same.
func TestForgetfulServer(t *testing.T) {
	t.Parallel()
	b := newBench(t, callTwice)
	b.fund("done", "", nil)
	b.fund("held", "", nil)
	var made calls
	release := make(chan struct{})
	b.start(func(_ context.Context, c *component.Call) (component.Result, error) {
		made.add(c.IdempotencyKey())
		if c.IdempotencyKey() == "held/b" {
			<-release
		}
		return component.Result{Output: c.Step}, nil
	})
	b.await("done")
	require.Eventually(t, func() bool { return made.all()["held/b"] == 1 }, patience30, time.Millisecond)
	require.NoError(t, b.bus.JS.DeleteConsumer(t.Context(), subject.StreamExecutions, Durable))
	require.Eventually(t, func() bool {
		consumer, err := b.bus.JS.Consumer(t.Context(), subject.StreamExecutions, Durable)
		return err == nil && consumer.CachedInfo().Delivered.Consumer >= 2
	}, patience30, 5*time.Millisecond)
	close(release)
	_, response := b.await("held")
	b.awaitSettled()
	assert.Equal(t, event.StatusSuccess, response.Status)
	assert.Equal(t, map[string]int{"done/a": 1, "done/b": 1, "held/a": 1, "held/b": 1}, made.all())
}

func TestServerRestart(t *testing.T) {
	t.Parallel()
	b := newBench(t, callTwice)
	b.fund("e1", "", nil)
	began, release := make(chan struct{}), make(chan struct{})
	var made calls
	b.start(func(_ context.Context, c *component.Call) (component.Result, error) {
		if made.add(c.Step) == 1 && c.Step == "a" {
			close(began)
			<-release
		}
		return component.Result{Output: c.Step}, nil
	})
	<-began
	b.server.Shutdown()
	close(release) // the outcome waits for the journal
	b.server.Restart(t)
	_, response := b.await("e1")
	assert.Equal(t, event.StatusSuccess, response.Status)
	assert.Equal(t, 1, made.all()["b"])
	b.fund("e2", "", nil)
	b.await("e2")
}

func TestDamagedRequestEndsAndIsKept(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"no JSON": `{"debit": `, "another execution": `{"execution_id": "e2", "customer_id": "cust_001"}`, "input is a list": `{"input_data": []}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, callTwice)
			b.fund("e1", "", []byte(data))
			b.start(func(context.Context, *component.Call) (component.Result, error) {
				return component.Result{}, errors.New("never called")
			})
			last, response := b.await("e1")
			assert.Equal(t, event.StatusFailed, response.Status)
			assert.Equal(t, problem.Internal, response.Errors[0].Code)
			assert.Equal(t, "INTERNAL", last.Header.Get(event.HeaderCode))
			assert.Equal(t, "0", last.Header.Get(event.HeaderCredits))
			assert.Equal(t, "e1", response.ExecutionID)
			assert.Equal(t, "discovery", response.RecipeID)
			assert.Equal(t, 7, response.RecipeVersion)
			b.awaitSettled()
			letters, err := b.bus.JS.Stream(t.Context(), subject.StreamDeadLetters)
			require.NoError(t, err)
			assert.EqualValues(t, 1, letters.CachedInfo().State.Msgs)
		})
	}
}

func TestDamagedCheckpointEndsTheExecution(t *testing.T) {
	t.Parallel()
	compiled := load(t, newCompiler(t), callTwice)
	s := newStore(t, 0)
	s.append(&journal.Entry{Execution: s.execution, Kind: event.Step, Qualifier: "0", Expect: fundedSequence, Header: nats.Header{}, Data: []byte(`{`)})
	a := newActor(t, s, compiled, 2, func(*actor) component.Component { return call(nil) })
	for !a.finished {
		a.step()
	}
	assert.Equal(t, dead, a.verdict)
	last := s.last()
	assert.Equal(t, "e1/completed", last.ID())
	assert.Equal(t, string(problem.Internal), last.Header.Get(event.HeaderCode))
}

func TestMissingRecipe(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		want verdict
	}{
		"is final":          {fmt.Errorf("read: %w", catalogue.ErrUnavailable), done},
		"cannot be read":    {errors.New("no responders"), later},
		"the worker stops ": {engine.ErrInterrupted, handOver},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, 0)
			a := &actor{store: s, loseAck: func() (bool, bool) { return false, false }, waiting: make(chan string, 10), resume: make(chan bool, 10)}
			for range 10 {
				a.resume <- true
			}
			p := &processor{
				journal: a, recipes: shelf{err: test.err}, engine: engine.New(nil, nil, clock.System, zerolog.Nop()),
				live: newLive(a, zerolog.Nop()), clock: clock.System, log: zerolog.Nop(),
			}
			got, _ := p.process(t.Context(), given{execution: s.execution, record: s.records[1], deliveries: 1}, a.held)
			assert.Equal(t, test.want, got)
			if test.want == done {
				assert.Equal(t, string(problem.RecipeUnavailable), s.last().Header.Get(event.HeaderCode))
			} else {
				assert.Equal(t, event.Funded, s.last().Kind)
			}
		})
	}
}

// BenchmarkPipeline runs executions of three steps with checkpoints through a worker and a NATS server in the process.
func BenchmarkPipeline(b *testing.B) {
	bench := newBench(b, `
  steps:
    - {id: a, uses: state.set, with: {query: "${input.query}"}, checkpoint: true, price: 0.01}
    - {id: b, uses: state.set, with: {upper: "${state.query + '!'}"}, checkpoint: true, price: 0.01}
    - {id: c, uses: state.set, with: {list: ["${state.upper}"]}, checkpoint: true, price: 0.01}
  result: {list: "${state.list}"}`)
	now := clock.System()
	const ahead = 2000
	fund := func(n int) {
		log, entries := journal.New(bench.bus.Conn, bench.bus.JS), make([]journal.Entry, 0, n)
		for range n {
			id := nuid.Next()
			data, err := json.Marshal(event.Funding{Debit: event.Debit{Amount: 40_000}, Request: event.Request{
				ExecutionID: id, CustomerID: "cust_001", AgentID: "the-hunter", RecipeID: "discovery", RecipeVersion: 7,
				Input: json.RawMessage(`{"query": "dentists"}`), AcceptedAt: now, Deadline: now.Add(time.Hour),
			}})
			require.NoError(b, err)
			entries = append(entries, journal.Entry{
				Execution: subject.Execution{Customer: "cust_001", ID: id}, Kind: event.Funded, Source: "test", Time: now, Data: data,
				Header: nats.Header{event.HeaderSubject: {"the-hunter/discovery/7"}},
			})
		}
		for _, result := range log.Append(b.Context(), entries...) {
			require.NoError(b, result.Err)
		}
	}
	for left := b.N; left > 0; left -= ahead {
		fund(min(left, ahead))
	}
	completed := make(chan *nats.Msg, b.N+1)
	_, err := bench.bus.Conn.ChanSubscribe(subject.ExecutionMilestone(string(event.Completed)), completed)
	require.NoError(b, err)
	require.NoError(b, bench.bus.Conn.Flush())
	b.ReportAllocs()
	b.ResetTimer()
	stop := bench.start(nil, func(w *Worker) { w.settings.Concurrency, w.queue = 256, make(chan *holding, 256*heldPerSlot) })
	for range b.N {
		<-completed
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "executions/s")
	require.NoError(b, stop())
}
