package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

const twoAtATime = `
  concurrency: 2
  steps:
    - {id: first, uses: action.http, with: {url: "https://a.example"}, timeout: 20s}
    - {id: last, uses: action.http, with: {url: "https://a.example"}, timeout: 20s}`

const oneCall = `  steps: [{id: a, uses: action.http, with: {url: "https://a.example"}, timeout: 20s}]`

// underWay counts executions from when they begin their first step until their last has ended.
type underWay struct {
	mu         sync.Mutex
	executions map[string]bool
	most       int
	order      []string
}

func (u *underWay) begin(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.executions == nil {
		u.executions = map[string]bool{}
	}
	if !slices.Contains(u.order, id) {
		u.order = append(u.order, id)
	}
	u.executions[id] = true
	u.most = max(u.most, len(u.executions))
}

func (u *underWay) end(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.executions, id)
}

func (u *underWay) seen() (most int, order []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.most, append([]string{}, u.order...)
}

// fundWith is fund with a request of its own.
func (b *bench) fundWith(id string, change func(*event.Request)) {
	b.t.Helper()
	now := clock.System()
	funding := event.Funding{
		Debit: event.Debit{Amount: 40_000},
		Request: event.Request{
			ExecutionID: id, CustomerID: "cust_001", AgentID: "the-hunter", RecipeID: "discovery", RecipeVersion: 7,
			Input: json.RawMessage(`{}`), AcceptedAt: now, Deadline: now.Add(time.Hour),
		},
	}
	change(&funding.Request)
	data, err := json.Marshal(funding)
	require.NoError(b.t, err)
	b.fund(id, "", data)
}

// cancel ends an execution as ingest does.
func (b *bench) cancel(id string) {
	b.t.Helper()
	execution := subject.Execution{Customer: "cust_001", ID: id}
	header := nats.Header{event.HeaderStatus: {"failed"}, event.HeaderCode: {string(problem.Cancelled)}}
	require.NoError(b.t, journal.New(b.bus.Conn, b.bus.JS).Append(b.t.Context(), journal.Entry{
		Execution: execution, Kind: event.Completed, Expect: b.last(id).Sequence, Source: "test", Time: clock.System(), Header: header,
		Data: []byte(`{"status": "failed"}`),
	})[0].Err)
	require.NoError(b.t, b.bus.Conn.Publish(execution.Notify(), nil))
}

// slots is what is in the bucket, "" for nothing.
func (b *bench) slots() string {
	b.t.Helper()
	bucket, err := b.bus.JS.KeyValue(b.t.Context(), subject.BucketSlots)
	require.NoError(b.t, err)
	entry, err := bucket.Get(b.t.Context(), "cust_001")
	if err != nil {
		require.ErrorIs(b.t, err, jetstream.ErrKeyNotFound)
		return ""
	}
	return string(entry.Value())
}

// TestLimitHoldsUnderRestarts: workers stop, die and start in the middle, and NATS starts again.
func TestLimitHoldsUnderRestarts(t *testing.T) {
	t.Parallel()
	b, seen := newBench(t, twoAtATime), &underWay{}
	b.ackWait = 5 * time.Second // what a busy machine may take must not look like death
	for i := range 30 {
		b.fund("e"+strconv.Itoa(i), "", nil)
	}
	work := func(ctx context.Context, c *component.Call) (component.Result, error) {
		seen.begin(c.Execution.ID)
		timer := time.NewTimer(20 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return component.Result{}, ctx.Err()
		}
		if c.Step == "last" {
			seen.end(c.Execution.ID)
		}
		return component.Result{Output: c.Step}, nil
	}
	begun := func(n int) {
		require.Eventually(t, func() bool {
			_, order := seen.seen()
			return len(order) >= n
		}, 2*patience30, time.Millisecond)
	}
	soon := func(w *Worker) { w.drainTime = time.Millisecond }
	var dying *Worker
	stopFirst := b.start(work, soon, func(w *Worker) { dying = w })
	stopSecond := b.start(work, soon)
	begun(5)
	require.NoError(t, stopSecond())
	b.start(work)
	begun(10)
	dying.bus.Conn.Close()
	b.start(work)
	begun(15)
	b.server.Restart(t)
	for i := range 30 {
		_, response := b.await("e" + strconv.Itoa(i))
		require.Equal(t, event.StatusSuccess, response.Status, "%v", response.Errors)
	}
	require.NoError(t, stopFirst())
	most, order := seen.seen()
	assert.Equal(t, 2, most)
	assert.Len(t, order, 30)
	require.Eventually(t, func() bool { return b.slots() == "{}" }, patience30, 5*time.Millisecond)
}

// pass waits at a gate, until it opens or the worker stops.
func pass(ctx context.Context, gate <-chan struct{}) {
	select {
	case <-gate:
	case <-ctx.Done():
	}
}

