package health_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/health"
	"github.com/galley-engine/galley/schemas/query"
)

func TestReadyNamesEveryDependency(t *testing.T) {
	t.Parallel()
	up := health.Check{Name: "nats", Probe: func(context.Context) error { return nil }}
	down := health.Check{Name: "postgres", Probe: func(context.Context) error { return health.Pending("migrating") }}
	require.Equal(t, query.Readiness{Ready: true, Checks: map[string]string{"nats": "ok"}},
		health.Ready(t.Context(), []health.Check{up}))
	require.Equal(t, query.Readiness{Ready: false, Checks: map[string]string{"nats": "ok", "postgres": "migrating"}},
		health.Ready(t.Context(), []health.Check{up, down}))
}

// TestServe ends with its context.
func TestServe(t *testing.T) {
	t.Parallel()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "galley_test 1") })
	down := health.Check{Name: "postgres", Probe: func(context.Context) error { return health.Pending("migrating") }}
	go func() { ended <- health.Serve(ctx, address, []health.Check{down}, metrics) }()
	get := func(path string) (status int, body string) {
		require.Eventually(t, func() bool {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
			require.NoError(t, err)
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				return false
			}
			defer response.Body.Close() //nolint:errcheck // it was read
			text, err := io.ReadAll(response.Body)
			status, body = response.StatusCode, string(text)
			return err == nil
		}, 10*time.Second, 10*time.Millisecond)
		return status, body
	}
	for path, want := range map[string]int{
		"/health": http.StatusOK, "/ready": http.StatusServiceUnavailable, "/metrics": http.StatusOK, "/": http.StatusNotFound,
	} {
		status, body := get(path)
		require.Equal(t, want, status, body)
	}
	_, body := get("/metrics")
	require.Equal(t, "galley_test 1", body)
	cancel()
	require.NoError(t, <-ended)
}
