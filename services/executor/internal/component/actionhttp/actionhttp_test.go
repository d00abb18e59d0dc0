package actionhttp_test

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/actionhttp"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type with = map[string]any

// newComponent makes a component that may call the allowed hosts, without files.
func newComponent(t *testing.T, allowed []string, now clock.Clock) *actionhttp.Component {
	t.Helper()
	network, err := outbound.New(allowed, now)
	require.NoError(t, err)
	t.Cleanup(network.Close)
	return actionhttp.New(network, nil)
}

// serve starts a server that steps may call, and gives its base URL and a component.
func serve(t *testing.T, handler http.HandlerFunc) (string, *actionhttp.Component) {
	t.Helper()
	server := httptest.NewServer(handler)
	component := newComponent(t, []string{server.Listener.Addr().String()}, clock.System)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL, component
}

func execute(t *testing.T, c *actionhttp.Component, input with) (map[string]any, error) {
	t.Helper()
	return executeIn(t, c, input, time.Minute)
}

func executeIn(t *testing.T, c *actionhttp.Component, input with, timeout time.Duration) (map[string]any, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	result, err := c.Execute(ctx, &component.Call{
		Execution: subject.Execution{Customer: "cust_001", ID: "e1"}, Step: "find", Attempt: 2, TraceParent: "00-trace", With: input,
	})
	output, _ := result.Output.(map[string]any)
	return output, err
}

func TestRequest(t *testing.T) { //nolint:tparallel // its cases share one server
	t.Parallel()
	seen := make(chan *http.Request, 1)
	base, c := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		seen <- r
	})
	tests := []struct {
		name   string
		search string
		input  with
		method string
		query  string
		header map[string]string
		body   string
	}{
		{name: "a plain call", search: "?x=1#part", input: with{}, method: "GET", query: "x=1", header: map[string]string{"User-Agent": "galley"}},
		{
			name: "query of all scalars", search: "?x=1", method: "GET", query: "f=0.5&n=10&q=a+b%26c&t=true&x=1",
			input: with{"query": with{"q": "a b&c", "n": 10.0, "f": 0.5, "t": true, "no": nil}},
		},
		{
			name: "a JSON body", input: with{"method": "POST", "body": with{"list": []any{1.0, "x"}}}, method: "POST",
			header: map[string]string{"Content-Type": "application/json"}, body: `{"list":[1,"x"]}`,
		},
		{name: "a string as JSON", input: with{"method": "PUT", "body": "x"}, method: "PUT", body: `"x"`},
		{
			name: "a string as it is", method: "PATCH", body: "a=b",
			input:  with{"method": "PATCH", "body": "a=b", "headers": with{"content-type": "application/x-www-form-urlencoded"}},
			header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"},
		},
		{
			name: "headers", input: with{"method": "DELETE", "headers": with{"authorization": "Bearer x"}}, method: "DELETE",
			header: map[string]string{"Authorization": "Bearer x"},
		},
		{name: "options", input: with{"method": "OPTIONS"}, method: "OPTIONS"},
		{
			name: "a form", method: "POST", body: "a+b=%26&l=1&l=x&l=true&n=0.5",
			input:  with{"method": "POST", "form": with{"a b": "&", "l": []any{1.0, "x", nil, true}, "n": 0.5, "no": nil, "empty": []any{}}},
			header: map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Content-Length": "28"},
		},
		{name: "an empty form", input: with{"method": "POST", "form": with{}}, method: "POST"},
		{
			name: "a form with a type of its own", input: with{"form": with{"a": 1.0}, "headers": with{"Content-Type": "x/y"}}, method: "GET", body: "a=1",
			header: map[string]string{"Content-Type": "x/y"},
		},
		{
			name: "basic authentication", input: with{"auth": with{"basic": with{"username": "Aladdin", "password": "open: sesame"}}}, method: "GET",
			header: map[string]string{"Authorization": "Basic QWxhZGRpbjpvcGVuOiBzZXNhbWU="},
		},
		{
			name: "a token", input: with{"auth": with{"bearer": "abc"}, "body": nil}, method: "GET",
			header: map[string]string{"Authorization": "Bearer abc"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { //nolint:paralleltest // they share one server
			test.input["url"] = base + "/a" + test.search
			output, err := execute(t, c, test.input)
			require.NoError(t, err)
			assert.Equal(t, 200.0, output["status"])
			r := <-seen
			body, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			assert.Equal(t, test.method, r.Method)
			assert.Equal(t, test.query, r.URL.RawQuery)
			assert.Equal(t, test.body, string(body))
			assert.Equal(t, "e1/find", r.Header.Get("Idempotency-Key"))
			assert.Equal(t, "00-trace", r.Header.Get("traceparent"))
			for name, value := range test.header {
				assert.Equal(t, value, r.Header.Get(name))
			}
		})
	}
}

