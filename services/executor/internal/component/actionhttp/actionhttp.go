// Package actionhttp runs action.http: one call of an HTTP API.
//
// Input: {method, url, query, headers, body}. Output: {status, headers, body}; names of headers are in lower case, and the body
// is decoded when it says that it is JSON, else it is a string (null when it is empty).
//
// A body is sent as JSON, except a string together with a Content-Type header that is not JSON, which is sent as it is. Every
// call carries Idempotency-Key, the same for all attempts of the step, and traceparent.
//
// Recipe authors are not trusted: connections go to public addresses only, save for those that the operator allows, also
// after a redirect; there is no proxy; size and number of everything that comes back is bounded.
package actionhttp

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

const (
	// MaxBody is the most that is read of an answer, decompressed.
	MaxBody = 1 << 20

	maxHeader      = 64 << 10
	maxDiscard     = 64 << 10
	maxRedirects   = 5
	maxIdle        = 4096
	maxIdlePerHost = 1024
	idleTimeout    = 90 * time.Second
	tlsTimeout     = 10 * time.Second
)

// Component is action.http. Close it after its last use.
type Component struct {
	client    *http.Client
	transport *http.Transport
	clock     clock.Clock
}

// New makes the component; steps may also call the allowed hosts.
func New(allowed AllowedHosts, now clock.Clock) *Component {
	transport := &http.Transport{
		Proxy:                  nil,
		DialContext:            newGuard(allowed).dial,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    tlsTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		MaxResponseHeaderBytes: maxHeader,
	}
	return &Component{
		transport: transport, clock: now,
		client: &http.Client{Transport: transport, CheckRedirect: checkRedirect},
	}
}

// Close lets go of idle connections.
func (c *Component) Close() {
	c.transport.CloseIdleConnections()
}

// Execute makes the call.
func (c *Component) Execute(ctx context.Context, call *component.Call) (component.Result, error) {
	request, err := newRequest(ctx, call)
	if err != nil {
		return component.Result{}, err
	}
	response, err := c.client.Do(request)
	if err != nil {
		return component.Result{}, classify(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode >= http.StatusBadRequest {
		// What is read here lets the connection be used again. It is not told to the customer: an error page may echo secrets.
		_, _ = io.CopyN(io.Discard, response.Body, maxDiscard)
		return component.Result{}, c.refused(response)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, MaxBody+1))
	switch {
	case err != nil:
		return component.Result{}, classify(err)
	case len(body) > MaxBody:
		return component.Result{}, failure(problem.StateTooLarge, "the body of the answer is larger than 1 MiB")
	}
	decoded, err := decodeBody(response.Header.Get("Content-Type"), body)
	if err != nil {
		return component.Result{}, err
	}
	return component.Result{Output: map[string]any{
		"status": float64(response.StatusCode), "headers": decodeHeader(response.Header), "body": decoded,
	}}, nil
}

// checkRedirect follows a few redirects over http and https, never from https down to http. The author's headers may hold
// credentials: they go to the host that the author named and to no other.
func checkRedirect(request *http.Request, via []*http.Request) error {
	first, previous := via[0].URL, via[len(via)-1].URL
	scheme := request.URL.Scheme
	switch {
	case len(via) > maxRedirects:
		return failure(problem.ComponentError, "more than 5 redirects")
	case scheme != "http" && scheme != "https":
		return failure(problem.AddressRefused, "a redirect to something other than http or https")
	case previous.Scheme == "https" && scheme == "http":
		return failure(problem.AddressRefused, "a redirect from https to http")
	case request.URL.User != nil:
		return failure(problem.AddressRefused, "a redirect to an address with a user name")
	}
	request.Header.Del("Referer") // it would show the query string to another host
	left := !sameOrigin(first, request.URL)
	for _, earlier := range via {
		left = left || !sameOrigin(first, earlier.URL)
	}
	if left {
		kept := make(http.Header)
		for _, name := range []string{headerIdempotency, event.HeaderTraceParent, "User-Agent", "Content-Type"} {
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

func failure(code problem.Code, message string) *problem.Error {
	return &problem.Error{Code: code, Message: message}
}

func retryable(code problem.Code, message string) *problem.Error {
	return &problem.Error{Code: code, Message: message, Retryable: true}
}
