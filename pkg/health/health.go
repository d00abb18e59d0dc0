// Package health tells whether a process lives and whether what it depends on is there.
package health

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/galley-engine/galley/pkg/metric"
	"github.com/galley-engine/galley/schemas/query"
)

// Check is one dependency.
type Check struct {
	Name string
	// Probe returns nil while the dependency can be used. It is called with a deadline of two seconds.
	Probe func(ctx context.Context) error
}

// Pending is a probe's error while a service is still getting ready.
type Pending string

// Error is the text of the state.
func (p Pending) Error() string { return string(p) }

const probeTimeout = 2 * time.Second

// Ready probes every dependency at the same time.
func Ready(ctx context.Context, checks []Check) query.Readiness {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	results := make([]string, len(checks))
	var group sync.WaitGroup
	for i, check := range checks {
		group.Go(func() {
			results[i] = "ok"
			if err := check.Probe(ctx); err != nil {
				results[i] = err.Error()
			}
		})
	}
	group.Wait()
	readiness := query.Readiness{Ready: true, Checks: make(map[string]string, len(checks))}
	for i, check := range checks {
		readiness.Checks[check.Name] = results[i]
		readiness.Ready = readiness.Ready && results[i] == "ok"
	}
	return readiness
}

// Serve answers GET /health (the process lives), GET /ready (200 or 503 with every check) and GET /metrics, which is metrics, on addr
// until ctx ends.
func Serve(ctx context.Context, addr string, checks []Check, metrics http.Handler) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		readiness := Ready(r.Context(), checks)
		status := http.StatusOK
		if !readiness.Ready {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, readiness)
	})
	mux.Handle("GET "+metric.Path, metrics)
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: probeTimeout}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