func TestRefusedInput(t *testing.T) {
	t.Parallel()
	c := newComponent(t, nil, clock.System)
	tests := []struct {
		name  string
		input any
		code  problem.Code
	}{
		{"no object", "x", problem.ComponentError},
		{"no url", with{}, problem.ComponentError},
		{"url is no text", with{"url": 1.0}, problem.ComponentError},
		{"url has no host", with{"url": "/path"}, problem.ComponentError},
		{"url does not parse", with{"url": "http://a b/"}, problem.ComponentError},
		{"url is a file", with{"url": "file://localhost/etc/passwd"}, problem.AddressRefused},
		{"url is gopher", with{"url": "gopher://example.com/"}, problem.AddressRefused},
		{"url with a password", with{"url": "https://hush@example.com/"}, problem.ComponentError},
		{"method with a space", with{"url": "https://example.com", "method": "GET /"}, problem.ComponentError},
		{"method is CONNECT", with{"url": "https://example.com", "method": "CONNECT"}, problem.ComponentError},
		{"method is no text", with{"url": "https://example.com", "method": 1.0}, problem.ComponentError},
		{"query is a list", with{"url": "https://example.com", "query": []any{}}, problem.ComponentError},
		{"query of an object", with{"url": "https://example.com", "query": with{"q": with{}}}, problem.ComponentError},
		{"header over two lines", with{"url": "https://example.com", "headers": with{"X-A": "a\r\nX-B: b"}}, problem.ComponentError},
		{"header name with a space", with{"url": "https://example.com", "headers": with{"X A": "a"}}, problem.ComponentError},
		{"header is no text", with{"url": "https://example.com", "headers": with{"X-A": []any{1.0}}}, problem.ComponentError},
		{"host header", with{"url": "https://example.com", "headers": with{"host": "internal"}}, problem.ComponentError},
		{"body and form", with{"url": "https://example.com", "body": 1.0, "form": with{}}, problem.ComponentError},
		{"form and file", with{"url": "https://example.com", "form": with{}, "body_file": with{}}, problem.ComponentError},
		{"form is a list", with{"url": "https://example.com", "form": []any{}}, problem.ComponentError},
		{"form of objects", with{"url": "https://example.com", "form": with{"a": []any{with{}}}}, problem.ComponentError},
		{"file is no reference", with{"url": "https://example.com", "body_file": "hush"}, problem.ComponentError},
		{"file without an id", with{"url": "https://example.com", "body_file": with{"file": 1.0}}, problem.ComponentError},
		{"two ways of authentication", with{"url": "https://example.com", "auth": with{"bearer": "hush", "basic": with{}}}, problem.ComponentError},
		{"no way of authentication", with{"url": "https://example.com", "auth": with{}}, problem.ComponentError},
		{"authentication is a text", with{"url": "https://example.com", "auth": "hush"}, problem.ComponentError},
		{"basic without a password", with{"url": "https://example.com", "auth": with{"basic": with{"username": "hush"}}}, problem.ComponentError},
		{"basic with a colon", with{"url": "https://example.com", "auth": with{"basic": with{"username": "hush:", "password": ""}}}, problem.ComponentError},
		{"token over two lines", with{"url": "https://example.com", "auth": with{"bearer": "hush\r\nX: b"}}, problem.ComponentError}, //nolint:gosec // invented
		{"authentication twice", with{"url": "https://example.com", "auth": with{"bearer": "hush"}, "headers": with{"authorization": "x"}}, problem.ComponentError},
		{"unknown form of answer", with{"url": "https://example.com", "response": "xml"}, problem.ComponentError},
		{"form of answer is a number", with{"url": "https://example.com", "response": 1.0}, problem.ComponentError},
		{"another idempotency key", with{"url": "https://example.com", "headers": with{"Idempotency-key": "x"}}, problem.ComponentError},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := c.Execute(t.Context(), &component.Call{With: test.input})
			requireProblem(t, err, test.code, false)
		})
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		response    any
		contentType string
		body        string
		want        any
		code        problem.Code
	}{
		{"JSON", nil, "application/json; charset=utf-8", `{"a": [1, null]}`, with{"a": []any{1.0, nil}}, ""},
		{"a JSON dialect", nil, "application/problem+json", `"x"`, "x", ""},
		{"text", nil, "text/plain", `{"a": 1}`, `{"a": 1}`, ""},
		{"not UTF-8", nil, "text/plain", "a\xffb", "a\uFFFDb", ""},
		{"nothing", nil, "application/json", "", nil, ""},
		{"broken JSON", nil, "application/json", `{"a": `, nil, problem.ComponentError},
		{"HTML that says JSON", nil, "application/json", `<html>hush</html>`, nil, problem.ComponentError},
		{"a number too large", nil, "application/json", `1e999`, nil, problem.ComponentError},
		{"as large as allowed", nil, "text/plain", strings.Repeat("x", actionhttp.MaxBody), strings.Repeat("x", actionhttp.MaxBody), ""},
		{"one byte more", nil, "text/plain", strings.Repeat("x", actionhttp.MaxBody+1), nil, problem.StateTooLarge},
		{"XML", nil, "application/xml", "<a/>", "<a/>", ""},
		{"no type", nil, "", "plain", "plain", ""},
		{"an image", nil, "image/png", "\x89PNG\r\n", nil, problem.ComponentError},
		{"bytes of no type", nil, "application/octet-stream", "a\x00b", nil, problem.ComponentError},
		{"auto by name", "auto", "application/json", "1", 1.0, ""},
		{"JSON that says text", "json", "text/plain", `{"a": 1}`, with{"a": 1.0}, ""},
		{"no JSON", "json", "text/html; charset=utf-8", "<html>hush</html>", nil, problem.ComponentError},
		{"nothing instead of JSON", "json", "text/html", "", nil, ""},
		{"JSON as text", "text", "application/json", `{"a": 1}`, `{"a": 1}`, ""},
		{"an image as text", "text", "image/png", "\x89PNG", "\uFFFDPNG", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			base, c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", test.contentType)
				w.Header().Add("X-Two", "a")
				w.Header().Add("X-Two", "b")
				w.WriteHeader(http.StatusAccepted)
				_, _ = io.WriteString(w, test.body)
			})
			output, err := execute(t, c, with{"url": base, "response": test.response})
			if test.code != "" {
				requireProblem(t, err, test.code, false)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, 202.0, output["status"])
			assert.Equal(t, test.want, output["body"])
			headers, _ := output["headers"].(map[string]any)
			assert.Equal(t, "a, b", headers["x-two"])
		})
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		status     int
		retryAfter string
		code       problem.Code
		retryable  bool
		after      time.Duration
	}{
		{400, "", problem.Upstream4xx, false, 0},
		{404, "7", problem.Upstream4xx, false, 0},
		{429, "", problem.RateLimited, true, 0},
		{429, "7", problem.RateLimited, true, 7 * time.Second},
		{429, "Thu, 01 Jan 2026 12:01:00 GMT", problem.RateLimited, true, time.Minute},
		{429, "Thu, 01 Jan 2026 11:00:00 GMT", problem.RateLimited, true, 0},
		{429, "-5", problem.RateLimited, true, 0},
		{429, "99999999999999999999", problem.RateLimited, true, 0},
		{500, "", problem.Upstream5xx, true, 0},
		{503, "1", problem.Upstream5xx, true, time.Second},
		{599, "", problem.Upstream5xx, true, 0},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%d %s", test.status, test.retryAfter), func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if test.retryAfter != "" {
					w.Header().Set("Retry-After", test.retryAfter)
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, "your key sk-hush is not valid")
			}))
			defer server.Close()
			c := newComponent(t, []string{server.Listener.Addr().String()}, func() time.Time { return now })
			_, err := execute(t, c, with{"url": server.URL, "query": with{"key": "sk-hush"}})
			requireProblem(t, err, test.code, test.retryable)
			var delayed *component.DelayError
			if test.after > 0 {
				require.ErrorAs(t, err, &delayed)
				assert.Equal(t, test.after, delayed.After)
			} else {
				assert.NotErrorAs(t, err, &delayed)
			}
		})
	}
}

