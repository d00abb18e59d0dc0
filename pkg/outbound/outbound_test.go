package outbound_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/problem"
)

func get(t *testing.T, network *outbound.Network, address string) (*http.Response, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	require.NoError(t, err)
	return network.Do(callOf("alice"), request)
}

func TestDial(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	require.NoError(t, err)
	address := listener.Addr().String()
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	allowed := newNetwork(t, address)
	conn, err := allowed.Dial(t.Context(), "tcp", address)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	conn, err = allowed.Dial(t.Context(), "tcp", "[::ffff:127.0.0.1]:"+port) // the same address
	require.NoError(t, err)
	require.NoError(t, conn.Close())

	byName := newNetwork(t, "LOCALHOST:"+port)
	conn, err = byName.Dial(t.Context(), "tcp", "localhost:"+port)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	_, err = byName.Dial(t.Context(), "tcp", "127.1.2.3:"+port)
	requireProblem(t, err, problem.AddressRefused, false)

	strict := newNetwork(t, "127.0.0.1:1")
	for _, host := range []string{
		"127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254",
		"fe80::1", "fd00::1", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1",
	} {
		_, err := strict.Dial(t.Context(), "tcp", net.JoinHostPort(host, port))
		requireProblem(t, err, problem.AddressRefused, false)
	}
	require.NoError(t, listener.Close())
	_, err = allowed.Dial(t.Context(), "tcp", address)
	requireProblem(t, err, problem.Connection, true)
	ended, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	_, err = allowed.Dial(ended, "tcp", address)
	requireProblem(t, err, problem.Timeout, true)
	for _, wrong := range []string{"", "127.0.0.1", "127.0.0.1:x", "x:y:z"} {
		_, err = allowed.Dial(t.Context(), "tcp", wrong)
		var found *problem.Error
		require.ErrorAs(t, err, &found, wrong)
	}
}

// TestSocketsAreRefused: no component can be talked into opening a socket of the machine.
func TestSocketsAreRefused(t *testing.T) {
	t.Parallel()
	directory, err := os.MkdirTemp("", "g") //nolint:usetesting // the path of a socket has to be short
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	listener, err := net.Listen("unix", directory+"/s") //nolint:noctx // it does not wait
	require.NoError(t, err)
	defer listener.Close() //nolint:errcheck // nothing was accepted
	_, err = newNetwork(t).Dial(t.Context(), "unix", directory+"/s")
	requireProblem(t, err, problem.AddressRefused, false)
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	seen := make(chan http.Header, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
	t.Cleanup(server.Close)
	network := newNetwork(t, server.Listener.Addr().String())
	call := callOf("alice")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
	require.NoError(t, err)
	request.Header.Set("User-Agent", "mine")
	response, err := network.Do(call, request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	header := <-seen
	assert.Equal(t, "e1/find", header.Get("Idempotency-Key"))
	assert.Equal(t, "00-trace", header.Get("traceparent"))
	assert.Equal(t, "mine", header.Get("User-Agent"))
	response, err = get(t, network, server.URL)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	assert.Equal(t, "galley", (<-seen).Get("User-Agent"))
}

// TestProxyIsNotUsed: a proxy of the executor would open connections without the guard.
func TestProxyIsNotUsed(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the proxy was asked") }))
	defer proxy.Close()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	response, err := get(t, newNetwork(t), "http://10.0.0.1/") //nolint:bodyclose // there is none
	requireProblem(t, err, problem.AddressRefused, false)
	assert.Nil(t, response)
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Query().Get("to"))
		if r.URL.Query().Has("to") {
			w.WriteHeader(http.StatusFound)
		}
	}))
	t.Cleanup(plain.Close)
	network := newNetwork(t, plain.Listener.Addr().String())
	other := strings.Replace(plain.URL, "127.0.0.1", "localhost", 1)
	for target, want := range map[string]problem.Code{
		"/there":                      "",
		"ftp://example.com/":          problem.AddressRefused,
		"javascript:alert(1)":         problem.AddressRefused,
		"http://u:p@example.com/":     problem.AddressRefused,
		"http://169.254.169.254/meta": problem.AddressRefused,
		other:                         "", // another name for what is allowed
		"http://[::1/":                problem.Connection,
		"?to=%3fto%3d%252f":           "",
	} {
		response, err := get(t, network, plain.URL+"/?to="+url.QueryEscape(target))
		if want == "" {
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			continue
		}
		requireProblem(t, err, want, want == problem.Connection)
	}
}

