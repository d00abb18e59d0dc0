package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/schemas/problem"
)

func TestAudit(t *testing.T) {
	t.Parallel()
	answers := map[string]string{
		"/api/v1/audit/events?action_type=a.b&customer_id=c&limit=3":          `{"items":[{"event_id":"1"}],"next_cursor":"x"}`,
		"/api/v1/audit/events?action_type=a.b&cursor=x&customer_id=c&limit=2": `{"items":[],"next_cursor":"y"}`,
		"/api/v1/audit/events?action_type=a.b&cursor=y&customer_id=c&limit=2": `{"items":[{"event_id":"2"},{"event_id":"3"}],"next_cursor":"z"}`,
		"/api/v1/audit/events?limit=3&nobody=true":                            `{"items":[{"event_id":"4"}]}`,
		"/api/v1/audit/tree-head":                                             `{"origin":"log","size":7}`,
		"/api/v1/audit/proof?customer_id=c&event_id=e%2F1":                    `{"event_id":"e/1","path":["AQID"]}`,
		"/api/v1/audit/consistency?from=3":                                    `{"older_size":3}`,
		"/api/v1/audit/consistency?from=3&to=5":                               `{"older_size":3,"note":"n"}`,
		"/api/v1/audit/export":                                                "{}\n{}\n",
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, known := answers[r.URL.RequestURI()]
		if !known {
			w.WriteHeader(http.StatusForbidden)
			answer = `{"code":"FORBIDDEN"}`
		}
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(server.Close)
	c := client.New(server.URL, "")
	t.Cleanup(c.Close)

	events, more, err := c.AuditEvents(t.Context(), client.AuditFilter{Customer: "c", Action: "a.b"}, 3)
	require.NoError(t, err)
	require.True(t, more)
	require.Len(t, events, 3, "pages that are not full are gone on from")
	require.Equal(t, "3", events[2].EventID)
	events, more, err = c.AuditEvents(t.Context(), client.AuditFilter{Nobody: true}, 3)
	require.NoError(t, err)
	require.False(t, more)
	require.Len(t, events, 1)

	head, err := c.TreeHead(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 7, head.Size)
	proof, err := c.AuditProof(t.Context(), "c", "e/1")
	require.NoError(t, err)
	require.Equal(t, [][]byte{{1, 2, 3}}, proof.Path)
	for newer, note := range map[int64]string{0: "", 5: "n"} {
		consistency, err := c.AuditConsistency(t.Context(), 3, newer)
		require.NoError(t, err)
		require.Equal(t, note, consistency.Note)
	}
	var lines []byte
	read := func(body io.Reader) (err error) {
		lines, err = io.ReadAll(body)
		return err
	}
	require.NoError(t, c.AuditExport(t.Context(), "", read))
	require.Equal(t, "{}\n{}\n", string(lines))
	require.True(t, client.Is(c.AuditExport(t.Context(), "other", read), problem.Forbidden))
}
