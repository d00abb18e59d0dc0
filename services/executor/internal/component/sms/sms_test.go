package sms_test

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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/sms"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type with = map[string]any

func newComponent(t *testing.T, settings sms.Settings, allowed ...string) *sms.Component {
	t.Helper()
	network, err := outbound.New(allowed, clock.System)
	require.NoError(t, err)
	t.Cleanup(network.Close)
	c, err := sms.New(settings, network)
	require.NoError(t, err)
	return c
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

func execute(t *testing.T, c *sms.Component, input with, timeout time.Duration) (map[string]any, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	result, err := c.Execute(ctx, &component.Call{
		Execution: subject.Execution{Customer: "cust_001", ID: "e1"}, Step: "text", Attempt: 1, With: input,
	})
	output, _ := result.Output.(map[string]any)
	return output, err
}

func requireProblem(t *testing.T, err error, code problem.Code, retryable bool) {
	t.Helper()
	var found *problem.Error
	require.ErrorAs(t, err, &found)
	assert.Equal(t, code, found.Code, found.Message)
	assert.Equal(t, retryable, found.Retryable)
	for _, secret := range []string{"hush", "127.0.0.1", "169.254", "AC0"} {
		assert.NotContains(t, found.Message, secret)
	}
}

// accepted is the answer of the service, as documented, shortened.
const accepted = `{"account_sid": "AC01", "body": "Hi", "error_code": null, "num_media": "0", "num_segments": "2", "price": null,
	"sid": "SM0123456789abcdef0123456789abcdef", "status": "queued", "subresource_uris": {"media": "/x"}, "to": "+15005550006"}`

func TestSend(t *testing.T) {
	t.Parallel()
	type seen struct{ path, user, token, key, to, from, service, body string }
	requests := make(chan seen, 1)
	handler := func(w http.ResponseWriter, r *http.Request) {
		user, token, _ := r.BasicAuth()
		assert.Equal(t, http.MethodPost, r.Method)
		requests <- seen{
			r.URL.Path, user, token, r.Header.Get("Idempotency-Key"), r.PostFormValue("To"), r.PostFormValue("From"),
			r.PostFormValue("MessagingServiceSid"), r.PostFormValue("Body"),
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, accepted)
	}
	operators, own := serve(t, handler), serve(t, handler)
	c := newComponent(t, sms.Settings{AccountSID: "AC0op", AuthToken: "hush", From: "+15005550001", BaseURL: operators.URL + "/"},
		operators.Listener.Addr().String(), own.Listener.Addr().String())

	output, err := execute(t, c, with{"to": "+15005550006", "text": "Hi & bye\n+ü"}, time.Minute)
	require.NoError(t, err)
	assert.Equal(t, with{"sid": "SM0123456789abcdef0123456789abcdef", "status": "queued", "segments": 2.0}, output)
	assert.Equal(t, seen{
		"/2010-04-01/Accounts/AC0op/Messages.json", "AC0op", "hush", "e1/text", "+15005550006", "+15005550001", "", "Hi & bye\n+ü",
	}, <-requests)

	account := with{"to": "+15005550006", "text": "Hi", "from": "+15005550002", "account_sid": "AC0own", "auth_token": "own", "base_url": own.URL + "/a"}
	_, err = execute(t, c, account, time.Minute)
	require.NoError(t, err)
	assert.Equal(t, seen{
		"/a/2010-04-01/Accounts/AC0own/Messages.json", "AC0own", "own", "e1/text", "+15005550006", "+15005550002", "", "Hi",
	}, <-requests)

	account["from"] = "MG0123456789abcdef0123456789abcdef"
	_, err = execute(t, c, account, time.Minute)
	require.NoError(t, err)
	got := <-requests
	assert.Equal(t, account["from"], got.service)
	assert.Empty(t, got.from)
}

// TestTokenOfTheOperatorStaysWithTheOperator: whatever a recipe leaves out, nothing is sent to an address that it names.
func TestTokenOfTheOperatorStaysWithTheOperator(t *testing.T) {
	t.Parallel()
	evil := serve(t, func(_ http.ResponseWriter, r *http.Request) { assert.Fail(t, "called", r.Header) })
	c := newComponent(t, sms.Settings{AccountSID: "AC0op", AuthToken: "hush", From: "+15005550001"}, evil.Listener.Addr().String())
	for _, change := range []with{
		{"base_url": evil.URL},
		{"base_url": evil.URL, "account_sid": "AC0op"},
		{"base_url": evil.URL, "account_sid": "AC0op", "from": "+15005550002"},
		{"base_url": evil.URL, "auth_token": "x", "from": "+15005550002"},
		{"from": "+15005550002"},
	} {
		input := with{"to": "+15005550006", "text": "Hi"}
		maps.Copy(input, change)
		_, err := execute(t, c, input, time.Minute)
		requireProblem(t, err, problem.ComponentError, false)
	}
	elsewhere := serve(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Empty(t, r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusUnauthorized)
	})
	mine := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	c = newComponent(t, sms.Settings{AccountSID: "AC0op", AuthToken: "hush", From: "+15005550001", BaseURL: mine.URL},
		mine.Listener.Addr().String(), elsewhere.Listener.Addr().String())
	_, err := execute(t, c, with{"to": "+15005550006", "text": "Hi"}, time.Minute)
	requireProblem(t, err, problem.Upstream4xx, false)
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	c := newComponent(t, sms.Settings{})
	_, err := execute(t, c, with{"to": "+15005550006", "text": "Hi"}, time.Minute)
	requireProblem(t, err, problem.ComponentError, false)
	require.ErrorContains(t, err, "no account")
	for _, base := range []string{"ftp://x", "https://", "https://ada:hush@example.com", "https://example.com?x", "https://example.com?", "https://e\x00"} {
		input := with{"to": "+15005550006", "text": "Hi", "account_sid": "AC0", "auth_token": "hush", "from": "+15005550001", "base_url": base}
		_, err := execute(t, c, input, time.Minute)
		requireProblem(t, err, problem.ComponentError, false)
	}
	_, err = execute(t, c, with{
		"to": "+15005550006", "text": "Hi", "account_sid": "../x", "auth_token": "hush", "from": "+15005550001", "base_url": "http://127.0.0.1:9",
	}, time.Minute)
	requireProblem(t, err, problem.AddressRefused, false)
}