func TestReadBody(t *testing.T) {
	t.Parallel()
	read := func(reader io.Reader, limit int64) ([]byte, error) {
		return outbound.ReadBody(&http.Response{Body: io.NopCloser(reader)}, limit)
	}
	text, err := read(strings.NewReader("12345"), 5)
	require.NoError(t, err)
	assert.Equal(t, "12345", string(text))
	for limit, want := range map[int64]string{2048: "2 KiB", 1 << 20: "1 MiB"} {
		_, err = read(strings.NewReader(strings.Repeat("x", int(limit)+1)), limit)
		requireProblem(t, err, problem.StateTooLarge, false)
		assert.ErrorContains(t, err, want)
	}
	_, err = read(io.MultiReader(strings.NewReader("x"), failing{}), 5)
	requireProblem(t, err, problem.Connection, true)
}

type failing struct{}

// Read implements io.Reader.
func (failing) Read([]byte) (int, error) { return 0, errors.New("read 127.0.0.1: hush") }

func TestDiscardIsBounded(t *testing.T) {
	t.Parallel()
	read := &counting{}
	outbound.Discard(&http.Response{Body: io.NopCloser(read)})
	assert.LessOrEqual(t, read.bytes, 128<<10)
}

type counting struct{ bytes int }

// Read implements io.Reader.
func (c *counting) Read(p []byte) (int, error) {
	c.bytes += len(p)
	return len(p), nil
}

func TestClassify(t *testing.T) {
	t.Parallel()
	known := problem.Failure(problem.StateTooLarge, "known")
	for _, test := range []struct {
		err       error
		code      problem.Code
		retryable bool
	}{
		{context.DeadlineExceeded, problem.Timeout, true},
		{fmt.Errorf("get http://127.0.0.1/?key=hush: %w", os.ErrDeadlineExceeded), problem.Timeout, true},
		{&url.Error{Op: "Get", URL: "http://127.0.0.1/?key=hush", Err: io.ErrUnexpectedEOF}, problem.Connection, true},
		{&net.DNSError{Name: "hush", Err: "no such host"}, problem.Connection, true},
		{&net.OpError{Op: "dial", Err: errors.New("refused by 127.0.0.1")}, problem.Connection, true},
		{&tls.CertificateVerificationError{Err: errors.New("hush")}, problem.Connection, false},
		{context.Canceled, problem.Connection, true},
		{errors.New("hush"), problem.Connection, true},
		{fmt.Errorf("wrapped: %w", known), problem.StateTooLarge, false},
	} {
		requireProblem(t, outbound.Classify(test.err), test.code, test.retryable)
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	network := newNetworkAt(t, func() time.Time { return now })
	for _, status := range []int{200, 204, 301, 304, 399} {
		require.NoError(t, network.Refusal(&http.Response{StatusCode: status}))
	}
	for _, test := range []struct {
		status     int
		retryAfter string
		code       problem.Code
		retryable  bool
		after      time.Duration
	}{
		{400, "9", problem.Upstream4xx, false, 0},
		{499, "", problem.Upstream4xx, false, 0},
		{429, "9", problem.RateLimited, true, 9 * time.Second},
		{429, now.Add(time.Hour).Format(http.TimeFormat), problem.RateLimited, true, time.Hour},
		{429, "soon", problem.RateLimited, true, 0},
		{500, "4294967296", problem.Upstream5xx, true, 0},
		{503, "2147483647", problem.Upstream5xx, true, 2147483647 * time.Second},
		{799, "", problem.Upstream5xx, true, 0},
	} {
		err := network.Refusal(&http.Response{StatusCode: test.status, Header: http.Header{"Retry-After": {test.retryAfter}}})
		requireProblem(t, err, test.code, test.retryable)
		var delayed *outbound.DelayError
		if assert.Equal(t, test.after > 0, errors.As(err, &delayed)) && delayed != nil {
			assert.Equal(t, test.after, delayed.After)
		}
	}
}

func TestAllowedHosts(t *testing.T) {
	t.Parallel()
	require.NoError(t, outbound.AllowedHosts(nil).Validate())
	err := outbound.AllowedHosts{"good:1", "bad", "worse:0"}.Validate()
	require.ErrorContains(t, err, "bad")
	require.ErrorContains(t, err, "worse")
	require.NotContains(t, err.Error(), "good")
}
