// Package secret_test tries pkg/secret on a real server.
package secret_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/secret"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/subject"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func jetStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	messages, err := bus.New(testkit.NATS(t).Conn(t), bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	require.NoError(t, messages.Provision(t.Context()))
	return messages.JS
}

func store(t *testing.T, js jetstream.JetStream, now clock.Clock) *secret.Store {
	t.Helper()
	keys, err := secret.ParseKeys(secret.NewKey())
	require.NoError(t, err)
	return secret.NewStore(js, keys, now)
}

func TestLife(t *testing.T) {
	t.Parallel()
	js := jetStream(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	s := store(t, js, func() time.Time { return now })
	begin := now
	require.NoError(t, s.Put(t.Context(), "alice", "token", "hunter2"))
	require.NoError(t, s.Put(t.Context(), "bob", "token", "of bob"))
	now = now.Add(time.Hour)
	require.NoError(t, s.Put(t.Context(), "alice", "token", "hunter3"))
	require.NoError(t, s.Put(t.Context(), "alice", "another", "x"))

	value, err := s.Get(t.Context(), "alice", "token")
	require.NoError(t, err)
	assert.Equal(t, "hunter3", value)
	list, err := s.List(t.Context(), "alice")
	require.NoError(t, err)
	assert.Equal(t, []secret.Info{{Name: "another", CreatedAt: now, UpdatedAt: now}, {Name: "token", CreatedAt: begin, UpdatedAt: now}}, list)

	require.NoError(t, s.Delete(t.Context(), "alice", "token"))
	require.ErrorIs(t, s.Delete(t.Context(), "alice", "token"), secret.ErrNotSet)
	_, err = s.Get(t.Context(), "alice", "token")
	require.ErrorIs(t, err, secret.ErrNotSet)
	list, err = s.List(t.Context(), "alice")
	require.NoError(t, err)
	assert.Len(t, list, 1)
	value, err = s.Get(t.Context(), "bob", "token")
	require.NoError(t, err)
	assert.Equal(t, "of bob", value)
	list, err = s.List(t.Context(), "carol")
	require.NoError(t, err)
	assert.Empty(t, list)
}

// What is stored tells nothing, and what was deleted is gone from the stream.
func TestNothingCanBeReadInTheStream(t *testing.T) {
	t.Parallel()
	js := jetStream(t)
	s := store(t, js, clock.System)
	require.NoError(t, s.Put(t.Context(), "alice", "token", "hunter2"))
	bucket, err := js.KeyValue(t.Context(), subject.BucketSecrets)
	require.NoError(t, err)
	entry, err := bucket.Get(t.Context(), "alice.token")
	require.NoError(t, err)
	assert.NotContains(t, string(entry.Value()), "hunter2")

	// Moved to another customer or name, it cannot be opened.
	for _, to := range []string{"bob.token", "alice.other"} {
		_, err = bucket.Put(t.Context(), to, entry.Value())
		require.NoError(t, err)
	}
	_, err = s.Get(t.Context(), "bob", "token")
	require.ErrorIs(t, err, secret.ErrUnreadable)
	_, err = s.Get(t.Context(), "alice", "other")
	require.ErrorIs(t, err, secret.ErrUnreadable)

	require.NoError(t, s.Delete(t.Context(), "alice", "token"))
	history, err := bucket.History(t.Context(), "alice.token")
	require.NoError(t, err)
	require.Len(t, history, 1)
	assert.Empty(t, history[0].Value())
}

func TestUnreadableSecrets(t *testing.T) {
	t.Parallel()
	js := jetStream(t)
	s := store(t, js, clock.System)
	bucket, err := js.KeyValue(t.Context(), subject.BucketSecrets)
	require.NoError(t, err)
	_, err = bucket.Put(t.Context(), "alice.damaged", []byte("{"))
	require.NoError(t, err)
	require.NoError(t, store(t, js, clock.System).Put(t.Context(), "alice", "foreign", "x"))
	for _, name := range []string{"damaged", "foreign"} {
		_, err = s.Get(t.Context(), "alice", name)
		require.ErrorIs(t, err, secret.ErrUnreadable)
	}
	list, err := s.List(t.Context(), "alice")
	require.NoError(t, err)
	assert.Len(t, list, 2)
	require.NoError(t, s.Delete(t.Context(), "alice", "damaged"))
	require.NoError(t, s.Put(t.Context(), "alice", "foreign", "mine"))
	value, err := s.Get(t.Context(), "alice", "foreign")
	require.NoError(t, err)
	assert.Equal(t, "mine", value)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	js := jetStream(t)
	s := store(t, js, clock.System)
	require.ErrorIs(t, s.Put(t.Context(), "alice", "a.b", "x"), secret.ErrInvalidName)
	require.ErrorIs(t, s.Put(t.Context(), "alice", "a", ""), secret.ErrInvalidValue)
	require.ErrorIs(t, s.Delete(t.Context(), "alice", ">"), secret.ErrInvalidName)
	_, err := s.Get(t.Context(), "alice", "*")
	require.ErrorIs(t, err, secret.ErrNotSet)
	require.ErrorIs(t, secret.NewStore(js, secret.Keys{}, clock.System).Put(t.Context(), "alice", "a", "x"), secret.ErrNoKey)

	for i := range secret.MaxSecrets {
		require.NoError(t, s.Put(t.Context(), "alice", fmt.Sprintf("s%d", i), "x"))
	}
	require.ErrorIs(t, s.Put(t.Context(), "alice", "more", "x"), secret.ErrTooMany)
	require.NoError(t, s.Put(t.Context(), "alice", "s0", "y"))
	require.NoError(t, s.Put(t.Context(), "bob", "more", "x"))
}

func TestServerAway(t *testing.T) {
	t.Parallel()
	server := testkit.NATS(t)
	js, err := jetstream.New(server.Conn(t))
	require.NoError(t, err)
	s := store(t, js, clock.System)
	_, err = s.Get(t.Context(), "alice", "token")
	require.ErrorIs(t, err, jetstream.ErrBucketNotFound)
	server.Shutdown()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Get(ctx, "alice", "token")
	require.Error(t, err)
	require.NotErrorIs(t, err, secret.ErrNotSet)
}