func TestBadServers(t *testing.T) {
	t.Parallel()
	// hijack runs in the server's goroutine: a failure shows as another error than the one expected.
	hijack := func(w http.ResponseWriter) *net.TCPConn {
		hijacker, _ := w.(http.Hijacker)
		conn, _, err := hijacker.Hijack()
		if err != nil {
			panic(err)
		}
		tcp, _ := conn.(*net.TCPConn)
		return tcp
	}
	tests := []struct {
		name      string
		handler   func(w http.ResponseWriter, r *http.Request)
		code      problem.Code
		retryable bool
	}{
		{"stalls before its answer", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, problem.Timeout, true},
		{"stalls in its answer", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "begin")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, problem.Timeout, true},
		{"drops the connection", func(w http.ResponseWriter, _ *http.Request) { _ = hijack(w).Close() }, problem.Connection, true},
		{"drops it in its answer", func(w http.ResponseWriter, _ *http.Request) {
			conn := hijack(w)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin")
			_ = conn.Close()
		}, problem.Connection, true},
		{"resets the connection", func(w http.ResponseWriter, _ *http.Request) {
			conn := hijack(w)
			_ = conn.SetLinger(0)
			_ = conn.Close()
		}, problem.Connection, true},
		{"does not speak HTTP", func(w http.ResponseWriter, _ *http.Request) {
			conn := hijack(w)
			_, _ = io.WriteString(conn, "SSH-2.0-OpenSSH_9.2 at 10.0.0.7\r\n")
			_ = conn.Close()
		}, problem.Connection, true},
		{"sends endless headers", func(w http.ResponseWriter, _ *http.Request) {
			conn := hijack(w)
			_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			for err == nil {
				_, err = io.WriteString(conn, "X-A: "+strings.Repeat("a", 1000)+"\r\n")
			}
			_ = conn.Close()
		}, problem.Connection, true},
		{"sends an endless body", func(w http.ResponseWriter, _ *http.Request) {
			_, err := io.WriteString(w, "[")
			for err == nil {
				_, err = io.WriteString(w, strings.Repeat("1,", 1000))
			}
		}, problem.StateTooLarge, false},
		{"sends an endless error page", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, err := io.WriteString(w, "x")
			for err == nil {
				_, err = io.WriteString(w, strings.Repeat("x", 1000))
			}
		}, problem.Upstream5xx, true},
		{"sends a gzip bomb", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			packed := gzip.NewWriter(w)
			zeros := make([]byte, 1<<20)
			for range 200 {
				if _, err := packed.Write(zeros); err != nil {
					return
				}
			}
			_ = packed.Close()
		}, problem.StateTooLarge, false},
		{"redirects for ever", func(w http.ResponseWriter, r *http.Request) {
			redirect(w, r.URL.Path+"x")
		}, problem.ComponentError, false},
		{"redirects to the metadata service", func(w http.ResponseWriter, _ *http.Request) {
			redirect(w, "http://169.254.169.254/latest/meta-data")
		}, problem.AddressRefused, false},
		{"redirects to a file", func(w http.ResponseWriter, _ *http.Request) {
			redirect(w, "file:///etc/passwd")
		}, problem.AddressRefused, false},
		{"redirects with a password", func(w http.ResponseWriter, r *http.Request) {
			redirect(w, "http://user@"+r.Host+"/")
		}, problem.AddressRefused, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			base, c := serve(t, test.handler)
			timeout := time.Minute
			if test.code == problem.Timeout {
				timeout = 200 * time.Millisecond
			}
			_, err := executeIn(t, c, with{"url": base + "/?key=hush"}, timeout)
			requireProblem(t, err, test.code, test.retryable)
		})
	}
}

