package aichat_test

import (
	"compress/gzip"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		answer    http.HandlerFunc
		code      problem.Code
		retryable bool
		after     time.Duration
		says      string
	}{
		{"no such key", answerStatus(401), problem.Upstream4xx, false, 0, "refused the API key"},
		{"a key without the right", answerStatus(403), problem.Upstream4xx, false, 0, "refused the API key"},
		{"bad request", answerStatus(400), problem.Upstream4xx, false, 0, "400"},
		{"no such model", answerStatus(404), problem.Upstream4xx, false, 0, "404"},
		{"too often", answerStatus(429), problem.RateLimited, true, 0, "429"},
		{"too often, with a delay", answerStatus(429, "Retry-After", "7"), problem.RateLimited, true, 7 * time.Second, "429"},
		{"failed", answerStatus(500), problem.Upstream5xx, true, 0, "500"},
		{"overloaded", answerStatus(529), problem.Upstream5xx, true, 0, "529"},
		{"overloaded, with a delay", answerStatus(529, "Retry-After", "2"), problem.Upstream5xx, true, 2 * time.Second, "529"},
		{"nothing", answerStatus(204), problem.ComponentError, false, 0, ""},
		{"not modified", answerStatus(304), problem.ComponentError, false, 0, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, provider := range []string{"openai", "anthropic"} {
				_, usage, err := ask(t, serve(t, test.answer), provider, nil)
				message := requireProblem(t, err, test.code, test.retryable)
				assert.Contains(t, message, test.says)
				assert.Nil(t, usage)
				var delayed *component.DelayError
				if test.after > 0 {
					require.ErrorAs(t, err, &delayed)
					assert.Equal(t, test.after, delayed.After)
				} else {
					assert.NotErrorAs(t, err, &delayed)
				}
			}
		})
	}
}

func TestFailuresInAnAnswer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, provider, answer string
		code                   problem.Code
		retryable              bool
		usage                  *event.Usage
	}{
		{"declined", "openai", `{"choices": [{"message": {"content": null, "refusal": "I hush"}, "finish_reason": "stop"}],
			"usage": {"prompt_tokens": 9, "completion_tokens": 4}}`, problem.UpstreamRejected, false, &event.Usage{InputTokens: 9, OutputTokens: 4}},
		{
			"filtered", "compatible", `{"choices": [{"message": {"content": "hus"}, "finish_reason": "content_filter"}]}`,
			problem.UpstreamRejected, false, &event.Usage{InputTokens: 3, OutputTokens: 1},
		},
		{
			"declined by Claude", "anthropic", `{"type": "message", "content": [], "stop_reason": "refusal", "usage": {"input_tokens": 5, "output_tokens": 1}}`,
			problem.UpstreamRejected, false, &event.Usage{InputTokens: 5, OutputTokens: 1},
		},
		{"a failure behind a proxy", "compatible", `{"error": {"message": "hush", "code": 502}}`, problem.Upstream5xx, true, nil},
		{"a limit behind a proxy", "compatible", `{"error": {"message": "hush", "code": 429}}`, problem.RateLimited, true, nil},
		{"a refusal behind a proxy", "compatible", `{"error": {"message": "hush", "code": 403}}`, problem.Upstream4xx, false, nil},
		{"no credit", "openai", `{"error": {"message": "hush", "type": "insufficient_quota", "code": null}}`, problem.Upstream4xx, false, nil},
		{"a filter for questions", "openai", `{"error": {"message": "hush", "code": "content_filter"}}`, problem.UpstreamRejected, false, nil},
		{"a failure in words", "compatible", `{"error": "hush"}`, problem.Upstream5xx, true, nil},
		{
			"an error as an answer", "anthropic", `{"type": "error", "error": {"type": "overloaded_error", "message": "hush"}}`,
			problem.Upstream5xx, true, nil,
		},
		{"a limit as an answer", "anthropic", `{"type": "error", "error": {"type": "rate_limit_error"}}`, problem.RateLimited, true, nil},
		{"a wrong question", "anthropic", `{"type": "error", "error": {"type": "invalid_request_error"}}`, problem.Upstream4xx, false, nil},
		{"an error of nothing", "anthropic", `{"type": "error"}`, problem.Upstream5xx, true, nil},
		{"no choices", "openai", `{"choices": []}`, problem.ComponentError, false, nil},
		{"another interface", "openai", `{"hush": true}`, problem.ComponentError, false, nil},
		{"the other format", "anthropic", openAIAnswer, problem.ComponentError, false, nil},
		{"the other format, too", "openai", anthropicAnswer, problem.ComponentError, false, nil},
		{"pictures", "openai", `{"choices": [{"message": {"content": [{"type": "hush"}]}}]}`, problem.ComponentError, false, nil},
		{"broken JSON", "openai", `{"choices": [{"message": {"content": "hush`, problem.ComponentError, false, nil},
		{"broken JSON of Claude", "anthropic", `{"type": "message", "content": "hush`, problem.ComponentError, false, nil},
		{"a list", "openai", `[]`, problem.ComponentError, false, nil},
		{"null", "anthropic", `null`, problem.ComponentError, false, nil},
		{"very deep", "openai", strings.Repeat("[", 100_000), problem.ComponentError, false, nil},
		{"a page", "openai", "<html>hush at 10.0.0.7</html>", problem.ComponentError, false, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, usage, err := ask(t, serve(t, answerJSON(test.answer)), test.provider, nil)
			requireProblem(t, err, test.code, test.retryable)
			assert.Equal(t, test.usage, usage)
		})
	}
}

