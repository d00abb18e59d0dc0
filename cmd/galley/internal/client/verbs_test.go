package client_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/schemas/event"
)

func TestVerbs(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked <- r.Method + " " + r.URL.EscapedPath() + " " + string(body)
		if r.URL.Path != "/api/v1/executions/e/signals/s" && r.URL.Path != "/api/v1/executions/e/approvals/a-1" {
			_, _ = w.Write([]byte(`{"execution_id":"new","status":"failed"}`))
		}
	}))
	t.Cleanup(server.Close)
	c := client.New(server.URL, "")
	t.Cleanup(c.Close)
	for want, do := range map[string]func() (event.Response, error){
		`POST /api/v1/executions/e/cancel {"reason":"why"}`: func() (event.Response, error) { return c.Cancel(t.Context(), "e", "why") },
		`POST /api/v1/executions/e%2Ff/resume {"version":2}`: func() (event.Response, error) {
			return c.Resume(t.Context(), "e/f", client.Successor{Version: 2})
		},
		`POST /api/v1/executions/e/rerun {"from_step":"a"}`: func() (event.Response, error) {
			return c.Rerun(t.Context(), "e", client.Successor{FromStep: "a"})
		},
	} {
		response, err := do()
		require.NoError(t, err)
		require.Equal(t, want, <-asked)
		require.Equal(t, "new", response.ExecutionID)
	}
	require.NoError(t, c.Signal(t.Context(), "e", "s", json.RawMessage(`[1]`)))
	require.Equal(t, `POST /api/v1/executions/e/signals/s [1]`, <-asked)
	require.NoError(t, c.Decide(t.Context(), "e", "a-1", client.Decision{Comment: "no"}))
	require.Equal(t, `POST /api/v1/executions/e/approvals/a-1 {"approved":false,"comment":"no"}`, <-asked)
}
