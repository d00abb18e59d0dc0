package catalogue_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

func TestPublishGivesVersionsToContent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.process(t, clock.System)
	customer(t, c, "alice")
	for _, step := range []struct {
		document string
		version  int
		created  bool
	}{
		{string(soup("a")), 1, true},
		{string(soup("a")), 1, false},
		{"# a comment changes nothing\n" + string(soup("a")), 1, false},
		{`{"spec":{"steps":[{"with":{"said":"${vars.greeting}"},"uses":"state.set","id":"remember"}]},
		   "metadata":{"agent":"cook","id":"soup","description":"a"},"kind":"Recipe","apiVersion":"galley/v1"}`, 1, false},
		{string(soup("b")), 2, true},
		{string(soup("a")), 1, false}, // a late repetition does not roll anything back
	} {
		published, created, err := c.Publish(t.Context(), "alice", []byte(step.document), author())
		require.NoError(t, err)
		require.Equal(t, step.version, published.Version)
		require.Equal(t, step.created, created)
	}
	pinned, err := c.Resolve(t.Context(), "alice", "cook", "soup", 0)
	require.NoError(t, err)
	require.Equal(t, 2, pinned.Version)
	requireBucketTrue(t, w, c, 2)
}

// requireBucketTrue checks that the bucket holds what the database says, for versions 1 to latest of alice's soup.
func requireBucketTrue(t *testing.T, w *world, c *catalogue.Catalogue, latest int) {
	t.Helper()
	bucket, err := w.bus(t).JS.KeyValue(t.Context(), subject.BucketRecipes)
	require.NoError(t, err)
	for version := 1; version <= latest; version++ {
		stored, err := c.Recipe(t.Context(), "alice", "cook", "soup", version)
		require.NoError(t, err)
		require.Equal(t, latest, stored.Latest)
		entry, err := bucket.Get(t.Context(), subject.RecipeKey("alice", "cook", "soup", version))
		require.NoError(t, err)
		require.Equal(t, string(stored.Document), string(entry.Value()))
	}
}

func TestPublishRefuses(t *testing.T) {
	t.Parallel()
	c := newWorld(t).process(t, clock.System)
	_, _, err := c.Publish(t.Context(), "alice", soup("a"), author())
	requireCode(t, problem.NotFound, err)
	require.ErrorContains(t, err, `there is no agent "cook"`)

	_, _, err = c.Publish(t.Context(), "alice", []byte("kind: Recipe\nspec: {steps: []}"), author())
	requireCode(t, problem.InvalidRecipe, err)
	var invalid *catalogue.RecipeError
	require.ErrorAs(t, err, &invalid)
	require.Greater(t, len(invalid.Problems), 1)
}

func TestConcurrentPublications(t *testing.T) {
	t.Parallel()
	const contents, copies = 6, 3
	w := newWorld(t)
	processes := []*catalogue.Catalogue{w.process(t, clock.System), w.process(t, clock.System)}
	customer(t, processes[0], "alice")
	var mu sync.Mutex
	var group sync.WaitGroup
	versions, made := map[string]int{}, 0
	for i := range contents * copies {
		group.Go(func() {
			content := strconv.Itoa(i % contents)
			published, created, err := processes[i%2].Publish(t.Context(), "alice", soup(content), author())
			mu.Lock()
			defer mu.Unlock()
			if created {
				made++
			}
			if before, found := versions[content]; err != nil || found && before != published.Version {
				t.Errorf("content %s: version %d, before %d, %v", content, published.Version, before, err)
			}
			versions[content] = published.Version
		})
	}
	group.Wait()
	require.Equal(t, contents, made)
	distinct := map[int]bool{}
	for _, version := range versions {
		distinct[version] = true
	}
	require.Len(t, distinct, contents)
	requireBucketTrue(t, w, processes[0], contents)
}

// intercepted lets a test act in the middle of a publication: when the version is about to be put into the bucket.
type intercepted struct {
	jetstream.JetStream
	create func(put func() error) error
}

func intercept(create func(put func() error) error) func(jetstream.JetStream) jetstream.JetStream {
	return func(js jetstream.JetStream) jetstream.JetStream { return intercepted{js, create} }
}

func (i intercepted) KeyValue(ctx context.Context, name string) (jetstream.KeyValue, error) {
	bucket, err := i.JetStream.KeyValue(ctx, name)
	return interceptedBucket{bucket, i.create}, err
}

type interceptedBucket struct {
	jetstream.KeyValue
	create func(put func() error) error
}

func (b interceptedBucket) Create(
	ctx context.Context, key string, value []byte, options ...jetstream.KVCreateOpt,
) (revision uint64, err error) {
	err = b.create(func() error {
		revision, err = b.KeyValue.Create(ctx, key, value, options...)
		return err
	})
	return revision, err
}

func TestCrashBetweenBucketAndCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var crashed atomic.Bool
	crash := errors.New("killed")
	c := w.process(t, clock.System, intercept(func(put func() error) error {
		if err := put(); err != nil || !crashed.CompareAndSwap(false, true) {
			return err
		}
		return crash
	}))
	customer(t, c, "alice")
	_, _, err := c.Publish(t.Context(), "alice", soup("lost"), author())
	require.ErrorIs(t, err, crash)
	requireCode(t, problem.Unavailable, err)
	_, err = c.Resolve(t.Context(), "alice", "cook", "soup", 0)
	requireCode(t, problem.NotFound, err)

	published, created, err := c.Publish(t.Context(), "alice", soup("kept"), author())
	require.NoError(t, err)
	require.True(t, created)
	require.Equal(t, 1, published.Version)
	requireBucketTrue(t, w, c, 1)
}

func TestRepeatedPublicationAfterCrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var crashed atomic.Bool
	c := w.process(t, clock.System, intercept(func(put func() error) error {
		return errors.Join(put(), map[bool]error{true: os.ErrClosed}[crashed.CompareAndSwap(false, true)])
	}))
	customer(t, c, "alice")
	_, _, err := c.Publish(t.Context(), "alice", soup("a"), author())
	require.ErrorIs(t, err, os.ErrClosed)
	published, created, err := c.Publish(t.Context(), "alice", soup("a"), author())
	require.NoError(t, err)
	require.True(t, created)
	require.Equal(t, 1, published.Version)
	requireBucketTrue(t, w, c, 1)
}

// A process that loses the recipe's lock without noticing must not overwrite what the next holder of the lock has published.
func TestCutOffPublisherOverwritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.process(t, clock.System)
	customer(t, other, "alice")
	slow := w.process(t, clock.System, intercept(func(put func() error) error {
		_, err := w.pool(t, "postgres").Exec(t.Context(), `SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a
			 JOIN pg_locks l USING (pid) WHERE l.relation = 'ingest.recipe_versions'::regclass AND a.pid <> pg_backend_pid()`)
		if err != nil {
			return err
		}
		if _, _, err := other.Publish(t.Context(), "alice", soup("winner"), author()); err != nil {
			return err
		}
		return put()
	}))
	_, _, err := slow.Publish(t.Context(), "alice", soup("loser"), author())
	require.ErrorIs(t, err, jetstream.ErrKeyExists)
	requireCode(t, problem.Unavailable, err)
	requireBucketTrue(t, w, other, 1)
	stored, err := other.Recipe(t.Context(), "alice", "cook", "soup", 1)
	require.NoError(t, err)
	require.Equal(t, "winner", stored.Description)
}
