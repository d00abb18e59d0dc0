package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/galley-engine/galley/schemas/problem"
)

// Classify says what went wrong with a conversation that has no complete answer, as a *problem.Error. The text of err is not used: it
// names the URL with its query, and addresses.
func Classify(err error) error {
	var (
		known       *problem.Error
		timeout     interface{ Timeout() bool }
		certificate *tls.CertificateVerificationError
		unknownName *net.DNSError
		operation   *net.OpError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, errRefused):
		return problem.Failure(problem.AddressRefused, "the address is not allowed: it is not a public one")
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return problem.Retryable(problem.Timeout, "no complete answer in time")
	case errors.As(err, &certificate):
		return problem.Failure(problem.Connection, "the certificate of the other side is not valid")
	case errors.As(err, &unknownName):
		return problem.Retryable(problem.Connection, "the name of the host cannot be resolved")
	case errors.As(err, &operation) && operation.Op == "dial":
		return problem.Retryable(problem.Connection, "the connection could not be opened")
	}
	return problem.Retryable(problem.Connection, "the connection broke off or what came was not understood")
}

// Refusal says what a status from 400 up means, with the delay that the other side asked for. It is nil for any other status. The body
// is not looked at: it may echo secrets.
func (n *Network) Refusal(response *http.Response) error {
	if response.StatusCode < http.StatusBadRequest {
		return nil
	}
	message := fmt.Sprintf("the other side answered %d %s", response.StatusCode, http.StatusText(response.StatusCode))
	message = strings.TrimSpace(message)
	var answer *problem.Error
	switch {
	case response.StatusCode == http.StatusTooManyRequests:
		answer = problem.Retryable(problem.RateLimited, "%s", message)
	case response.StatusCode >= http.StatusInternalServerError:
		answer = problem.Retryable(problem.Upstream5xx, "%s", message)
	default:
		return problem.Failure(problem.Upstream4xx, "%s", message)
	}
	return n.Delayed(answer, response.Header)
}

// Delayed adds to a failure the delay that the other side asked for with Retry-After, if it did.
func (n *Network) Delayed(failure *problem.Error, header http.Header) error {
	if after := n.retryAfter(header.Get("Retry-After")); after > 0 {
		return &DelayError{Problem: failure, After: after}
	}
	return failure
}

// retryAfter reads seconds or a date; 0 is neither.
func (n *Network) retryAfter(value string) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return date.Sub(n.clock())
	}
	return 0
}
