package slot

import (
	"context"
	"fmt"
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
	journals *journals
	clock    *testkit.Clock
}

func setUp(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{
		server: testkit.NATS(t), journals: &journals{known: map[string]journal.Record{}}, clock: testkit.NewClock(time.Now()),
	}
	require.NoError(t, f.connect(t).Provision(t.Context()))
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