func TestMisbehavingService(t *testing.T) {
	t.Parallel()
	hijack := func(w http.ResponseWriter) net.Conn {
		conn, _, err := http.NewResponseController(w).Hijack()
		require.NoError(t, err)
		return conn
	}
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, test := range map[string]struct {
		handler   http.HandlerFunc
		code      problem.Code
		retryable bool
		message   string
	}{
		"refuses the number": {answer(400, `{"code": 21211, "message": "Invalid 'To': hush", "status": 400}`), problem.Upstream4xx, false, "400 Bad Request, code 21211"},
		"refuses the token":  {answer(401, `{"code": 20003, "message": "hush"}`), problem.Upstream4xx, false, "code 20003"},
		"has had too many":   {answer(429, `{"code": 20429}`), problem.RateLimited, true, "code 20429"},
		"is down":            {answer(503, `<html>hush`), problem.Upstream5xx, true, "503"},
		"says nothing":       {answer(201, ``), problem.ComponentError, false, ""},
		"shows a page":       {answer(200, `<html>hush`), problem.ComponentError, false, ""},
		"answers with less":  {answer(201, `{"sid": "SM1"}`), problem.ComponentError, false, ""},
		"answers with other": {answer(201, `{"sid": 1, "status": []}`), problem.ComponentError, false, ""},
		"has a strange code": {answer(400, `{"code": "hush"}`), problem.Upstream4xx, false, ""},
		"sends without end": {func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := io.WriteString(w, strings.Repeat("x", 4096)); err != nil {
					return
				}
			}
		}, problem.StateTooLarge, false, ""},
		"fails without end": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			for {
				if _, err := io.WriteString(w, strings.Repeat("x", 4096)); err != nil {
					return
				}
			}
		}, problem.Upstream4xx, false, ""},
		"stalls": {func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the client goes
			<-r.Context().Done()
		}, problem.Timeout, true, ""},
		"drops the connection":     {func(w http.ResponseWriter, _ *http.Request) { _ = hijack(w).Close() }, problem.Connection, true, ""},
		"redirects to itself":      {redirect(http.StatusFound, "/done"), problem.ComponentError, false, ""},
		"redirects to the host":    {redirect(http.StatusTemporaryRedirect, "http://169.254.169.254/"), problem.AddressRefused, false, ""},
		"redirects to a file":      {redirect(http.StatusFound, "file:///etc/passwd"), problem.AddressRefused, false, ""},
		"redirects with no target": {answer(http.StatusNotModified, ""), problem.ComponentError, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, test.handler)
			c := newComponent(t, sms.Settings{AccountSID: "AC0", AuthToken: "hush", From: "+15005550001", BaseURL: server.URL},
				server.Listener.Addr().String())
			timeout := time.Minute
			if test.code == problem.Timeout {
				timeout = 200 * time.Millisecond
			}
			_, err := execute(t, c, with{"to": "+15005550006", "text": "hush"}, timeout)
			requireProblem(t, err, test.code, test.retryable)
			require.ErrorContains(t, err, test.message)
		})
	}
}

// redirect answers GET as if a message had been sent.
func redirect(status int, target string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, accepted)
			return
		}
		w.Header().Set("Location", target)
		w.WriteHeader(status)
	}
}

func TestSegmentsAreOneUnlessCounted(t *testing.T) {
	t.Parallel()
	for _, counted := range []string{"0", "", "-1", "x"} {
		server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Replace(accepted, `"num_segments": "2"`, `"num_segments": "`+counted+`"`, 1))
		})
		c := newComponent(t, sms.Settings{AccountSID: "AC0", AuthToken: "hush", From: "MG0", BaseURL: server.URL}, server.Listener.Addr().String())
		output, err := execute(t, c, with{"to": "+15005550006", "text": "Hi"}, time.Minute)
		require.NoError(t, err)
		assert.Equal(t, 1.0, output["segments"], counted)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	require.NoError(t, sms.Settings{}.Validate())
	require.NoError(t, sms.Settings{AccountSID: "AC0", AuthToken: "hush", From: "+15005550001"}.Validate())
	for _, wrong := range []sms.Settings{
		{AccountSID: "AC0"},
		{AuthToken: "hush"},
		{From: "+15005550001"},
		{AccountSID: "AC0", AuthToken: "hush"},
		{BaseURL: "api.twilio.com"},
		{BaseURL: "https://ada:hush@api.twilio.com"}, //nolint:gosec // made up
	} {
		err := wrong.Validate()
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "hush")
		_, err = sms.New(wrong, nil)
		require.Error(t, err)
	}
}
