package httpapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

//nolint:gochecknoglobals // flags of a test binary have no other place
var update = flag.Bool("update", false, "write the golden files")

const golden = "../../../../schemas/openapi.json"

func TestOpenAPIDocument(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	got := s.call(t, "", "GET", "/openapi.json", nil)
	require.Equal(t, 200, got.status)
	require.Equal(t, "application/openapi+json", got.header.Get("Content-Type"))
	var document bytes.Buffer
	require.NoError(t, json.Indent(&document, got.body, "", "  "))
	document.WriteByte('\n')
	if *update {
		require.NoError(t, os.WriteFile(golden, document.Bytes(), 0o644)) //nolint:gosec // it is part of the repository
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), document.String(), "run: go test ./internal/httpapi -run OpenAPI -update")
}
