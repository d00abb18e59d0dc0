package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/galley-engine/galley/schemas/event"
)

// counter is the outside world of the recipes: an HTTP server and a mail server that remember when they were called with which
// idempotency key.
type counter struct {
	server   *http.Server
	mail     *mailServer
	url      string
	delay    time.Duration
	mu       sync.Mutex
	seen     seen
	finished chan struct{}
}

// way is how a call came.
type way string

const (
	byHTTP    way = "http"
	byMail    way = "mail"
	byModel   way = "model"
	byWebhook way = "webhook"
	byWorker  way = "worker"
)

// seen is what the outside world saw, by idempotency key.
type seen struct {
	calls map[string][]time.Time
	ways  map[string]way
	// ids are those of the messages themselves: the Message-ID of a mail, the webhook-id of a webhook.
	ids     map[string][]string
	keyless int
}

const headerKey = "Idempotency-Key"

// The model's nth answer to a question reads promptTokens+n tokens and writes completionTokens.
const (
	promptTokens     = 100
	completionTokens = 30
)

// newCounter starts the servers. Each call takes up to delay, a mail and a question to the model longer, so that processes die in the
// middle of calls.
func newCounter(delay time.Duration) (*counter, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	if err != nil {
		return nil, fmt.Errorf("start counting server: %w", err)
	}
	c := &counter{
		url: "http://" + listener.Addr().String(), delay: delay, finished: make(chan struct{}),
		seen: seen{calls: map[string][]time.Time{}, ways: map[string]way{}, ids: map[string][]string{}},
	}
	c.mail, err = startMailServer(4*delay, func(key, id string) { c.record(byMail, key, id) })
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /call/{step}", c.answer(byHTTP))
	mux.HandleFunc("POST /worked/{step}", c.answer(byWorker))
	mux.HandleFunc("POST /hook/{step}", c.answer(byWebhook))
	mux.HandleFunc("POST /shaky/{step}", c.shaky)
	mux.HandleFunc("POST /v1/chat/completions", c.chat)
	c.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(c.finished)
		_ = c.server.Serve(listener) // it always ends with an error, that of Close
	}()
	return c, nil
}

// hosts are the addresses of the servers as host:port.
func (c *counter) hosts() []string {
	return []string{strings.TrimPrefix(c.url, "http://"), c.mail.address}
}

func (c *counter) close() error {
	err := c.server.Close()
	<-c.finished
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, c.mail.close())
}

// record remembers a call and says which one it is for its key, from 1. The id is "" where messages have none.
func (c *counter) record(by way, key, id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if key == "" {
		c.seen.keyless++
	}
	c.seen.ways[key] = by
	c.seen.calls[key] = append(c.seen.calls[key], time.Now())
	if id != "" || by == byMail || by == byWebhook {
		c.seen.ids[key] = append(c.seen.ids[key], id)
	}
	return len(c.seen.calls[key])
}

func (c *counter) answer(by way) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n := c.record(by, r.Header.Get(headerKey), r.Header.Get("Webhook-Id"))
		if pause(r.Context(), c.delay) {
			respond(w, http.StatusOK, map[string]int{"call": n})
		}
	}
}

// shaky fails the first call of each step.
func (c *counter) shaky(w http.ResponseWriter, r *http.Request) {
	status := http.StatusOK
	n := c.record(byHTTP, r.Header.Get(headerKey), "")
	if n == 1 {
		status = http.StatusServiceUnavailable
	}
	respond(w, status, map[string]int{"call": n})
}

// chat is a language model.
func (c *counter) chat(w http.ResponseWriter, r *http.Request) {
	n := c.record(byModel, r.Header.Get(headerKey), "")
	if !pause(r.Context(), 4*c.delay) {
		return
	}
	respond(w, http.StatusOK, map[string]any{
		"model":   "counter",
		"choices": []any{map[string]any{"message": map[string]string{"role": "assistant", "content": "counted"}, "finish_reason": "stop"}},
		"usage":   map[string]int{"prompt_tokens": promptTokens + n, "completion_tokens": completionTokens},
	})
}

// told tells whether the outside world told of such a usage, in one of so many calls.
func told(by way, usage *event.Usage, calls int) bool {
	n := int64(0)
	switch {
	case usage == nil:
	case by == byModel && usage.OutputTokens == completionTokens:
		n = usage.InputTokens - promptTokens
	case by == byWorker:
		n = usage.Units
	}
	return n >= 1 && n <= int64(calls)
}

func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the caller may be dead by now
}

// snapshot is a copy of all that was seen.
func (c *counter) snapshot() seen {
	c.mu.Lock()
	defer c.mu.Unlock()
	copied := seen{
		calls: make(map[string][]time.Time, len(c.seen.calls)), ways: maps.Clone(c.seen.ways), ids: make(map[string][]string, len(c.seen.ids)),
		keyless: c.seen.keyless,
	}
	for key, times := range c.seen.calls {
		copied.calls[key] = slices.Clone(times)
	}
	for key, ids := range c.seen.ids {
		copied.ids[key] = slices.Clone(ids)
	}
	return copied
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
