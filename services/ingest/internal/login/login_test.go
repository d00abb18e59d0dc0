package login_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
	"github.com/galley-engine/galley/services/ingest/internal/login"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// recorder keeps what is recorded, unless it is away.
type recorder struct {
	mu      sync.Mutex
	away    bool
	entries []activity.Entry
	came    chan struct{}
}

func (r *recorder) Record(_ context.Context, entries ...activity.Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return errors.New("away")
	}
	r.entries = append(r.entries, entries...)
	select {
	case r.came <- struct{}{}:
	default:
	}
	return nil
}

// counted is how many denials were told in all, and in how many entries.
func (r *recorder) counted() (count, entries int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, entry := range r.entries {
		if told := countOf(&entry); told > 0 {
			count += told
			entries++
		}
	}
	return count, entries
}

// countOf is 0 for a login.
func countOf(entry *activity.Entry) int {
	told, _ := entry.After.(map[string]any)
	count, _ := told["count"].(int)
	return count
}

type bench struct {
	*login.Log
	*recorder
	clock *testkit.Clock
	stop  func()
}

func newBench(t require.TestingT) *bench {
	b := &bench{
		recorder: &recorder{came: make(chan struct{}, 1)},
		clock:    testkit.NewClock(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)),
	}
	b.Log = login.New(b.recorder, b.clock.Now, zerolog.Nop())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return b
}

func TestLoginsAreRecordedOnceInAWindow(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	defer b.stop()
	for _, address := range []string{"10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.1"} {
		b.Authenticated("abcd", address, trace)
	}
	b.Authenticated("ef01", "10.0.0.1", trace)
	b.clock.Advance(login.Window - time.Second)
	b.Authenticated("abcd", "10.0.0.1", trace)
	b.clock.Advance(time.Second)
	b.Authenticated("abcd", "10.0.0.1", trace)
	b.stop()
	var told []string
	for _, entry := range b.entries {
		require.Equal(t, []any{"", event.ActionOperatorAuthenticated, "operator", "operator:operator", trace, event.Status("")}, []any{
			entry.Customer, entry.Action, entry.ResourceID, entry.Author.Actor.String(), entry.Author.Trace, entry.Outcome,
		})
		told = append(told, fmt.Sprint(entry.After))
	}
	require.Equal(t, []string{
		"map[address:10.0.0.1 fingerprint:abcd]", "map[address:10.0.0.2 fingerprint:abcd]", "map[address:10.0.0.1 fingerprint:ef01]",
		"map[address:10.0.0.1 fingerprint:abcd]",
	}, told)
}

func TestDenialsAreCounted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	defer b.stop()
	for range 1000 {
		b.Denied(event.ActionKeyDenied, "10.0.0.1", trace)
	}
	b.Denied(event.ActionOperatorDenied, "10.0.0.1", trace)
	b.clock.Advance(login.Window)
	b.Denied(event.ActionKeyDenied, "10.0.0.1", trace)
	b.Denied(event.ActionKeyDenied, "10.0.0.1", trace)
	b.stop()
	var told []string
	for _, entry := range b.entries {
		require.Equal(t, []any{"", "anonymous:anonymous", event.StatusFailed}, []any{entry.Customer, entry.Author.Actor.String(), entry.Outcome})
		told = append(told, fmt.Sprintf("%s %s %d %d", entry.Action, entry.ResourceID, countOf(&entry), len(entry.Author.Trace)))
	}
	require.Equal(t, []string{
		"api_key.denied unknown 1 55", "operator.denied operator 1 55", "api_key.denied unknown 1000 55", "api_key.denied unknown 1 0",
	}, told, "at once, and then what came meanwhile with the next one or at the end")
}

// TestNobodyFloodsTheLog: whatever comes from however many addresses, every denial is counted, in few activities.
func TestNobodyFloodsTheLog(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := newBench(t)
		defer b.stop()
		sent, windows := 0, 1
		for range rapid.IntRange(1, 8).Draw(t, "rounds") {
			addresses := rapid.IntRange(1, 3*login.MaxPlaces).Draw(t, "addresses")
			for range rapid.IntRange(1, 3).Draw(t, "times") {
				for i := range addresses {
					b.Denied(event.ActionKeyDenied, fmt.Sprintf("10.0.%d.%d", i/256, i%256), trace)
					sent++
				}
			}
			if rapid.Bool().Draw(t, "later") {
				b.clock.Advance(login.Window)
				windows++
			}
		}
		b.stop()
		count, entries := b.counted()
		require.Equal(t, sent, count, "every one is counted")
		require.LessOrEqual(t, entries, (windows+1)*(3*login.MaxPlaces+1))
	})
}

// TestALoginIsNotForgottenWhileTheDatabaseIsAway, and one for which there is no room is recorded with the next request.
func TestALoginIsNotForgottenWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	defer b.stop()
	b.mu.Lock()
	b.away = true
	b.mu.Unlock()
	for i := range 1000 {
		b.Denied(event.ActionKeyDenied, fmt.Sprintf("10.0.%d.%d", i/256, i%256), trace)
	}
	b.Authenticated("abcd", "10.0.0.1", trace)
	b.mu.Lock()
	b.away = false
	b.mu.Unlock()
	<-b.came
	require.Eventually(t, func() bool {
		b.Authenticated("abcd", "10.0.0.1", trace)
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.entries[len(b.entries)-1].Action == event.ActionOperatorAuthenticated
	}, 30*time.Second, time.Millisecond)
	b.stop()
	count, _ := b.counted()
	require.Equal(t, 1000, count)
}