func redirect(w http.ResponseWriter, target string) {
	w.Header().Set("Location", target)
	w.WriteHeader(http.StatusFound)
}

// echo answers with what came in headers.
func echo(w http.ResponseWriter, r *http.Request, names ...string) {
	for _, name := range names {
		_, _ = w.Write([]byte(r.Header.Get(name))) //nolint:gosec // no browser reads it
	}
}

func TestFollowsRedirects(t *testing.T) {
	t.Parallel()
	base, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/xxxxx" {
			redirect(w, r.URL.Path+"x")
			return
		}
		echo(w, r, "Authorization", "Referer")
	})
	output, err := execute(t, c, with{"url": base + "/?key=hush", "headers": with{"Authorization": "kept"}})
	require.NoError(t, err)
	assert.Equal(t, "kept", output["body"], "the same host gets the author's headers, and no Referer")
}

func TestRedirectToAnotherHostTakesNoCredentials(t *testing.T) {
	t.Parallel()
	var home *httptest.Server
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/back" {
			redirect(w, home.URL+"/seen")
			return
		}
		echo(w, r, "Authorization", "X-Api-Key", "Referer", "Idempotency-Key")
	}))
	defer other.Close()
	home = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/seen" {
			echo(w, r, "X-Api-Key", "Idempotency-Key")
			return
		}
		redirect(w, other.URL+r.URL.Path)
	}))
	defer home.Close()
	c := newComponent(t, []string{home.Listener.Addr().String(), other.Listener.Addr().String()}, clock.System)
	headers := with{"Authorization": "hush", "X-Api-Key": "hush"}
	output, err := execute(t, c, with{"url": home.URL + "/away?key=hush", "headers": headers})
	require.NoError(t, err)
	assert.Equal(t, "e1/find", output["body"])
	output, err = execute(t, c, with{"url": home.URL + "/back", "headers": headers})
	require.NoError(t, err)
	assert.Equal(t, "e1/find", output["body"], "a host that was named by another one gets nothing either")
	for _, auth := range []with{{"bearer": "hush"}, {"basic": with{"username": "hush", "password": "hush"}}} {
		output, err = execute(t, c, with{"url": home.URL + "/away", "auth": auth})
		require.NoError(t, err)
		assert.Equal(t, "e1/find", output["body"])
	}
}

