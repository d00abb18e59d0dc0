package slot

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

// journals says how executions stand; one that is not here is under way.
type journals struct {
	mu    sync.Mutex
	known map[string]journal.Record
	looks int
}

func (j *journals) set(id string, record journal.Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.known[id] = record
}

func (j *journals) Last(_ context.Context, execution subject.Execution) (journal.Record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.looks++
	record, found := j.known[execution.ID]
	switch {
	case !found:
		return journal.Record{Kind: event.Step}, nil
	case record.Kind == "":
		return journal.Record{}, journal.ErrNotFound
	}
	return record, nil
}

type fixture struct {
	server   *testkit.NATSServer
	bus      *bus.Bus
	journals *journals
	clock    *testkit.Clock
}

func setUp(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{
		server: testkit.NATS(t), journals: &journals{known: map[string]journal.Record{}}, clock: testkit.NewClock(time.Now()),
	}
	f.bus = f.connect(t)
	require.NoError(t, f.bus.Provision(t.Context()))
	return f
}

func (f *fixture) connect(t *testing.T) *bus.Bus {
	t.Helper()
	made, err := bus.New(f.server.Conn(t), bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	return made
}

// process makes the Slots of one process.
func (f *fixture) process(t *testing.T) *Slots {
	t.Helper()
	return New(f.connect(t), f.journals, f.clock.Now, zerolog.Nop())
}

// TestProcessesThatCollide: random executions of random processes take slots and give them back, all at the same time. No limit is
// exceeded, and all get their turn.
func TestProcessesThatCollide(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	processes := []*Slots{f.process(t), f.process(t), f.process(t)}
	var round atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		customer := fmt.Sprintf("c%d", round.Add(1))
		most := map[string]int{ofCustomer: rapid.IntRange(1, 3).Draw(rt, "customer"), "a.r": rapid.IntRange(1, 3).Draw(rt, "r"), "a.s": 1}
		var mu sync.Mutex
		under := map[string]int{}
		add := func(of []string, n int) (exceeded string) {
			mu.Lock()
			defer mu.Unlock()
			for _, name := range of {
				if under[name] += n; under[name] > most[name] {
					exceeded = name
				}
			}
			return exceeded
		}
		var group sync.WaitGroup
		failures := make(chan string, 100)
		for i := range rapid.IntRange(1, 12).Draw(rt, "executions") {
			recipe := rapid.SampledFrom([]string{"a.r", "a.s"}).Draw(rt, "recipe")
			claim := claimOf(uint64(i), recipe, most[ofCustomer], most[recipe])
			claim.Execution.Customer = customer
			slots := processes[rapid.IntRange(0, 2).Draw(rt, "process")]
			other := processes[rapid.IntRange(0, 2).Draw(rt, "process that takes over")]
			group.Go(func() {
				standing, err := slots.Enter(*claim)
				for err == nil && !standing.Held {
					standing, err = slots.Enter(*claim)
				}
				if err != nil {
					failures <- err.Error()
					return
				}
				if exceeded := add([]string{ofCustomer, recipe}, 1); exceeded != "" {
					failures <- "exceeded: " + exceeded
				}
				if again, err := other.Enter(*claim); err != nil || !again.Held {
					failures <- fmt.Sprintf("the slot is lost: %v %v", again, err)
				}
				add([]string{ofCustomer, recipe}, -1)
				if err := other.Release(claim.Execution); err != nil {
					failures <- err.Error()
				}
			})
		}
		group.Wait()
		close(failures)
		for failed := range failures {
			rt.Fatal(failed)
		}
		found, _, err := processes[0].read(t.Context(), customer)
		require.NoError(rt, err)
		require.Empty(rt, found.Held)
		require.Empty(rt, found.Waiting)
	})
}

// TestWhoFreesASlotWakesTheNext, and only that one.
func TestWhoFreesASlotWakesTheNext(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	slots := f.process(t)
	calls, err := slots.bus.Conn.SubscribeSync(subject.AllDue)
	require.NoError(t, err)
	for ticket := range uint64(3) {
		_, err := slots.Enter(*claimOf(ticket, "a.r", 1, 0))
		require.NoError(t, err)
	}
	require.NoError(t, f.process(t).Release(subject.Execution{Customer: "c", ID: "e0"}))
	call, err := calls.NextMsg(10 * time.Second)
	require.NoError(t, err)
	require.Equal(t, "galley.due.execution.c.e1", call.Subject)
	held, err := slots.Holds(t.Context(), subject.Execution{Customer: "c", ID: "e1"})
	require.NoError(t, err)
	require.True(t, held)
	_, err = calls.NextMsg(50 * time.Millisecond)
	require.ErrorIs(t, err, nats.ErrTimeout)
}

