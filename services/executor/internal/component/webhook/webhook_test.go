package webhook_test

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type with = map[string]any

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" //nolint:gosec // the one of the examples of Standard Webhooks

func newComponent(t *testing.T, now clock.Clock, allowed ...string) *webhook.Component {
	t.Helper()
	network, err := outbound.New(allowed, now)
	require.NoError(t, err)
	t.Cleanup(network.Close)
	return webhook.New(network, now)
}

func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server
}

func execute(t *testing.T, c *webhook.Component, input with, timeout time.Duration) (any, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	result, err := c.Execute(ctx, &component.Call{
		Execution: subject.Execution{Customer: "cust_001", ID: "e1"}, Step: "tell", Attempt: 1, With: input,
	})
	return result.Output, err
}

func requireProblem(t *testing.T, err error, code problem.Code, retryable bool) {
	t.Helper()
	var found *problem.Error
	require.ErrorAs(t, err, &found)
	assert.Equal(t, code, found.Code, found.Message)
	assert.Equal(t, retryable, found.Retryable)
	for _, hidden := range []string{"hush", "127.0.0.1", "169.254", "MfKQ", "key="} {
		assert.NotContains(t, found.Message, hidden)
	}
}

func TestSend(t *testing.T) {
	t.Parallel()
	verifier, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	bodies, ids := make(chan string, 1), make(chan string, 1)
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		assert.NoError(t, verifier.Verify(body, r.Header), "it is also fresh")
		assert.Equal(t, http.MethodPost, r.Method)
		assert.Equal(t, "application/json", r.Header.Get("Content-Type"))
		assert.Equal(t, "e1/tell", r.Header.Get("Idempotency-Key"))
		bodies <- string(body)
		ids <- r.Header.Get("webhook-id")
		w.WriteHeader(http.StatusAccepted)
	})
	c := newComponent(t, clock.System, server.Listener.Addr().String())
	id := ""
	for _, test := range []struct {
		change with
		body   string
	}{
		{with{"payload": with{"a": []any{1.5, "<ü>"}}}, `{"a":[1.5,"\u003cü\u003e"]}`},
		{with{"payload": nil}, `null`},
		{with{"payload": strings.Repeat("x", webhook.MaxBody-2)}, `"` + strings.Repeat("x", webhook.MaxBody-2) + `"`},
	} {
		input := with{"url": server.URL + "/hook?key=hush", "secret": secret}
		maps.Copy(input, test.change)
		output, err := execute(t, c, input, time.Minute)
		require.NoError(t, err)
		assert.Equal(t, with{"status": 202.0}, output)
		assert.Equal(t, test.body, <-bodies)
		got := <-ids
		assert.Regexp(t, `^msg_[0-9a-f]{32}$`, got)
		assert.True(t, id == "" || id == got, "every attempt has the same id")
		id = got
	}
}

