package worker

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

const callWaitCall = `
  timeout: 1h
  steps:
    - {id: a, uses: action.http, with: {url: "https://a.example"}}
    - {id: w, uses: wait.event, with: {name: go, timeout: 30m}}
    - {id: b, uses: action.http, with: {url: "https://a.example"}}
  result: "${steps.w.output}"`

func (b *bench) awaitKind(id string, kind event.Kind) journal.Record {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.last(id).Kind == kind }, patience30, 5*time.Millisecond)
	return b.last(id)
}

// signal stores the event "go" and wakes whoever waits, as ingest does.
func (b *bench) signal(execution subject.Execution, data string) {
	b.t.Helper()
	bucket, err := b.bus.JS.KeyValue(b.t.Context(), subject.BucketSignals)
	require.NoError(b.t, err)
	_, err = bucket.Create(b.t.Context(), execution.SignalKey(subject.SignalEvent, "go"), []byte(data))
	require.NoError(b.t, err)
	if b.last(execution.ID).Kind == event.Waiting {
		require.NoError(b.t, b.bus.Due(b.t.Context(), execution.Due()))
	}
}

// delays counts what is in the stream DELAYS.
func (b *bench) delays() uint64 {
	stream, err := b.bus.JS.Stream(b.t.Context(), subject.StreamDelays)
	require.NoError(b.t, err)
	info, err := stream.Info(b.t.Context())
	require.NoError(b.t, err)
	return info.State.Msgs
}

func counting(seen *calls) call {
	return func(_ context.Context, c *component.Call) (component.Result, error) {
		seen.add(c.Step)
		return component.Result{Output: c.Step}, nil
	}
}

func TestParksAndGoesOnWhenTheEventComes(t *testing.T) {
	t.Parallel()
	b, seen := newBench(t, callWaitCall), &calls{}
	execution := subject.Execution{Customer: "cust_001", ID: "e1"}
	b.fund("e1", "", nil)
	stop := b.start(counting(seen))
	b.awaitKind("e1", event.Waiting)
	b.awaitSettled()
	assert.EqualValues(t, 1, b.delays(), "one wake-up call at the end of the wait")

	require.NoError(t, b.bus.Due(t.Context(), execution.Due()))
	require.Eventually(t, func() bool { return len(b.events("e1")) == 7 }, patience30, 5*time.Millisecond, "a call for nothing has it wait again")
	require.NoError(t, stop())

	b.signal(execution, `{"by": "test"}`) // nobody is there to hear of it
	b.start(counting(seen))
	_, response := b.await("e1")
	assert.JSONEq(t, `{"by": "test"}`, string(response.Data))
	assert.Equal(t, map[string]int{"a": 1, "b": 1}, seen.all())
	assert.Equal(t, []string{
		"accepted", "funded", "started/1", "step/0", "waiting/1", "started/2", "waiting/2", "started/3", "step/1", "completed",
	}, b.events("e1"))
}

// TestAnEventThatComesFirstIsThere when the execution comes to wait for it.
func TestAnEventThatComesFirstIsThere(t *testing.T) {
	t.Parallel()
	b, seen := newBench(t, callWaitCall), &calls{}
	b.fund("e1", "", nil)
	b.signal(subject.Execution{Customer: "cust_001", ID: "e1"}, `1`)
	b.start(counting(seen))
	b.await("e1")
	assert.NotContains(t, b.events("e1"), "waiting/1")
}

func TestWaitsEndByTheClock(t *testing.T) {
	t.Parallel()
	b, seen := newBench(t, `
  steps:
    - {id: w, uses: wait.for, with: {duration: 5500ms}}
    - {id: b, uses: action.http, with: {url: "https://a.example"}}`), &calls{}
	b.fund("e1", "", nil)
	stop := b.start(counting(seen))
	waiting := b.awaitKind("e1", event.Waiting)
	require.NoError(t, stop()) // the call is made whoever is there
	b.start(counting(seen))
	completed, _ := b.await("e1")
	assert.GreaterOrEqual(t, completed.Stored.Sub(waiting.Stored), 5400*time.Millisecond)
	assert.Equal(t, map[string]int{"b": 1}, seen.all())
}

