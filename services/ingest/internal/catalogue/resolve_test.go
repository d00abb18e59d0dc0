package catalogue_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

func TestResolvePinsRecipeAndVars(t *testing.T) {
	t.Parallel()
	c := newWorld(t).process(t, clock.System)
	customer(t, c, "alice")
	for _, content := range []string{"a", "b"} {
		_, _, err := c.Publish(t.Context(), "alice", soup(content), author())
		require.NoError(t, err)
	}
	resolve := func(version int) *catalogue.Pinned {
		t.Helper()
		pinned, err := c.Resolve(t.Context(), "alice", "cook", "soup", version)
		require.NoError(t, err)
		return pinned
	}
	require.Empty(t, resolve(0).Vars)
	require.NoError(t, c.SetVars(t.Context(), "alice", []byte(`{"greeting":"hello","other":1}`), author()))
	require.Equal(t, map[string]any{"greeting": "hello"}, resolve(0).Vars, "the recipe reads no more")
	require.Equal(t, []int{2, 1, 2}, []int{resolve(0).Version, resolve(1).Version, resolve(2).Version})
	require.Equal(t, "a", resolve(1).Recipe.Description)
	require.Same(t, resolve(1).Recipe, resolve(1).Recipe)

	for _, unknown := range []struct {
		agent, recipe, text string
		version             int
	}{
		{"cook", "stew", `agent "cook" has no recipe "stew"`, 0},
		{"nobody", "soup", `agent "nobody" has no recipe "soup"`, 0},
		{"cook", "soup", `agent "cook" has no version 3 of a recipe "soup"`, 3},
		{"cook", "soup", `agent "cook" has no version 3000000000 of a recipe "soup"`, 3_000_000_000},
	} {
		_, err := c.Resolve(t.Context(), "alice", unknown.agent, unknown.recipe, unknown.version)
		requireCode(t, problem.NotFound, err)
		require.ErrorContains(t, err, unknown.text)
	}
	_, _, err := c.Publish(t.Context(), "alice", soup("c"), author())
	require.NoError(t, err)
	require.Equal(t, "c", resolve(3).Recipe.Description, "that it was unknown is forgotten at once")
}

// With clocks that stand still nothing expires: only the news of a change can make other processes see it.
func TestChangesReachOtherProcesses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	still := testkit.NewClock(time.Now()).Now
	here, there := w.process(t, still), w.process(t, still)
	customer(t, here, "alice")
	_, err := there.Resolve(t.Context(), "alice", "cook", "soup", 0)
	requireCode(t, problem.NotFound, err)

	for version, content := range []string{"a", "b"} {
		_, _, err := here.Publish(t.Context(), "alice", soup(content), author())
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			pinned, err := there.Resolve(t.Context(), "alice", "cook", "soup", 0)
			return err == nil && pinned.Version == version+1
		}, 30*time.Second, time.Millisecond)
	}
	require.NoError(t, here.SetVars(t.Context(), "alice", []byte(`{"greeting":"hello"}`), author()))
	require.Eventually(t, func() bool {
		pinned, err := there.Resolve(t.Context(), "alice", "cook", "soup", 0)
		return err == nil && pinned.Vars["greeting"] == "hello"
	}, 30*time.Second, time.Millisecond)
}

func TestExecutionsGoOnWhilePostgresIsAway(t *testing.T) {
	t.Parallel()
	server := testkit.PostgresServer(t)
	w := worldOn(t, server.URL())
	before := w.process(t, clock.System)
	secret := customer(t, before, "alice")
	_, _, err := before.Publish(t.Context(), "alice", soup("a"), author())
	require.NoError(t, err)
	admin := w.pool(t, "postgres")
	require.Eventually(t, func() bool {
		var waiting int
		return admin.QueryRow(t.Context(), `SELECT count(*) FROM ingest.outbox`).Scan(&waiting) == nil && waiting == 0
	}, 30*time.Second, time.Millisecond)
	// A process that starts now hears of none of these changes any more, which would have it read again.
	now := testkit.NewClock(time.Now())
	c := w.process(t, now.Now)
	run := func() error {
		if _, err := c.Authenticate(t.Context(), secret); err != nil {
			return err
		}
		_, err := c.Resolve(t.Context(), "alice", "cook", "soup", 0)
		return err
	}
	require.NoError(t, run())
	server.Stop(t)
	for range 3 {
		now.Advance(10 * time.Second)
		require.NoError(t, run())
	}
	_, err = c.Resolve(t.Context(), "alice", "cook", "stew", 0)
	requireCode(t, problem.Unavailable, err)
	require.ErrorContains(t, err, "cannot be reached")
	_, _, err = c.Publish(t.Context(), "alice", soup("b"), author())
	requireCode(t, problem.Unavailable, err)

	server.Start(t)
	require.Eventually(t, func() bool {
		_, _, err := c.Publish(t.Context(), "alice", soup("b"), author())
		return err == nil
	}, 30*time.Second, 10*time.Millisecond)
	pinned, err := c.Resolve(t.Context(), "alice", "cook", "soup", 0)
	require.NoError(t, err)
	require.Equal(t, 2, pinned.Version)
}
