package outbound

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/galley-engine/galley/schemas/problem"
)

const (
	// A breaker opens when at least minFailures of the calls in the last window have failed, and they are at least half of them.
	window      = 10 * time.Second
	bucket      = time.Second
	minFailures = 10
	// openFor is how long it stays open before a few calls try again.
	openFor     = 5 * time.Second
	probes      = 3
	maxBreakers = 4096
)

// target is whom a customer calls.
type target struct{ customer, host string }

type breaker = gobreaker.TwoStepCircuitBreaker[struct{}]

func newBreaker() *breaker {
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: probes, Interval: window, BucketPeriod: bucket, Timeout: openFor,
		ReadyToTrip: func(counts gobreaker.Counts) bool {
			return counts.TotalFailures >= minFailures && 2*counts.TotalFailures >= counts.Requests
		},
		IsSuccessful: func(err error) bool { return !countsAgainst(err) },
		IsExcluded:   func(err error) bool { return errors.Is(err, context.Canceled) },
	})
}

// countsAgainst tells failures of the host from those of the caller.
func countsAgainst(err error) bool {
	failed, ok := errors.AsType[*problem.Error](err)
	if !ok {
		return false
	}
	return slices.Contains([]problem.Code{problem.Timeout, problem.Connection, problem.Upstream5xx, problem.Unavailable}, failed.Code)
}

// allow asks the breaker for a host; whoever is let through reports how it went with done.
func (n *Network) allow(call *Call, host string) (done func(err error), err error) {
	key := target{call.Customer, strings.ToLower(host)}
	b, known := n.breakers.Get(key)
	if !known {
		fresh := newBreaker()
		if earlier, raced, _ := n.breakers.PeekOrAdd(key, fresh); raced {
			b = earlier
		} else {
			b = fresh
		}
	}
	if done, err = b.Allow(); err != nil {
		return nil, &DelayError{
			Problem: problem.Retryable(problem.CircuitOpen, "the other side has failed often of late and is not called at the moment"),
			After:   openFor,
		}
	}
	return done, nil
}