// TestSlotsOfThoseThatHaveEndedAreFound when there are no others, once a second.
func TestSlotsOfThoseThatHaveEndedAreFound(t *testing.T) {
	t.Parallel()
	for name, record := range map[string]journal.Record{"completed": {Kind: event.Completed}, "expired": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			slots := f.process(t)
			enter := func(ticket uint64) bool {
				standing, err := slots.Enter(*claimOf(ticket, "a.r", 0, 2))
				require.NoError(t, err)
				return standing.Held
			}
			require.True(t, enter(0))
			require.True(t, enter(1))
			require.Zero(t, f.journals.looks, "there was a slot")
			require.False(t, enter(2))
			f.journals.set("e1", record)
			require.False(t, enter(3), "it was looked just now")
			require.Equal(t, 2, f.journals.looks)
			f.clock.Advance(lookPause)
			require.False(t, enter(3), "another one waits longer")
			require.True(t, enter(2))
		})
	}
}

// TestAGrantThatWasNotHeardIsRepeated: who gave the slot away died before it called.
func TestAGrantThatWasNotHeardIsRepeated(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	slots := f.process(t)
	_, err := slots.Enter(*claimOf(0, "a.r", 1, 0))
	require.NoError(t, err)
	f.journals.set("e0", journal.Record{Kind: event.Waiting, Data: []byte(`{"waits":[{"slot":"customer"}]}`)})
	calls, err := slots.bus.Conn.SubscribeSync(subject.AllDue)
	require.NoError(t, err)
	_, err = slots.Enter(*claimOf(1, "a.r", 1, 0))
	require.NoError(t, err)
	call, err := calls.NextMsg(10 * time.Second)
	require.NoError(t, err)
	require.Equal(t, "galley.due.execution.c.e0", call.Subject)
}

// limits answers for ingest what limits there are now: of the customer, and of each recipe that is asked for. It counts how often it is asked.
type limits struct {
	mu               sync.Mutex
	customer, recipe int
	asked            []query.LimitsRequest
}

func (l *limits) set(customer, recipe int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.customer, l.recipe = customer, recipe
}

func (l *limits) requests() []query.LimitsRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.asked)
}

func (f *fixture) limits(t *testing.T) *limits {
	t.Helper()
	now := &limits{}
	messages := f.connect(t)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() {
		done <- bus.Answer(ctx, messages, query.ServiceIngest, query.Limits, func(_ context.Context, request query.LimitsRequest) (query.LimitsReply, error) {
			now.mu.Lock()
			defer now.mu.Unlock()
			if request.CustomerID == "c" {
				now.asked = append(now.asked, request)
			}
			reply := query.LimitsReply{AsOf: f.clock.Now(), MaxConcurrency: now.customer}
			for _, of := range request.Recipes {
				reply.Recipes = append(reply.Recipes, query.RecipeLimit{Recipe: of, Version: 2, Concurrency: now.recipe})
			}
			return reply, nil
		})
	}()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	require.Eventually(t, func() bool {
		_, err := bus.Ask[query.LimitsReply](t.Context(), messages, query.ServiceIngest, query.Limits, query.LimitsRequest{})
		return err == nil
	}, 30*time.Second, time.Millisecond)
	return now
}

// awaitCalls waits for calls of these executions, in any order.
func awaitCalls(t *testing.T, calls *nats.Subscription, ids ...string) {
	t.Helper()
	called := make([]string, len(ids))
	for i := range ids {
		call, err := calls.NextMsg(10 * time.Second)
		require.NoError(t, err, "called until now: %v", called)
		execution, err := subject.ParseDue(call.Subject)
		require.NoError(t, err)
		called[i] = execution.ID
	}
	require.ElementsMatch(t, ids, called)
}

// TestAChangedLimitHoldsForThoseThatWait when ingest tells of it, and also when that was lost: then for the first that comes back by itself.
func TestAChangedLimitHoldsForThoseThatWait(t *testing.T) {
	t.Parallel()
	for name, learn := range map[string]func(t *testing.T, f *fixture, slots *Slots){
		"told": func(_ *testing.T, _ *fixture, slots *Slots) { slots.Refresh("c") },
		"lost": func(t *testing.T, f *fixture, slots *Slots) {
			f.clock.Advance(lookPause)
			_, err := slots.Enter(*claimOf(5, "a.r", 2, 3))
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			now, first := f.limits(t), f.process(t)
			now.set(2, 3)
			calls, err := first.bus.Conn.SubscribeSync(subject.AllDue)
			require.NoError(t, err)
			for ticket := range uint64(8) {
				standing, err := first.Enter(*claimOf(ticket, "a.r", 2, 3))
				require.NoError(t, err)
				require.Equal(t, ticket < 2, standing.Held)
			}
			require.Len(t, now.requests(), 1, "once a second")
			require.Equal(t, []query.Recipe{{AgentID: "a", RecipeID: "r"}}, now.requests()[0].Recipes)

			other := f.process(t)
			now.set(0, 3) // the customer's is lifted, the recipe's is not
			learn(t, f, other)
			awaitCalls(t, calls, "e2")
			now.set(0, 5)
			learn(t, f, other)
			awaitCalls(t, calls, "e3", "e4")
			now.set(0, 0)
			if name == "lost" { // e5 gets a slot by its own operation
				learn(t, f, other)
				awaitCalls(t, calls, "e6", "e7")
				return
			}
			learn(t, f, other)
			awaitCalls(t, calls, "e5", "e6", "e7")
			asked := len(now.requests())
			other.Refresh("c")
			other.Refresh("nobody")
			require.Len(t, now.requests(), asked, "nobody waits")
		})
	}
}

