package outbound_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newNetwork(t *testing.T, allowed ...string) *outbound.Network {
	t.Helper()
	return newNetworkAt(t, clock.System, allowed...)
}

func newNetworkAt(t *testing.T, now func() time.Time, allowed ...string) *outbound.Network {
	t.Helper()
	network, err := outbound.New(allowed, now)
	require.NoError(t, err)
	t.Cleanup(network.Close)
	return network
}

func callOf(customer string) *outbound.Call {
	return &outbound.Call{Customer: customer, IdempotencyKey: "e1/find", TraceParent: "00-trace"}
}

// requireProblem checks an error and that it gives away no address.
func requireProblem(t *testing.T, err error, code problem.Code, retryable bool) {
	t.Helper()
	var found *problem.Error
	require.ErrorAs(t, err, &found)
	assert.Equal(t, code, found.Code, found.Message)
	assert.Equal(t, retryable, found.Retryable, found.Message)
	for _, hidden := range []string{"hush", "127.0.0.1", "localhost", "10.0", "key="} {
		assert.NotContains(t, found.Message, hidden)
	}
}
