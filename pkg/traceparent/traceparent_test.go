package traceparent_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/traceparent"
)

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestContext(t *testing.T) {
	t.Parallel()
	ctx := traceparent.With(t.Context(), parent)
	require.Equal(t, parent, traceparent.From(ctx))
	require.Equal(t, parent, traceparent.From(traceparent.With(ctx, "")), "none does not hide one")
	require.Empty(t, traceparent.From(t.Context()))
}

func TestValid(t *testing.T) {
	t.Parallel()
	require.True(t, traceparent.Valid(parent))
	for _, wrong := range []string{
		"", parent[1:], "01" + parent[2:], strings.ToUpper(parent), strings.Replace(parent, "-01", "_01", 1), parent[:53] + "zz",
		"00-" + strings.Repeat("0", 32) + parent[35:], parent[:36] + strings.Repeat("0", 16) + parent[52:], parent + "\r\n",
	} {
		require.False(t, traceparent.Valid(wrong), wrong)
	}
}
