package outbound_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/problem"
)

// talk has a conversation that ends with err, and tells whether it was had.
func talk(network *outbound.Network, customer, host string, err error) (had bool, result error) {
	result = network.Through(callOf(customer), host, func() error {
		had = true
		return err
	})
	return had, result
}

func fail(t *testing.T, network *outbound.Network, customer, host string, times int) {
	t.Helper()
	down := problem.Retryable(problem.Connection, "down")
	for range times {
		had, err := talk(network, customer, host, down)
		require.True(t, had)
		require.Equal(t, down, err)
	}
}

func requireOpen(t *testing.T, network *outbound.Network, customer, host string) {
	t.Helper()
	had, err := talk(network, customer, host, nil)
	require.False(t, had)
	requireProblem(t, err, problem.CircuitOpen, true)
	var delayed *outbound.DelayError
	require.ErrorAs(t, err, &delayed)
	require.Positive(t, delayed.After)
}

func requireClosed(t *testing.T, network *outbound.Network, customer, host string) {
	t.Helper()
	had, err := talk(network, customer, host, nil)
	require.True(t, had)
	require.NoError(t, err)
}

func TestBreakerOpensForOneCustomerAndHost(t *testing.T) {
	t.Parallel()
	network := newNetwork(t)
	fail(t, network, "alice", "db.example.com:5432", 9)
	requireClosed(t, network, "alice", "db.example.com:5432")
	fail(t, network, "alice", "DB.example.com:5432", 1)
	requireOpen(t, network, "alice", "db.example.com:5432")
	requireClosed(t, network, "alice", "db.example.com:5433")
	requireClosed(t, network, "alice", "example.com:5432")
	requireClosed(t, network, "bob", "db.example.com:5432")
}

// TestWhatCounts: ten of a kind open the breaker, or never do.
func TestWhatCounts(t *testing.T) {
	t.Parallel()
	for err, counts := range map[error]bool{
		problem.Retryable(problem.Timeout, ""):                                                        true,
		problem.Retryable(problem.Connection, ""):                                                     true,
		problem.Retryable(problem.Upstream5xx, ""):                                                    true,
		problem.Retryable(problem.Unavailable, ""):                                                    true,
		&outbound.DelayError{Problem: problem.Retryable(problem.Upstream5xx, ""), After: time.Second}: true,
		problem.Retryable(problem.RateLimited, ""):                                                    false,
		problem.Failure(problem.Upstream4xx, ""):                                                      false,
		problem.Failure(problem.UpstreamRejected, ""):                                                 false,
		problem.Failure(problem.AddressRefused, ""):                                                   false,
		problem.Failure(problem.ComponentError, ""):                                                   false,
		context.Canceled:       false,
		errors.New("a defect"): false,
	} {
		network := newNetwork(t)
		for range 10 {
			had, _ := talk(network, "alice", "host:1", err)
			require.True(t, had, err)
		}
		if counts {
			requireOpen(t, network, "alice", "host:1")
		} else {
			requireClosed(t, network, "alice", "host:1")
		}
	}
}

// TestMostlyWorking: a host of which most calls succeed is called on.
func TestMostlyWorking(t *testing.T) {
	t.Parallel()
	network := newNetwork(t)
	for range 20 {
		requireClosed(t, network, "alice", "host:1")
	}
	fail(t, network, "alice", "host:1", 19)
	requireClosed(t, network, "alice", "host:1")
}

// TestBreakerClosesAgain is the one test that waits for the breaker.
func TestBreakerClosesAgain(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	broken.Store(true)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	t.Cleanup(server.Close)
	network := newNetwork(t, server.Listener.Addr().String())
	call := func() error {
		response, err := get(t, network, server.URL)
		if err == nil {
			err = response.Body.Close()
		}
		return err
	}
	for range 10 {
		require.NoError(t, call(), "a status is not an error here, and counts all the same")
	}
	requireProblem(t, call(), problem.CircuitOpen, true)
	broken.Store(false)
	require.Eventually(t, func() bool { return call() == nil }, time.Minute, 50*time.Millisecond)
	for range 10 {
		require.NoError(t, call())
	}
}

// TestManyTalksAtATime: the breaker opens once, for all of them.
func TestManyTalksAtATime(t *testing.T) {
	t.Parallel()
	network := newNetwork(t)
	var running sync.WaitGroup
	var had atomic.Int32
	for range 50 {
		running.Go(func() {
			for range 20 {
				if ok, _ := talk(network, "alice", "host:1", problem.Retryable(problem.Timeout, "")); ok {
					had.Add(1)
				}
			}
		})
	}
	running.Wait()
	requireOpen(t, network, "alice", "host:1")
	assert.GreaterOrEqual(t, had.Load(), int32(10))
	assert.Less(t, had.Load(), int32(1000))
}
