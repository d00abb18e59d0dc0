package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// counter is the outside world of the recipes: an HTTP server that remembers when it was called with which idempotency key.
type counter struct {
	server   *http.Server
	url      string
	delay    time.Duration
	mu       sync.Mutex
	calls    map[string][]time.Time
	keyless  int
	finished chan struct{}
}

const headerKey = "Idempotency-Key"

// newCounter starts the server. Each call takes up to delay, so that processes die in the middle of calls.
func newCounter(delay time.Duration) (*counter, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	if err != nil {
		return nil, fmt.Errorf("start counting server: %w", err)
	}
	c := &counter{
		url: "http://" + listener.Addr().String(), delay: delay, calls: map[string][]time.Time{}, finished: make(chan struct{}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /call/{step}", c.answer)
	mux.HandleFunc("POST /shaky/{step}", c.shaky)
	c.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(c.finished)
		_ = c.server.Serve(listener) // it always ends with an error, that of Close
	}()
	return c, nil
}

// host is the address of the server as host:port.
func (c *counter) host() string { return strings.TrimPrefix(c.url, "http://") }

func (c *counter) close() error {
	err := c.server.Close()
	<-c.finished
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// record remembers a call and says which one it is for its key, from 1.
func (c *counter) record(r *http.Request) int {
	key := r.Header.Get(headerKey)
	c.mu.Lock()
	defer c.mu.Unlock()
	if key == "" {
		c.keyless++
	}
	c.calls[key] = append(c.calls[key], time.Now())
	return len(c.calls[key])
}

func (c *counter) answer(w http.ResponseWriter, r *http.Request) {
	n := c.record(r)
	if !pause(r.Context(), c.delay) {
		return
	}
	respond(w, http.StatusOK, n)
}

// shaky fails the first call of each step.
func (c *counter) shaky(w http.ResponseWriter, r *http.Request) {
	status := http.StatusOK
	n := c.record(r)
	if n == 1 {
		status = http.StatusServiceUnavailable
	}
	respond(w, status, n)
}

func respond(w http.ResponseWriter, status, n int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]int{"call": n}) // the caller may be dead by now
}

// snapshot is a copy of all calls by key.
func (c *counter) snapshot() (calls map[string][]time.Time, keyless int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls = make(map[string][]time.Time, len(c.calls))
	for key, times := range c.calls {
		calls[key] = append([]time.Time(nil), times...)
	}
	return calls, c.keyless
}

// oneOf is true once in n times.
func oneOf(n int) bool { return rand.IntN(n) == 0 } //nolint:gosec // any will do

// pause waits for a random part of limit; it returns false when ctx ended first.
func pause(ctx context.Context, limit time.Duration) bool {
	if limit <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(rand.N(limit)) //nolint:gosec // any delay will do
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
