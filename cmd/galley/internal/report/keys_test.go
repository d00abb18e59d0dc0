package report

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := New(&out, nil)
	revoked := at(7)
	r.Keys(nil)
	r.Keys([]client.Key{{KeyID: "key_1", Name: "first\x1b", CreatedAt: at(5)}, {KeyID: "key_2", Name: "ci", CreatedAt: at(6), RevokedAt: &revoked}})
	r.NewKey(client.NewKey{KeyID: "key_3", Secret: "gk_abc"})
	require.Equal(t, `  there are no API keys
  key     name     created (UTC)         revoked (UTC)
  key_1   first    2026-01-02 03:04:05
  key_2   ci       2026-01-02 03:04:06   2026-01-02 03:04:07
  key       key_3
  API key   gk_abc
  keep it now: it is not shown again
`, out.String())
}
