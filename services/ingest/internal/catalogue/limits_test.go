package catalogue_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

func TestResolvePinsTheCustomersLimit(t *testing.T) {
	t.Parallel()
	c := newWorld(t).process(t, clock.System)
	customer(t, c, "alice")
	_, _, err := c.Publish(t.Context(), "alice", soup("a"), author())
	require.NoError(t, err)
	pinned := func() int {
		t.Helper()
		found, err := c.Resolve(t.Context(), "alice", "cook", "soup", 0)
		require.NoError(t, err)
		return found.MaxConcurrency
	}
	require.Zero(t, pinned())
	require.NoError(t, c.SetLimits(t.Context(), "alice", catalogue.Limits{MaxConcurrency: new(5)}, author()))
	require.Equal(t, 5, pinned())
	require.NoError(t, c.SetVars(t.Context(), "alice", []byte(`{"greeting":"hello"}`), author()))
	require.Equal(t, 5, pinned())
	require.NoError(t, c.SetLimits(t.Context(), "alice", catalogue.Limits{}, author()))
	require.Zero(t, pinned())

	requireCode(t, problem.NotFound, c.SetLimits(t.Context(), "nobody", catalogue.Limits{}, author()))
	for _, wrong := range []int{0, -1, 1001} {
		requireCode(t, problem.InvalidRequest, c.SetLimits(t.Context(), "alice", catalogue.Limits{MaxConcurrency: &wrong}, author()))
	}
}
