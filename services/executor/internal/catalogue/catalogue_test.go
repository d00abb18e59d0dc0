package catalogue_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/catalogue"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const document = `{"apiVersion": "galley/v1", "kind": "Recipe", "metadata": {"agent": "the-hunter", "id": "discovery"},
	"spec": {"steps": [{"id": "a", "uses": "state.set", "with": {"x": 1}}]}}`

var errDown = errors.New("nats: no responders")

func key() catalogue.Key {
	return catalogue.Key{Customer: "cust_001", Agent: "the-hunter", Recipe: "discovery", Version: 3}
}

func newCatalogue(t *testing.T, bucket catalogue.Bucket) *catalogue.Catalogue {
	t.Helper()
	made, err := catalogue.New(bucket)
	require.NoError(t, err)
	return made
}

func TestFromJetStream(t *testing.T) {
	t.Parallel()
	b, err := bus.New(testkit.NATS(t).Conn(t), bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	require.NoError(t, b.Provision(t.Context()))
	bucket, err := b.JS.KeyValue(t.Context(), subject.BucketRecipes)
	require.NoError(t, err)
	_, err = bucket.Put(t.Context(), "cust_001.the-hunter.discovery.3", []byte(document))
	require.NoError(t, err)

	c := newCatalogue(t, catalogue.FromJetStream(b.JS))
	found, err := c.Recipe(t.Context(), key())
	require.NoError(t, err)
	assert.Equal(t, "discovery", found.ID)
	again, err := c.Recipe(t.Context(), key())
	require.NoError(t, err)
	assert.Same(t, found, again)

	missing := key()
	missing.Version = 4
	_, err = c.Recipe(t.Context(), missing)
	require.ErrorIs(t, err, catalogue.ErrUnavailable)
}

func TestCompilesOnce(t *testing.T) {
	t.Parallel()
	var reads atomic.Int64
	release := make(chan struct{})
	c := newCatalogue(t, func(context.Context, string) ([]byte, error) {
		reads.Add(1)
		<-release
		return []byte(document), nil
	})
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			if i == 10 {
				close(release)
			}
			_, err := c.Recipe(t.Context(), key())
			assert.NoError(t, err)
		})
	}
	group.Wait()
	_, err := c.Recipe(t.Context(), key())
	require.NoError(t, err)
	assert.Less(t, reads.Load(), int64(20))
}

func TestLaggingRead(t *testing.T) {
	t.Parallel()
	reads := 0
	c := newCatalogue(t, func(context.Context, string) ([]byte, error) {
		if reads++; reads < 3 {
			return nil, fmt.Errorf("get: %w", jetstream.ErrKeyNotFound)
		}
		return []byte(document), nil
	})
	_, err := c.Recipe(t.Context(), key())
	require.NoError(t, err)
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		bucket catalogue.Bucket
		final  bool
	}{
		"a document that is no recipe": {func(context.Context, string) ([]byte, error) { return []byte(`{"kind": "Pie"}`), nil }, true},
		"no connection":                {func(context.Context, string) ([]byte, error) { return nil, errDown }, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newCatalogue(t, test.bucket).Recipe(t.Context(), key())
			require.Error(t, err)
			assert.Equal(t, test.final, errors.Is(err, catalogue.ErrUnavailable))
		})
	}
}

func TestGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	c := newCatalogue(t, func(context.Context, string) ([]byte, error) {
		cancel()
		return nil, jetstream.ErrKeyNotFound
	})
	_, err := c.Recipe(ctx, key())
	require.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, catalogue.ErrUnavailable)
}