func TestTheOldestGoesFirst(t *testing.T) {
	t.Parallel()
	b, seen := newBench(t, oneCall), &underWay{}
	release := make(chan struct{})
	limited := func(r *event.Request) { r.MaxConcurrency = 1 }
	b.fundWith("e0", limited)
	b.start(func(ctx context.Context, c *component.Call) (component.Result, error) {
		seen.begin(c.Execution.ID)
		pass(ctx, release)
		seen.end(c.Execution.ID)
		return component.Result{}, nil
	})
	b.awaitKind("e0", event.Started)
	want := []string{"e0"}
	for i := 1; i < 12; i++ {
		id := fmt.Sprintf("e%d", i)
		want = append(want, id)
		b.fundWith(id, limited)
	}
	for _, id := range want[1:] {
		var checkpoint event.Checkpoint
		require.NoError(t, json.Unmarshal(b.awaitKind(id, event.Waiting).Data, &checkpoint))
		require.Len(t, checkpoint.Waits, 1)
		require.Equal(t, event.SlotCustomer, checkpoint.Waits[0].Slot)
	}
	close(release)
	for _, id := range want {
		b.await(id)
	}
	_, order := seen.seen()
	assert.Equal(t, want, order)
	assert.Equal(t, []string{"accepted", "funded", "waiting/1"}, b.events("e5")[:3]) // and on a busy machine it came back once more
}

// TestASlotIsKeptWhileItsExecutionWaits, and is free when that is cancelled, which no executor need hear of.
func TestASlotIsKeptWhileItsExecutionWaits(t *testing.T) {
	t.Parallel()
	b, seen := newBench(t, `
  concurrency: 1
  steps:
    - {id: w, uses: wait.event, with: {name: go, timeout: 30m}}
    - {id: b, uses: action.http, with: {url: "https://a.example"}}
  timeout: 1h`), &calls{}
	b.fund("e1", "", nil)
	stop := b.start(counting(seen))
	b.awaitKind("e1", event.Waiting)
	b.fund("e2", "", nil)
	var checkpoint event.Checkpoint
	require.NoError(t, json.Unmarshal(b.awaitKind("e2", event.Waiting).Data, &checkpoint))
	require.Equal(t, event.SlotRecipe, checkpoint.Waits[0].Slot)
	require.NoError(t, stop())

	b.cancel("e1")
	b.start(counting(seen))
	b.signal(subject.Execution{Customer: "cust_001", ID: "e2"}, `1`)
	_, response := b.await("e2")
	assert.Equal(t, event.StatusSuccess, response.Status)
	assert.Equal(t, map[string]int{"b": 1}, seen.all())
}

// TestCancelledWhileItWaitsForASlot: when its turn comes, the next has it.
func TestCancelledWhileItWaitsForASlot(t *testing.T) {
	t.Parallel()
	b, seen := newBench(t, oneCall), &underWay{}
	release := make(chan struct{})
	limited := func(r *event.Request) { r.MaxConcurrency = 1 }
	b.fundWith("e1", limited)
	b.start(func(ctx context.Context, c *component.Call) (component.Result, error) {
		seen.begin(c.Execution.ID)
		pass(ctx, release)
		seen.end(c.Execution.ID)
		return component.Result{}, nil
	})
	b.awaitKind("e1", event.Started)
	for _, id := range []string{"e2", "e3"} {
		b.fundWith(id, limited)
		b.awaitKind(id, event.Waiting)
	}
	b.cancel("e2")
	close(release)
	b.await("e3")
	_, order := seen.seen()
	assert.Equal(t, []string{"e1", "e3"}, order)
	require.Eventually(t, func() bool { return b.slots() == "{}" }, patience30, 5*time.Millisecond)
}

func TestDeadlineWhileItWaitsForASlot(t *testing.T) {
	t.Parallel()
	b := newBench(t, oneCall)
	began, release := make(chan struct{}), make(chan struct{})
	b.fundWith("e1", func(r *event.Request) { r.MaxConcurrency = 1 })
	b.start(func(ctx context.Context, _ *component.Call) (component.Result, error) {
		close(began)
		pass(ctx, release)
		return component.Result{}, nil
	})
	<-began
	b.fundWith("e2", func(r *event.Request) {
		r.MaxConcurrency, r.Deadline = 1, r.AcceptedAt.Add(time.Second)
	})
	b.awaitKind("e2", event.Waiting)
	completed, response := b.await("e2")
	assert.Equal(t, event.StatusFailed, response.Status)
	assert.Equal(t, problem.Timeout, response.Errors[0].Code)
	assert.Zero(t, response.Metadata.CreditsConsumed)
	assert.Equal(t, "0", completed.Header.Get(event.HeaderCredits))
	require.Eventually(t, func() bool {
		return strings.Contains(b.slots(), `"id":"e1"`) && !strings.Contains(b.slots(), `"id":"e2"`)
	}, patience30, 5*time.Millisecond)
	close(release)
	b.await("e1")
}

