package bus_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/subject"
)

// TestDelaysComeNotEarlyAndSurviveTheServer: a later delay replaces an earlier one, a message that is due at once does not wait, and
// what is acknowledged is gone.
func TestDelaysComeNotEarlyAndSurviveTheServer(t *testing.T) {
	t.Parallel()
	server := testkit.NATS(t)
	messages := open(t, server)
	one, two, three := subject.Execution{Customer: "c", ID: "one"}, subject.Execution{Customer: "c", ID: "two"}, subject.Execution{Customer: "c", ID: "three"}
	begin := time.Now()
	at := begin.Add(1500 * time.Millisecond)
	require.NoError(t, messages.Delay(t.Context(), one.Delay(), one.Due(), begin.Add(time.Hour)))
	require.NoError(t, messages.Delay(t.Context(), one.Delay(), one.Due(), at))
	require.NoError(t, messages.Delay(t.Context(), two.Delay(), two.Due(), begin.Add(time.Hour)))
	require.NoError(t, messages.Due(t.Context(), three.Due()))
	server.Shutdown()
	server.Restart(t)

	var mu sync.Mutex
	came := map[string]time.Duration{}
	start(t, func(ctx context.Context) error {
		return messages.Consume(ctx, bus.Consumer{
			Stream: subject.StreamDelays, Durable: "test", Filters: []string{subject.AllDueExecutions}, AckWait: 5 * time.Second,
			MaxAckPending: 10, Batch: 10,
		}, func(_ context.Context, batch []jetstream.Msg) {
			mu.Lock()
			defer mu.Unlock()
			for _, message := range batch {
				execution, err := subject.ParseDue(message.Subject())
				require.NoError(t, err)
				came[execution.ID] = time.Since(begin)
				require.NoError(t, message.Ack())
			}
		})
	})
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(came)
	}
	require.Eventually(t, func() bool { return count() == 2 }, 20*time.Second, 20*time.Millisecond)
	require.Contains(t, came, "three")
	require.GreaterOrEqual(t, came["one"], 1500*time.Millisecond)
	stream, err := messages.JS.Stream(t.Context(), subject.StreamDelays)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.Msgs == 1 // the hour's
	}, 20*time.Second, 20*time.Millisecond)
}