// hijack takes the connection from the server. It runs in the server's goroutine: a failure shows as another error than the one expected.
func hijack(w http.ResponseWriter) net.Conn {
	hijacker, _ := w.(http.Hijacker)
	conn, _, err := hijacker.Hijack()
	if err != nil {
		panic(err)
	}
	return conn
}

func stall(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// endless writes the same for as long as anybody reads.
func endless(w http.ResponseWriter, head, text string) {
	_, err := io.WriteString(w, head)
	for err == nil {
		_, err = io.WriteString(w, text)
	}
}

func stream(handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		handler(w, r)
	}
}

func TestBadServers(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 4000)
	piece := `data: {"choices": [{"delta": {"content": "` + long + `"}}]}` + "\n\n"
	tests := []struct {
		name      string
		answer    http.HandlerFunc
		code      problem.Code
		retryable bool
	}{
		{"stalls before its answer", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, problem.Timeout, true},
		{"stalls in its answer", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"choices"`)
			stall(w, r)
		}, problem.Timeout, true},
		{"stalls in its stream", stream(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, piece)
			stall(w, r)
		}), problem.Timeout, true},
		{"drops the connection", func(w http.ResponseWriter, _ *http.Request) { _ = hijack(w).Close() }, problem.Connection, true},
		{"drops it in its answer", func(w http.ResponseWriter, _ *http.Request) {
			conn := hijack(w)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
			_ = conn.Close()
		}, problem.Connection, true},
		{"drops it in an event", func(w http.ResponseWriter, _ *http.Request) {
			conn := hijack(w)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9000\r\n\r\n"+piece[:500])
			_ = conn.Close()
		}, problem.Connection, true},
		{"does not speak HTTP", func(w http.ResponseWriter, _ *http.Request) {
			conn := hijack(w)
			_, _ = io.WriteString(conn, "SSH-2.0-OpenSSH_9.2 at 10.0.0.7\r\n")
			_ = conn.Close()
		}, problem.Connection, true},
		{
			"answers with a page", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>hush</html>") },
			problem.ComponentError, false,
		},
		{
			"answers without an end", func(w http.ResponseWriter, _ *http.Request) { endless(w, "[", "1,1,1,1,1,1,1,1,1,1,") },
			problem.StateTooLarge, false,
		},
		{"talks without an end", stream(func(w http.ResponseWriter, _ *http.Request) { endless(w, "", piece) }), problem.StateTooLarge, false},
		{"thinks without an end", stream(func(w http.ResponseWriter, _ *http.Request) {
			endless(w, "", `data: {"choices": [{"delta": {"reasoning": "`+long+`"}}]}`+"\n\n")
		}), problem.StateTooLarge, false},
		{
			"pings without an end", stream(func(w http.ResponseWriter, _ *http.Request) { endless(w, "", ": ping "+long+"\n\n") }),
			problem.StateTooLarge, false,
		},
		{
			"sends a line without an end", stream(func(w http.ResponseWriter, _ *http.Request) { endless(w, "data: ", long) }),
			problem.StateTooLarge, false,
		},
		{
			"sends an event without an end", stream(func(w http.ResponseWriter, _ *http.Request) { endless(w, "", "data: "+long+"\n") }),
			problem.StateTooLarge, false,
		},
		{"fails with an endless page", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			endless(w, "", long)
		}, problem.Upstream5xx, true},
		{"sends a gzip bomb", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			packed := gzip.NewWriter(w)
			endlessly := make([]byte, 1<<20)
			for range 100 {
				if _, err := packed.Write(endlessly); err != nil {
					return
				}
			}
		}, problem.StateTooLarge, false},
		{"redirects for ever", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/again", http.StatusTemporaryRedirect)
		}, problem.ComponentError, false},
		{"redirects to the metadata service", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusTemporaryRedirect)
		}, problem.AddressRefused, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			again := make([]http.HandlerFunc, 8)
			for i := range again {
				again[i] = test.answer
			}
			m := serve(t, again...)
			c := newComponent(t, options{allowed: []string{m.address}, publish: func(string, []byte) {}})
			timeout := time.Minute
			if test.code == problem.Timeout {
				timeout = 200 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			_, err := c.Execute(ctx, newCall(question(m, "compatible", with{"stream": true})))
			requireProblem(t, err, test.code, test.retryable)
		})
	}
}

func TestPrivateAddressesAreRefused(t *testing.T) {
	t.Parallel()
	m := serve(t, answerJSON(openAIAnswer))
	_, _, err := run(t, newComponent(t, options{}), newCall(question(m, "compatible", nil)))
	requireProblem(t, err, problem.AddressRefused, false)
	assert.Empty(t, m.requests())
}

func TestRedirectCarriesNoKey(t *testing.T) {
	t.Parallel()
	seen := make(chan http.Header, 1)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		_, _ = io.WriteString(w, anthropicAnswer)
	}))
	t.Cleanup(other.Close)
	for provider, name := range map[string]string{"anthropic": "X-Api-Key", "openai": "Authorization"} {
		m := serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusPermanentRedirect)
		})
		c := newComponent(t, options{allowed: []string{m.address, other.Listener.Addr().String()}})
		_, _, _ = run(t, c, newCall(question(m, provider, nil)))
		assert.Equal(t, "sk-hush", strings.TrimPrefix(m.requests()[0].header.Get(name), "Bearer "))
		assert.NotContains(t, strings.Join(flat(<-seen), " "), "sk-hush")
		other.CloseClientConnections()
	}
}

func flat(header http.Header) []string {
	var values []string
	for _, each := range header {
		values = append(values, each...)
	}
	return values
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	m := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, err := newComponent(t, options{allowed: []string{m.address}}).Execute(ctx, newCall(question(m, "openai", nil)))
	require.Error(t, err)
}