// TestGuard needs no network: an address is refused before anything is sent.
func TestGuard(t *testing.T) {
	t.Parallel()
	called := make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called <- struct{}{} }))
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	strict := newComponent(t, []string{"127.0.0.1:1", "10.0.0.1:80"}, clock.System)
	for _, host := range []string{
		"127.0.0.1:" + port, "localhost:" + port, "[::1]:" + port, "[::ffff:127.0.0.1]:" + port, "0.0.0.0:" + port, "127.1.2.3:" + port,
		"10.0.0.2", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "[fe80::1]", "[fd00::1]", "[64:ff9b::7f00:1]",
	} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			_, err := execute(t, strict, with{"url": "http://" + host + "/?key=hush"})
			requireProblem(t, err, problem.AddressRefused, false)
		})
	}
	for _, allowed := range []string{"127.0.0.1:" + port, "localhost:" + port, "LocalHost:" + port} {
		c := newComponent(t, []string{allowed}, clock.System)
		_, err := execute(t, c, with{"url": "http://localhost:" + port})
		require.NoError(t, err, allowed)
		<-called
	}
	assert.Empty(t, called)
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	c := newComponent(t, []string{address}, clock.System)
	_, err = execute(t, c, with{"url": "http://" + address})
	requireProblem(t, err, problem.Connection, true)
}

func TestCertificate(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	c := newComponent(t, []string{server.Listener.Addr().String()}, clock.System)
	_, err := execute(t, c, with{"url": server.URL})
	requireProblem(t, err, problem.Connection, false)
}

// TestLargeAnswerStaysOutOfMemory: 50 MB that are announced and sent are not read.
func TestLargeAnswerStaysOutOfMemory(t *testing.T) { //nolint:paralleltest // it measures memory
	chunk := make([]byte, 1<<20)
	base, c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "52428800")
		for range 50 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := execute(t, c, with{"url": base})
	runtime.ReadMemStats(&after)
	requireProblem(t, err, problem.StateTooLarge, false)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(12<<20))
}

func TestAllowedHosts(t *testing.T) {
	t.Parallel()
	require.NoError(t, outbound.AllowedHosts{"127.0.0.1:8001", "directory:80", "[::1]:9"}.Validate())
	for _, wrong := range []string{"127.0.0.1", ":80", "host:", "host:0", "host:70000", "http://host:80", " host:80", ""} {
		require.Error(t, outbound.AllowedHosts{wrong}.Validate(), wrong)
	}
}

// requireProblem checks an error and that it gives away neither address nor secret.
func requireProblem(t *testing.T, err error, code problem.Code, retryable bool) {
	t.Helper()
	var found *problem.Error
	require.ErrorAs(t, err, &found)
	assert.Equal(t, code, found.Code, found.Message)
	assert.Equal(t, retryable, found.Retryable)
	for _, secret := range []string{"hush", "127.0.0.1", "localhost", "169.254", "10.0", "key="} {
		assert.NotContains(t, found.Message, secret)
	}
}
