package secret_test

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	stored "github.com/galley-engine/galley/pkg/secret"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/secret"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// world is a bucket with its keys, and a clock that a test sets.
type world struct {
	server *testkit.NATSServer
	js     jetstream.JetStream
	keys   stored.Keys
	store  *stored.Store
	later  atomic.Int64
	log    bytes.Buffer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{server: testkit.NATS(t)}
	messages, err := bus.New(w.server.Conn(t), bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	require.NoError(t, messages.Provision(t.Context()))
	w.js = messages.JS
	w.keys, err = stored.ParseKeys(stored.NewKey())
	require.NoError(t, err)
	w.store = stored.NewStore(w.js, w.keys, clock.System)
	return w
}

func (w *world) now() time.Time { return time.Unix(w.later.Load(), 0) }

func (w *world) secrets(t *testing.T) *secret.Secrets {
	t.Helper()
	made, err := secret.New(w.js, w.keys, w.now, zerolog.New(&w.log))
	require.NoError(t, err)
	return made
}

func requireUnavailable(t *testing.T, message string, err error) {
	t.Helper()
	refused, ok := errors.AsType[*problem.Error](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, problem.Error{Code: problem.SecretUnavailable, Message: message}, *refused)
}

func TestLookup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.secrets(t)
	require.NoError(t, w.store.Put(t.Context(), "alice", "token", "hunter2"))
	require.NoError(t, w.store.Put(t.Context(), "alice", "pin", "1234"))
	require.NoError(t, w.store.Put(t.Context(), "bob", "token", "of bob"))
	for range 2 {
		found, err := s.Lookup(t.Context(), "alice", []string{"pin", "token"})
		require.NoError(t, err)
		require.Equal(t, map[string]any{"pin": "1234", "token": "hunter2"}, found)
	}
	found, err := s.Lookup(t.Context(), "bob", []string{"token"})
	require.NoError(t, err)
	require.Equal(t, map[string]any{"token": "of bob"}, found)
	found, err = s.Lookup(t.Context(), "bob", nil)
	require.NoError(t, err)
	require.Empty(t, found)
	_, err = s.Lookup(t.Context(), "bob", []string{"token", "pin"})
	requireUnavailable(t, `the secret "pin" is not set`, err)
	assert.Empty(t, w.log.String())
}

func TestChangesAreSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.secrets(t)
	value := func() any {
		found, err := s.Lookup(t.Context(), "alice", []string{"token"})
		require.NoError(t, err)
		return found["token"]
	}
	_, err := s.Lookup(t.Context(), "alice", []string{"token"})
	requireUnavailable(t, `the secret "token" is not set`, err)
	require.NoError(t, w.store.Put(t.Context(), "alice", "token", "one"))
	require.Equal(t, "one", value(), "that it was not there is not remembered")
	require.NoError(t, w.store.Put(t.Context(), "alice", "token", "two"))
	require.Equal(t, "one", value(), "for a moment")
	w.later.Add(2)
	require.Equal(t, "two", value())
	w.later.Add(-1)
	require.NoError(t, w.store.Put(t.Context(), "alice", "token", "three"))
	require.Equal(t, "three", value(), "also when the clock was set back")

	require.NoError(t, w.store.Delete(t.Context(), "alice", "token"))
	w.later.Add(2)
	_, err = s.Lookup(t.Context(), "alice", []string{"token"})
	requireUnavailable(t, `the secret "token" is not set`, err)
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.NoError(t, w.store.Put(t.Context(), "alice", "token", "hunter2"))
	var err error
	w.keys, err = stored.ParseKeys(stored.NewKey())
	require.NoError(t, err)
	_, err = w.secrets(t).Lookup(t.Context(), "alice", []string{"token"})
	requireUnavailable(t, `the secret "token" cannot be opened`, err)
	assert.Contains(t, w.log.String(), `"level":"error"`)
	assert.Contains(t, w.log.String(), "it was sealed with the key")
	assert.NotContains(t, w.log.String(), "hunter2")
}

// An execution waits for NATS and does not fail.
func TestServerAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.secrets(t)
	require.NoError(t, w.store.Put(t.Context(), "alice", "token", "hunter2"))
	w.server.Shutdown()
	_, err := s.Lookup(t.Context(), "alice", []string{"token"})
	require.Error(t, err)
	_, refused := errors.AsType[*problem.Error](err)
	require.False(t, refused)
	w.server.Restart(t)
	require.Eventually(t, func() bool {
		found, err := s.Lookup(t.Context(), "alice", []string{"token"})
		return err == nil && found["token"] == "hunter2"
	}, 30*time.Second, 50*time.Millisecond)
}