// TestThoseBeyondTheTableAreCalled when a limit is lifted: of a queue that is longer than a table nobody is left behind. Who sleeps for another
// reason sleeps on.
func TestThoseBeyondTheTableAreCalled(t *testing.T) {
	t.Parallel()
	const queue = maxWaiting + 50
	for name, learn := range map[string]func(*testing.T, *fixture, *Slots){
		"told": func(_ *testing.T, _ *fixture, slots *Slots) { slots.Refresh("c") },
		"lost": func(t *testing.T, f *fixture, slots *Slots) {
			f.clock.Advance(lookPause)
			_, err := slots.Enter(*claimOf(queue, "a.r", 1, 0))
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			now, slots := f.limits(t), f.process(t)
			now.set(1, 0)
			var waiting []string
			for ticket := range uint64(queue + 1) {
				claim := claimOf(ticket, "a.r", 1, 0)
				standing, err := slots.Enter(*claim)
				require.NoError(t, err)
				if require.Equal(t, ticket == 0, standing.Held); ticket > 0 {
					f.sleep(t, claim.Execution, `{"waits":[{"slot":"customer"}]}`)
					waiting = append(waiting, claim.Execution.ID)
				}
			}
			f.sleep(t, subject.Execution{Customer: "c", ID: "approval"}, `{"waits":[{"approval":"a"}]}`)
			f.sleep(t, subject.Execution{Customer: "d", ID: "another"}, `{"waits":[{"slot":"customer"}]}`)
			calls, err := slots.bus.Conn.SubscribeSync(subject.AllDue)
			require.NoError(t, err)
			now.set(0, 0)
			learn(t, f, f.process(t))
			if name == "lost" {
				waiting = waiting[:queue-1] // the last one has its slot, and knows it
			}
			awaitCalls(t, calls, waiting...)
			_, err = calls.NextMsg(50 * time.Millisecond)
			require.ErrorIs(t, err, nats.ErrTimeout)
		})
	}
}

// sleep has an execution be put down, as far as the journal and the stream of delays know.
func (f *fixture) sleep(t *testing.T, execution subject.Execution, checkpoint string) {
	t.Helper()
	f.journals.set(execution.ID, journal.Record{Kind: event.Waiting, Data: []byte(checkpoint)})
	require.NoError(t, f.bus.Delay(t.Context(), execution.Delay(), execution.Due(), time.Now().Add(time.Hour)))
}

// TestALoweredLimitHoldsForThoseThatWait: who has a slot keeps it, and nobody gets another until there are fewer.
func TestALoweredLimitHoldsForThoseThatWait(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	now, slots := f.limits(t), f.process(t)
	now.set(4, 0)
	for ticket := range uint64(6) {
		_, err := slots.Enter(*claimOf(ticket, "a.r", 4, 0))
		require.NoError(t, err)
	}
	now.set(2, 0)
	slots.Refresh("c")
	calls, err := slots.bus.Conn.SubscribeSync(subject.AllDue)
	require.NoError(t, err)
	for ticket := range uint64(3) {
		require.NoError(t, slots.Release(claimOf(ticket, "a.r", 4, 0).Execution))
	}
	awaitCalls(t, calls, "e4")
	_, err = calls.NextMsg(50 * time.Millisecond)
	require.ErrorIs(t, err, nats.ErrTimeout)
}

// TestWhileIngestIsAway what is known goes on to hold.
func TestWhileIngestIsAway(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	slots := f.process(t)
	for ticket := range uint64(3) {
		standing, err := slots.Enter(*claimOf(ticket, "a.r", 2, 0))
		require.NoError(t, err)
		require.Equal(t, ticket < 2, standing.Held)
	}
	slots.Refresh("c")
	held, err := slots.Holds(t.Context(), subject.Execution{Customer: "c", ID: "e2"})
	require.NoError(t, err)
	require.False(t, held)
}