// TestOnlyTheRightMessageTakesOver: what a message may do to an execution that has moved on.
func TestOnlyTheRightMessageTakesOver(t *testing.T) {
	t.Parallel()
	const mine, other = 7, 8
	tests := map[string]struct {
		kind  event.Kind
		owner uint64
		given given
		runs  bool
		wakes bool
	}{
		"a funded event after its worker died":                {event.Step, 0, given{deliveries: 2}, true, false},
		"a funded event when the execution was woken":         {event.Step, other, given{deliveries: 2}, false, false},
		"a funded event when the execution waits":             {event.Waiting, 0, given{deliveries: 2}, false, true},
		"a call for an execution that waits":                  {event.Waiting, 0, given{call: mine, deliveries: 1}, true, false},
		"a call for one that waits, for the second time":      {event.Waiting, other, given{call: mine, deliveries: 1}, true, false},
		"a call after its worker died":                        {event.Step, mine, given{call: mine, deliveries: 2}, true, false},
		"a call after its worker died, of a forgetful server": {event.Started, mine, given{call: mine, deliveries: 1}, true, false},
		"a call for one that another call has woken":          {event.Step, other, given{call: mine, deliveries: 1}, false, false},
		"a call for one that its funded event runs":           {event.Started, 0, given{call: mine, deliveries: 2}, false, false},
		"a call for one that has not begun":                   {event.Funded, 0, given{call: mine, deliveries: 1}, false, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, `  steps: [{id: a, uses: action.http, with: {url: "https://a.example"}}]`)
			b.fund("e1", "", nil)
			execution := subject.Execution{Customer: "cust_001", ID: "e1"}
			log := journal.New(b.bus.Conn, b.bus.JS)
			funded, err := log.Funded(t.Context(), execution)
			require.NoError(t, err)
			if test.kind != event.Funded {
				data, err := json.Marshal(event.Checkpoint{ExecutionID: "e1", Delivery: 3, Owner: test.owner, StartedAt: clock.System()})
				require.NoError(t, err)
				require.NoError(t, log.Append(t.Context(), journal.Entry{
					Execution: execution, Kind: test.kind, Qualifier: "1", Expect: funded.Sequence, Source: "test", Time: clock.System(), Data: data,
				})[0].Err)
			}
			var ran atomic.Bool
			worker := b.worker(func(context.Context, *component.Call) (component.Result, error) {
				ran.Store(true)
				return component.Result{}, nil
			})
			test.given.execution = execution
			if test.given.call == 0 {
				test.given.record = funded
			}
			before := b.delays()
			verdict, err := worker.processor.process(t.Context(), test.given, func() error { return nil })
			assert.Equal(t, done, verdict, "%v", err)
			assert.Equal(t, test.runs, ran.Load())
			assert.Equal(t, test.runs, b.last("e1").Kind == event.Completed)
			assert.Equal(t, test.wakes, b.delays() > before)
		})
	}
}

// TestANoticeEndsACall: somebody else ends the execution while its worker is in the middle of a call.
func TestANoticeEndsACall(t *testing.T) {
	t.Parallel()
	b := newBench(t, `  steps: [{id: a, uses: action.http, timeout: 2m, with: {url: "https://a.example"}}]`)
	b.fund("e1", "", nil)
	began, ended := make(chan struct{}), make(chan struct{})
	b.start(func(ctx context.Context, _ *component.Call) (component.Result, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return component.Result{}, ctx.Err()
	})
	<-began
	execution := subject.Execution{Customer: "cust_001", ID: "e1"}
	header := nats.Header{event.HeaderStatus: {"failed"}, event.HeaderCode: {string(problem.Cancelled)}}
	require.NoError(t, journal.New(b.bus.Conn, b.bus.JS).Append(t.Context(), journal.Entry{
		Execution: execution, Kind: event.Completed, Expect: b.last("e1").Sequence, Source: "test", Time: clock.System(), Header: header,
		Data: []byte(`{"status": "failed"}`),
	})[0].Err)
	require.NoError(t, b.bus.Conn.Publish(execution.Notify(), nil))
	select {
	case <-ended:
	case <-time.After(patience30):
		t.Fatal("the call goes on")
	}
	b.awaitSettled()
	assert.Equal(t, event.Completed, b.last("e1").Kind)
}
