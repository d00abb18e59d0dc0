package bus_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/testkit"
)

// TestReady: a service that says that it is ready can be asked for everything.
func TestReady(t *testing.T) {
	t.Parallel()
	messages, err := bus.New(open(t, testkit.NATS(t)).Conn, bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	require.ErrorIs(t, messages.Ready(t.Context()), bus.ErrNotProvisioned)
	require.NoError(t, messages.Provision(t.Context()))
	require.NoError(t, messages.Ready(t.Context()))
	messages.Conn.Close()
	require.ErrorIs(t, messages.Ready(t.Context()), bus.ErrDisconnected)
}

// TestProvisionUpdatesOnlyWhatChanged: an update, also one that changes nothing, races with the server's own work.
func TestProvisionUpdatesOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	messages := open(t, testkit.NATS(t))
	var mu sync.Mutex
	var updated []string
	_, err := messages.Conn.Subscribe("$JS.EVENT.ADVISORY.STREAM.UPDATED.>", func(message *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		updated = append(updated, message.Subject[strings.LastIndexByte(message.Subject, '.')+1:])
	})
	require.NoError(t, err)
	require.NoError(t, messages.Provision(t.Context()))
	longer, err := bus.New(messages.Conn, bus.Settings{Replicas: 1, JournalRetention: 2 * bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	require.NoError(t, longer.Provision(t.Context()))
	list := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string{}, updated...)
	}
	require.Eventually(t, func() bool { return len(list()) >= 2 }, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, []string{"EXECUTIONS", "KV_signals", "OBJ_files"}, list()) // what is kept as long as the journal
}
