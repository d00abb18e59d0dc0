package cli

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestChooseFree: no port comes twice, and all are addresses that galley takes.
func TestChooseFree(t *testing.T) {
	t.Parallel()
	addresses := make([]string, 500)
	places := make([]*string, len(addresses))
	for i := range addresses {
		places[i] = &addresses[i]
	}
	require.NoError(t, chooseFree(t.Context(), places...))
	seen := map[string]bool{}
	for _, at := range addresses {
		assert.False(t, seen[at], at)
		seen[at] = true
		require.NoError(t, address{variable: "GALLEY_HTTP_ADDR", value: at}.validate())
	}
}
