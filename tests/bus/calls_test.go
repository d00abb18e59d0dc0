package bus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/subject"
)

// TestCalls: a call is made again when it failed or came too early, is gone when it was answered, and is a dead letter when it cannot be read.
func TestCalls(t *testing.T) {
	t.Parallel()
	messages := open(t, testkit.NATS(t))
	var mu sync.Mutex
	looks := map[string]int{}
	var sweeps atomic.Int32
	failing := errors.New("away")
	start(t, func(ctx context.Context) error {
		return bus.Calls{
			Durable: "test", Filter: subject.AllDuePeriods, AckWait: 5 * time.Second,
			Look: func(_ context.Context, call jetstream.Msg) (time.Duration, error) {
				customer, err := subject.ParsePeriodDue(call.Subject())
				if err != nil {
					return 0, fmt.Errorf("%w: %w", bus.ErrUnreadable, err)
				}
				mu.Lock()
				defer mu.Unlock()
				looks[customer]++
				switch {
				case customer == "failing" && looks[customer] == 1:
					return 0, failing
				case customer == "early" && looks[customer] < 3:
					return 10 * time.Millisecond, nil
				}
				return 0, nil
			},
			Sweep: func(context.Context) error {
				if sweeps.Add(1) < 3 {
					return failing
				}
				return nil
			},
		}.Answer(ctx, messages)
	})
	for _, customer := range []string{"failing", "early", "punctual", "a:b"} {
		require.NoError(t, messages.Due(t.Context(), subject.PeriodDue(customer)))
	}
	left := func(stream string) uint64 {
		found, err := messages.JS.Stream(t.Context(), stream)
		require.NoError(t, err)
		return found.CachedInfo().State.Msgs
	}
	require.Eventually(t, func() bool { return left(subject.StreamDelays) == 0 && sweeps.Load() == 3 }, 20*time.Second, 5*time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, map[string]int{"failing": 2, "early": 3, "punctual": 1}, looks)
	require.Equal(t, uint64(1), left(subject.StreamDeadLetters))
}

func TestEarly(t *testing.T) {
	t.Parallel()
	now := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	for after, want := range map[time.Duration]time.Duration{
		-time.Second: 0, 0: 0, time.Millisecond: time.Millisecond, 4 * time.Second: 4 * time.Second, 5 * time.Second: 0, time.Hour: 0,
	} {
		require.Equal(t, want, bus.Early(now.Add(after), now), after)
	}
}
