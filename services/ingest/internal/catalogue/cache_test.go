package catalogue

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/problem"
)

// source counts what is read from it.
type source struct {
	reads atomic.Int64
	value string
	err   error
}

func (s *source) load(context.Context) (string, error) {
	s.reads.Add(1)
	return s.value, s.err
}

func TestCacheHoldsValuesForTheirTime(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	cache := newCache[string](5*time.Second, 10, clock.Now)
	database := &source{value: "a"}
	get := func(want string, reads int64) {
		t.Helper()
		value, err := cache.get(t.Context(), "k", database.load)
		require.NoError(t, err)
		require.Equal(t, want, value)
		require.Equal(t, reads, database.reads.Load())
	}
	get("a", 1)
	database.value = "b"
	clock.Advance(5*time.Second - 1)
	get("a", 1)
	clock.Advance(1)
	get("b", 2)
	database.value = "c"
	clock.Advance(-time.Hour) // a clock that is set back does not prolong anything
	get("c", 3)
	database.value = "d"
	cache.forget(func(key, value string) bool { return key == "k" && value == "c" })
	get("d", 4)
}

func TestCacheRemembersRefusalsForASecond(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	cache := newCache[string](time.Hour, 10, clock.Now)
	database := &source{err: &problem.Error{Code: problem.NotFound}}
	for range 3 {
		_, err := cache.get(t.Context(), "k", database.load)
		require.ErrorIs(t, err, database.err)
	}
	require.EqualValues(t, 1, database.reads.Load())
	clock.Advance(time.Second)
	database.value, database.err = "there now", nil
	value, err := cache.get(t.Context(), "k", database.load)
	require.NoError(t, err)
	require.Equal(t, "there now", value)
}

func TestCacheUsesStaleValuesWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	cache := newCache[string](time.Second, 10, clock.Now)
	database := &source{value: "a"}
	_, err := cache.get(t.Context(), "k", database.load)
	require.NoError(t, err)

	down := errors.New("connection refused")
	database.err = down
	for clock.Advance(time.Second); clock.Now().Minute() < 5; clock.Advance(10 * time.Second) {
		for range 3 { // of these, one tries to read
			value, err := cache.get(t.Context(), "k", database.load)
			require.NoError(t, err)
			require.Equal(t, "a", value)
		}
	}
	require.EqualValues(t, 31, database.reads.Load())
	_, err = cache.get(t.Context(), "k", database.load)
	require.ErrorIs(t, err, down)
	_, err = cache.get(t.Context(), "never read", database.load)
	require.ErrorIs(t, err, down)
}

func TestCacheKeepsWhatWasUsedLast(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	cache := newCache[string](time.Hour, 3, clock.Now)
	database := &source{}
	for _, key := range []string{"a", "b", "c", "a", "d", "a"} {
		_, err := cache.get(t.Context(), key, database.load)
		require.NoError(t, err)
	}
	require.EqualValues(t, 4, database.reads.Load())
	require.Len(t, cache.entries, 3)
	require.NotContains(t, cache.entries, "b")
}

func TestCacheReadsOnceForEverybodyAndNotFromThePast(t *testing.T) {
	t.Parallel()
	cache := newCache[string](time.Hour, 3, testkit.NewClock(time.Unix(0, 0)).Now)
	entered, release := make(chan struct{}), make(chan struct{})
	var reads atomic.Int64
	slow := func(context.Context) (string, error) { //nolint:unparam // the signature is the cache's
		if reads.Add(1) == 1 {
			close(entered)
			<-release
			return "old", nil
		}
		return "new", nil
	}
	var group sync.WaitGroup
	first, cancel := context.WithCancel(t.Context())
	contexts := []context.Context{first, t.Context(), t.Context()}
	for i := range contexts {
		group.Go(func() {
			value, err := cache.get(contexts[i], "k", slow)
			assert.NoError(t, err)
			assert.Contains(t, []string{"old", "new"}, value) // old only for who came before the change
		})
	}
	<-entered
	cancel() // whoever began the read may go away
	cache.forget(func(string, string) bool { return false })
	value, err := cache.get(t.Context(), "k", slow)
	require.NoError(t, err)
	require.Equal(t, "new", value, "a read that began before the change is not joined")
	close(release)
	group.Wait()
	value, err = cache.get(t.Context(), "k", slow)
	require.NoError(t, err)
	require.Equal(t, "new", value, "and its result is not stored")
	require.EqualValues(t, 2, reads.Load())
}
