package actionhttp

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// classify says what went wrong with a call that has no complete answer. The text of err is not used: it names the URL with its
// query, and addresses.
func classify(err error) error {
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
		return failure(problem.AddressRefused, "the address is not allowed: it is not a public one")
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return retryable(problem.Timeout, "no complete answer in time")
	case errors.As(err, &certificate):
		return failure(problem.Connection, "the certificate of the other side is not valid")
	case errors.As(err, &unknownName):
		return retryable(problem.Connection, "the name of the host cannot be resolved")
	case errors.As(err, &operation) && operation.Op == "dial":
		return retryable(problem.Connection, "the connection could not be opened")
	}
	return retryable(problem.Connection, "the connection broke off or what came was not HTTP")
}

// refused says what a status from 400 up means.
func (c *Component) refused(response *http.Response) error {
	message := fmt.Sprintf("the other side answered %d %s", response.StatusCode, http.StatusText(response.StatusCode))
	message = strings.TrimSpace(message)
	var answer *problem.Error
	switch {
	case response.StatusCode == http.StatusTooManyRequests:
		answer = retryable(problem.RateLimited, message)
	case response.StatusCode >= http.StatusInternalServerError:
		answer = retryable(problem.Upstream5xx, message)
	default:
		return failure(problem.Upstream4xx, message)
	}
	if after := c.retryAfter(response.Header.Get("Retry-After")); after > 0 {
		return &component.DelayError{Problem: answer, After: after}
	}
	return answer
}

// retryAfter reads seconds or a date; 0 is neither.
func (c *Component) retryAfter(value string) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return date.Sub(c.clock())
	}
	return 0
}

func decodeBody(contentType string, body []byte) (any, error) {
	if len(body) == 0 {
		return nil, nil
	}
	if !isJSON(contentType) {
		return strings.ToValidUTF8(string(body), "\uFFFD"), nil
	}
	var decoded any
	if err := json.Unmarshal(body, &decoded); err != nil {
		return nil, failure(problem.ComponentError, "the answer says that it is JSON and is not")
	}
	return decoded, nil
}

func decodeHeader(header http.Header) map[string]any {
	decoded := make(map[string]any, len(header))
	for name, values := range header {
		decoded[strings.ToLower(name)] = strings.ToValidUTF8(strings.Join(values, ", "), "\uFFFD")
	}
	return decoded
}
