// Package outbound is how customers have galley reach the world. They are not trusted: every connection to an address that a customer names is
// opened here.
//
// Connections go to public addresses only, save for those that the operator allows, also after a redirect; there is no proxy. Every
// HTTP request carries Idempotency-Key, the same for all attempts, and traceparent. A customer who has met with failures of a
// host for some time does not call it for a while (a circuit breaker for each customer and host: what one customer does to a host
// keeps no other from it).
package outbound

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
)

// HeaderIdempotency carries the idempotency key of a call.
const HeaderIdempotency = "Idempotency-Key"

const (
	maxHeader      = 64 << 10
	maxDiscard     = 64 << 10
	maxRedirects   = 5
	maxIdle        = 4096
	maxIdlePerHost = 1024
	idleTimeout    = 90 * time.Second
	tlsTimeout     = 10 * time.Second
)

// Call is what a connection is opened for.
type Call struct {
	Customer string
	// IdempotencyKey is the same for all attempts to do the same.
	IdempotencyKey string
	// TraceParent is a W3C trace context, or "".
	TraceParent string
}

// DelayError is a failure whose other side said when to try again.
type DelayError struct {
	Problem *problem.Error
	After   time.Duration
}

// Error is the text of the problem.
func (e *DelayError) Error() string { return e.Problem.Error() }

// Unwrap gives the problem.
func (e *DelayError) Unwrap() error { return e.Problem }

// Network is what all calls of a process share of the network. It is safe for concurrent use.
type Network struct {
	guard     *guard
	client    *http.Client
	transport *http.Transport
	breakers  *lru.Cache[target, *breaker]
	clock     clock.Clock
}

// New makes a Network; calls may also go to the allowed hosts. Close it after its last use.
func New(allowed AllowedHosts, now clock.Clock) (*Network, error) {
	breakers, err := lru.New[target, *breaker](maxBreakers)
	if err != nil {
		return nil, fmt.Errorf("make the circuit breakers: %w", err)
	}
	guard := newGuard(allowed)
	transport := &http.Transport{
		Proxy:                  nil,
		DialContext:            guard.dial,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    tlsTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		MaxResponseHeaderBytes: maxHeader,
	}
	return &Network{
		guard: guard, transport: transport, clock: now, breakers: breakers,
		client: &http.Client{Transport: transport, CheckRedirect: checkRedirect},
	}, nil
}

// Close lets go of idle connections.
func (n *Network) Close() {
	n.transport.CloseIdleConnections()
}

// Dial opens a guarded connection for protocols other than HTTP. The address is host:port. Its error is a *problem.Error.
func (n *Network) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := n.guard.dial(ctx, network, address)
	if err != nil {
		return nil, Classify(err)
	}
	return conn, nil
}

// Do sends an HTTP request for a call, with its idempotency key and trace, and gives the answer whatever its status; see [Network.Refusal].
// The caller closes its body. An error is a *problem.Error, possibly inside a DelayError.
func (n *Network) Do(call *Call, request *http.Request) (*http.Response, error) {
	request.Header.Set(HeaderIdempotency, call.IdempotencyKey)
	if call.TraceParent != "" {
		request.Header.Set(event.HeaderTraceParent, call.TraceParent)
	}
	if request.Header.Get("User-Agent") == "" {
		request.Header.Set("User-Agent", "galley")
	}
	done, err := n.allow(call, request.URL.Host)
	if err != nil {
		return nil, err
	}
	response, err := n.client.Do(request) //nolint:gosec // customers say where to: the guard refuses what they may not reach
	if err != nil {
		err = Classify(err)
		done(err)
		return nil, err
	}
	if response.StatusCode >= http.StatusInternalServerError {
		done(problem.Failure(problem.Upstream5xx, "status %d", response.StatusCode))
	} else {
		done(nil)
	}
	return response, nil
}

// Through runs a conversation with a host over a protocol other than HTTP, unless the customer's circuit breaker for it is open. Failures
// with the codes TIMEOUT, CONNECTION, UPSTREAM_5XX and UNAVAILABLE count against the host.
func (n *Network) Through(call *Call, host string, talk func() error) error {
	done, err := n.allow(call, host)
	if err != nil {
		return err
	}
	err = talk()
	done(err)
	return err
}

// ReadBody reads the body of an answer, decompressed, up to a limit in bytes. Its error is a *problem.Error.
func ReadBody(response *http.Response, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	switch {
	case err != nil:
		return nil, Classify(err)
	case int64(len(body)) > limit:
		return nil, problem.Failure(problem.StateTooLarge, "the body of the answer is larger than %s", bytesText(limit))
	}
	return body, nil
}

func bytesText(n int64) string {
	if n >= 1<<20 && n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

// Discard reads what is left of a body that nobody wants, up to a limit, so that the connection can be used again. An error page is not
// told to the customer: it may echo secrets.
func Discard(response *http.Response) {
	_, _ = io.CopyN(io.Discard, response.Body, maxDiscard)
}

// checkRedirect follows a few redirects over http and https, never from https down to http. The caller's headers may hold
// credentials: they go to the host that the caller named and to no other.
func checkRedirect(request *http.Request, via []*http.Request) error {
	first, previous := via[0].URL, via[len(via)-1].URL
	scheme := request.URL.Scheme
	switch {
	case len(via) > maxRedirects:
		return problem.Failure(problem.ComponentError, "more than 5 redirects")
	case scheme != "http" && scheme != "https":
		return problem.Failure(problem.AddressRefused, "a redirect to something other than http or https")
	case previous.Scheme == "https" && scheme == "http":
		return problem.Failure(problem.AddressRefused, "a redirect from https to http")
	case request.URL.User != nil:
		return problem.Failure(problem.AddressRefused, "a redirect to an address with a user name")
	}
	request.Header.Del("Referer") // it would show the query string to another host
	left := !sameOrigin(first, request.URL)
	for _, earlier := range via {
		left = left || !sameOrigin(first, earlier.URL)
	}
	if left {
		kept := make(http.Header)
		for _, name := range []string{HeaderIdempotency, event.HeaderTraceParent, "User-Agent", "Content-Type"} {
			if values := request.Header.Values(name); len(values) > 0 {
				kept[http.CanonicalHeaderKey(name)] = values
			}
		}
		request.Header = kept //nolint:gosec // it takes away what the client has copied
	}
	return nil
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && a.Host == b.Host
}
