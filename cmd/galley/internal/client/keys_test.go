package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	answers := map[string]string{
		"GET /api/v1/customers/a%2Fb/keys ":               `{"items":[{"key_id":"key_1","name":"first"}],"next_cursor":"c"}`,
		"GET /api/v1/customers/a%2Fb/keys?cursor=c ":      `{"items":[{"key_id":"key_2","revoked_at":"2026-01-02T03:04:05Z"}]}`,
		`POST /api/v1/customers/a%2Fb/keys {"name":"ci"}`: `{"key_id":"key_3","name":"ci","api_key":"gk_abc"}`,
		"DELETE /api/v1/customers/a%2Fb/keys/key_1 ":      "",
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		answer, known := answers[r.Method+" "+r.RequestURI+" "+string(body)]
		if !known {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	c := client.New(server.URL, "")
	t.Cleanup(c.Close)
	keys, err := c.Keys(t.Context(), "a/b")
	require.NoError(t, err)
	require.Len(t, keys, 2, "every page is read")
	require.Equal(t, "key_1", keys[0].KeyID)
	require.Nil(t, keys[0].RevokedAt)
	require.NotNil(t, keys[1].RevokedAt)
	made, err := c.CreateKey(t.Context(), "a/b", "ci")
	require.NoError(t, err)
	require.Equal(t, client.NewKey{KeyID: "key_3", Secret: "gk_abc"}, made)
	require.NoError(t, c.RevokeKey(t.Context(), "a/b", "key_1"))
}
