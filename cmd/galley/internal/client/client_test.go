package client_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/schemas/problem"
)

// answering gives a client of a server that gives every request the same answer.
func answering(t *testing.T, status int, body string) *client.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "Bearer secret", r.Header.Get("Authorization"))
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	c := client.New(server.URL+"/", "secret")
	t.Cleanup(c.Close)
	return c
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	balance, err := answering(t, http.StatusOK, `{"customer_id":"c","available":1.5}`).Balance(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "1.5", balance.Available.String())

	_, err = answering(t, http.StatusOK, `<html>`).Balance(t.Context())
	require.ErrorContains(t, err, "decode galley's answer to GET /api/v1/credits")

	executions, more, err := answering(t, http.StatusOK, `{"items":[{"execution_id":"1"}],"next_cursor":"x"}`).Executions(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, "1", executions[0].ExecutionID)
	assert.True(t, more)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	refused := `{"status":409,"detail":"it is there","code":"CONFLICT","errors":[{"path":"/name","message":"is taken"}]}`
	_, err := answering(t, http.StatusConflict, refused).Balance(t.Context())
	require.EqualError(t, err, "CONFLICT: it is there\n  /name is taken")
	assert.True(t, client.Is(err, problem.Conflict))
	assert.False(t, client.Retryable(err))

	_, err = answering(t, http.StatusServiceUnavailable, `{"code":"UNAVAILABLE","retryable":true}`).Balance(t.Context())
	assert.True(t, client.Retryable(err))

	_, err = answering(t, http.StatusBadGateway, `<html>`).Balance(t.Context())
	require.EqualError(t, err, "INTERNAL: galley answered 502 Bad Gateway")

	gone := client.New("http://127.0.0.1:1", "")
	_, err = gone.Balance(t.Context())
	require.ErrorContains(t, err, "call galley: ")
	assert.True(t, client.Retryable(err))
}

func TestReady(t *testing.T) {
	t.Parallel()
	readiness, err := answering(t, http.StatusServiceUnavailable, `{"ready":false,"checks":{"nats":"gone"}}`).Ready(t.Context())
	require.NoError(t, err)
	assert.False(t, readiness.Ready)
	assert.Equal(t, "gone", readiness.Checks["nats"])
	_, err = answering(t, http.StatusInternalServerError, `{}`).Ready(t.Context())
	require.Error(t, err)
}