func TestEventWithAType(t *testing.T) {
	t.Parallel()
	bodies := make(chan string, 1)
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		assert.Equal(t, "1767268800", r.Header.Get("webhook-timestamp"))
		bodies <- string(body)
	})
	now := func() time.Time { return time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC) }
	c := newComponent(t, now, server.Listener.Addr().String())
	input := with{"url": server.URL, "secret": secret, "type": "lead.found", "payload": with{"name": "Chen"}}
	output, err := execute(t, c, input, time.Minute)
	require.NoError(t, err)
	assert.Equal(t, with{"status": 200.0}, output)
	assert.JSONEq(t, `{"type": "lead.found", "timestamp": "2026-01-01T12:00:00Z", "data": {"name": "Chen"}}`, <-bodies)
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	server := serve(t, func(http.ResponseWriter, *http.Request) { assert.Fail(t, "called") })
	c := newComponent(t, clock.System, server.Listener.Addr().String())
	for name, change := range map[string]with{
		"no secret":           {"secret": ""},
		"no prefix":           {"secret": "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},           //nolint:gosec // made up
		"not base64":          {"secret": "whsec_!!!!MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, //nolint:gosec // made up
		"a short secret":      {"secret": "whsec_MfKQ"},                                 //nolint:gosec // made up
		"a long secret":       {"secret": "whsec_" + strings.Repeat("MfKQ", 22)},
		"a large payload":     {"payload": strings.Repeat("x", webhook.MaxBody-1)},
		"large with its type": {"payload": strings.Repeat("x", webhook.MaxBody-20), "type": "a.b"},
		"a file":              {"url": "file:///etc/passwd"},
		"no host":             {"url": "https:///hook?key=hush"},
		"a user name":         {"url": "https://ada:hush@example.com/"}, //nolint:gosec // made up
		"no url":              {"url": "https://exa mple.com/\x00?key=hush"},
	} {
		input := with{"url": server.URL + "/?key=hush", "secret": secret, "payload": with{}}
		maps.Copy(input, change)
		_, err := execute(t, c, input, time.Minute)
		require.Error(t, err, name)
		requireProblem(t, err, problem.ComponentError, false)
	}
	_, err := execute(t, c, with{"url": "http://169.254.169.254/?key=hush", "secret": secret, "payload": with{}}, time.Minute)
	requireProblem(t, err, problem.AddressRefused, false)
}

func TestMisbehavingReceiver(t *testing.T) {
	t.Parallel()
	answer := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, r.Header.Get("webhook-signature")+" hush") //nolint:gosec // no browser reads it
		}
	}
	redirect := func(status int, target string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				w.Header().Set("Location", target)
				w.WriteHeader(status)
			}
		}
	}
	elsewhere := serve(t, func(_ http.ResponseWriter, r *http.Request) { assert.Empty(t, r.Header.Get("webhook-signature")) })
	endless := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		for {
			if _, err := io.WriteString(w, strings.Repeat("x", 4096)); err != nil {
				return
			}
		}
	}
	for name, test := range map[string]struct {
		handler   http.HandlerFunc
		code      problem.Code
		retryable bool
		message   string
	}{
		"wants no more":              {answer(410), problem.Upstream4xx, false, "410 Gone"},
		"does not know it":           {answer(404), problem.Upstream4xx, false, "404"},
		"has had too many":           {answer(429), problem.RateLimited, true, "429"},
		"is down":                    {answer(503), problem.Upstream5xx, true, "503"},
		"fails without end":          {endless, problem.Upstream5xx, true, "500"},
		"has it already, it says":    {answer(304), problem.UpstreamRejected, false, "304"},
		"redirects nowhere":          {answer(302), problem.UpstreamRejected, false, "302"},
		"moved to a page":            {redirect(301, "/page"), problem.UpstreamRejected, false, "elsewhere"},
		"moved to another host":      {redirect(308, elsewhere.URL+"/x"), problem.UpstreamRejected, false, "elsewhere"},
		"moved to the metadata host": {redirect(307, "http://169.254.169.254/"), problem.AddressRefused, false, ""},
		"moved to a file":            {redirect(302, "file:///etc/passwd"), problem.AddressRefused, false, ""},
		"stalls": {func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the client goes
			<-r.Context().Done()
		}, problem.Timeout, true, ""},
		"drops the connection": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			assert.NoError(t, err)
			_ = conn.Close()
		}, problem.Connection, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, test.handler)
			c := newComponent(t, clock.System, server.Listener.Addr().String(), elsewhere.Listener.Addr().String())
			timeout := time.Minute
			if test.code == problem.Timeout {
				timeout = 200 * time.Millisecond
			}
			_, err := execute(t, c, with{"url": server.URL + "/?key=hush", "secret": secret, "payload": with{}}, timeout)
			requireProblem(t, err, test.code, test.retryable)
			require.ErrorContains(t, err, test.message)
		})
	}
}

func TestRedirectOnTheSameHostArrives(t *testing.T) {
	t.Parallel()
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			http.Redirect(w, r, "/hook", http.StatusPermanentRedirect)
			return
		}
		assert.NotEmpty(t, r.Header.Get("webhook-signature"))
		w.WriteHeader(http.StatusNoContent)
	})
	c := newComponent(t, clock.System, server.Listener.Addr().String())
	output, err := execute(t, c, with{"url": server.URL + "/", "secret": secret, "payload": with{}}, time.Minute)
	require.NoError(t, err)
	assert.Equal(t, with{"status": 204.0}, output)
}

// TestAnswerThatDoesNotEnd: the status has said that it arrived.
func TestAnswerThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := io.WriteString(w, strings.Repeat("x", 4096)); err != nil {
				return
			}
		}
	})
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	c := newComponent(t, clock.System, "localhost:"+port)
	output, err := execute(t, c, with{"url": "http://localhost:" + port, "secret": secret, "payload": with{}}, time.Minute)
	require.NoError(t, err)
	assert.Equal(t, with{"status": 200.0}, output)
}