// TestALiftedLimitLetsEverybodyGo who waits, although no execution comes after the change.
func TestALiftedLimitLetsEverybodyGo(t *testing.T) {
	t.Parallel()
	b, seen := newBench(t, oneCall), &underWay{}
	release := make(chan struct{})
	ids := []string{"e1", "e2", "e3", "e4"}
	for _, id := range ids {
		b.fundWith(id, func(r *event.Request) { r.MaxConcurrency = 1 })
	}
	b.start(func(ctx context.Context, c *component.Call) (component.Result, error) {
		seen.begin(c.Execution.ID)
		pass(ctx, release)
		return component.Result{}, nil
	})
	for _, id := range ids[1:] {
		b.awaitKind(id, event.Waiting)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	answered := make(chan error, 1)
	go func() {
		answered <- bus.Answer(ctx, b.bus, query.ServiceIngest, query.Limits, func(context.Context, query.LimitsRequest) (query.LimitsReply, error) {
			return query.LimitsReply{AsOf: clock.System()}, nil
		})
	}()
	t.Cleanup(func() { cancel(); assert.NoError(t, <-answered) })
	require.NoError(t, b.bus.Conn.Publish(subject.Limited("cust_001"), nil))
	require.Eventually(t, func() bool {
		most, _ := seen.seen()
		return most == len(ids)
	}, patience30, 5*time.Millisecond)
	close(release)
	for _, id := range ids {
		b.await(id)
	}
	require.Eventually(t, func() bool { return b.slots() == "{}" }, patience30, 5*time.Millisecond)
}

// TestChildrenCountWithTheirParents: that one may wait for them, and has the customer's only slot.
func TestChildrenCountWithTheirParents(t *testing.T) {
	t.Parallel()
	b := newBench(t, oneCall)
	release := make(chan struct{})
	b.fundWith("e1", func(r *event.Request) { r.MaxConcurrency = 1 })
	b.start(func(ctx context.Context, c *component.Call) (component.Result, error) {
		if c.Execution.ID == "e1" {
			pass(ctx, release)
		}
		return component.Result{}, nil
	})
	b.awaitKind("e1", event.Started)
	b.fundWith("e2", func(r *event.Request) {
		r.MaxConcurrency, r.Parent = 1, &event.Parent{ExecutionID: "e1", Step: "a", Depth: 1}
	})
	b.await("e2")
	close(release)
	b.await("e1")
}

// TestSlotOfADeadWorkersExecutionIsFree when the completed event is there and its worker died before it gave the slot back.
func TestSlotOfADeadWorkersExecutionIsFree(t *testing.T) {
	t.Parallel()
	b := newBench(t, "  concurrency: 1\n"+oneCall)
	b.ackWait = quickAckWait
	b.fund("e1", "", nil)
	began, release := make(chan struct{}), make(chan struct{})
	var dying *Worker
	stop := b.start(func(ctx context.Context, _ *component.Call) (component.Result, error) {
		close(began)
		pass(ctx, release)
		return component.Result{}, nil
	}, func(w *Worker) { dying, w.drainTime = w, time.Millisecond })
	<-began
	dying.bus.Conn.Close()
	b.cancel("e1")
	require.Contains(t, b.slots(), "e1")
	b.start(func(context.Context, *component.Call) (component.Result, error) { return component.Result{}, nil })
	require.Eventually(t, func() bool { return b.slots() == "{}" }, patience30, 5*time.Millisecond)
	close(release)
	require.NoError(t, stop())
}

// TestWhoIsNotLimitedTouchesNoSlot: also when it is woken, or has ended before it is delivered again.
func TestWhoIsNotLimitedTouchesNoSlot(t *testing.T) {
	t.Parallel()
	b, seen := newBench(t, callWaitCall), &calls{}
	without := func(w *Worker) { w.processor.slots = nil }
	b.fund("e1", "", nil)
	b.start(counting(seen), without)
	b.awaitKind("e1", event.Waiting)
	b.signal(subject.Execution{Customer: "cust_001", ID: "e1"}, `1`)
	b.await("e1")
	b.awaitSettled()
	require.NoError(t, b.bus.Due(t.Context(), subject.Execution{Customer: "cust_001", ID: "e1"}.Due()))
	require.Eventually(t, func() bool { return b.delays() <= 1 }, patience30, 5*time.Millisecond, "the call is settled, the delay is left")
	assert.Empty(t, b.slots())
}
