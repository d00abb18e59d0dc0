package endtoend_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// outside is the world that recipes call.
type outside struct {
	url string
	// closed is an address where nobody listens.
	closed string

	mu    sync.Mutex
	calls map[string]int
	// left counts the callers who went away, doors are those that were opened, met are the meetings that took place or will.
	left  map[string]int
	doors map[string]bool
	met   map[string]chan struct{}
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	o := &outside{calls: map[string]int{}, left: map[string]int{}, doors: map[string]bool{}, met: map[string]chan struct{}{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", o.echo)
	mux.HandleFunc("/huge", huge)
	mux.HandleFunc("/large", large)
	mux.HandleFunc("/slow", slow)
	mux.HandleFunc("/status/{code}", o.status)
	mux.HandleFunc("/door/{name}", o.door)
	mux.HandleFunc("/meet/{name}", o.meet)
	mux.HandleFunc("/secret", o.secret)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	o.url = server.URL
	gone := httptest.NewServer(mux)
	gone.Close()
	o.closed = gone.URL
	return o
}

func (o *outside) hosts() []string {
	return []string{strings.TrimPrefix(o.url, "http://"), strings.TrimPrefix(o.closed, "http://")}
}

func (o *outside) record(r *http.Request) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	o.calls[key]++
	return o.calls[key]
}

func (o *outside) called(key string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.calls[key]
}

// echo answers with what it was sent.
func (o *outside) echo(w http.ResponseWriter, r *http.Request) {
	o.record(r)
	var body any
	_ = json.NewDecoder(r.Body).Decode(&body) // it may be empty
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"method": r.Method, "query": r.URL.Query(), "body": body, "key": r.Header.Get("Idempotency-Key"),
		"traceparent": r.Header.Get("Traceparent"),
	})
}

// status answers with the status of the path, but succeeds at the third call.
func (o *outside) status(w http.ResponseWriter, r *http.Request) {
	codes := map[string]int{"404": 404, "429": 429, "503": 503}
	if n := o.record(r); n < 3 || r.URL.Query().Get("always") != "" {
		w.WriteHeader(codes[r.PathValue("code")])
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"ok":true}`))
}

// door is not found until it is opened.
func (o *outside) door(w http.ResponseWriter, r *http.Request) {
	o.record(r)
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.doors[r.PathValue("name")] {
		w.WriteHeader(http.StatusNotFound)
	}
}

func (o *outside) open(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.doors[name] = true
}

// meet answers when there are two callers for one name.
func (o *outside) meet(_ http.ResponseWriter, r *http.Request) {
	o.record(r)
	_, _ = io.Copy(io.Discard, r.Body) // only then is it noticed that the caller goes away
	o.mu.Lock()
	other, waits := o.met[r.PathValue("name")]
	if waits {
		close(other)
	} else {
		other = make(chan struct{})
		o.met[r.PathValue("name")] = other
	}
	o.mu.Unlock()
	select {
	case <-other:
	case <-r.Context().Done():
		o.mu.Lock()
		defer o.mu.Unlock()
		o.left[r.Header.Get("Idempotency-Key")]++
	}
}

func (o *outside) wasLeft(key string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.left[key] > 0
}

// secret tells everybody what it was told in confidence.
func (o *outside) secret(w http.ResponseWriter, r *http.Request) {
	o.record(r)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Told", r.Header.Get("Authorization"))
	if r.Header.Get("Authorization") != "Bearer "+confidential {
		w.WriteHeader(http.StatusForbidden)
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"told": r.Header.Get("Authorization")})
}

// huge sends 50 MB of JSON.
func huge(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"text":"`))
	block := []byte(strings.Repeat("x", 1<<20))
	for range 50 {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
	_, _ = w.Write([]byte(`"}`))
}

// large sends 300 KB of JSON: two of them are more than an execution may hold.
func large(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"text": strings.Repeat("x", 300<<10)})
}

// slow answers after a second and a half, or when the caller has gone.
func slow(w http.ResponseWriter, r *http.Request) {
	timer := time.NewTimer(1500 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-r.Context().Done():
	case <-timer.C:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"ok":true}`))
	}
}
