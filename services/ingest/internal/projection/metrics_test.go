package projection_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/ingest/internal/projection"
)

// TestExecutionsAreCounted once, also when they end in another batch than they began in; those that are read again are not.
func TestExecutionsAreCounted(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	projected := projection.New(f.bus, f.pool, zerolog.Nop())
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(projected))
	await := func(accepted, success, partial, failed string) {
		t.Helper()
		require.Eventually(t, func() bool {
			return testutil.GatherAndCompare(registry, strings.NewReader(`
				# HELP galley_executions_accepted_total Executions accepted, by whatever way they came.
				# TYPE galley_executions_accepted_total counter
				galley_executions_accepted_total `+accepted+`
				# HELP galley_executions_completed_total Executions ended, by their status.
				# TYPE galley_executions_completed_total counter
				galley_executions_completed_total{status="failed"} `+failed+`
				galley_executions_completed_total{status="partial"} `+partial+`
				galley_executions_completed_total{status="success"} `+success+`
			`), "galley_executions_accepted_total", "galley_executions_completed_total") == nil
		}, 20*time.Second, 10*time.Millisecond, "not %s accepted, %s success, %s partial, %s failed", accepted, success, partial, failed)
	}
	await("0", "0", "0", "0")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- projected.Run(ctx) }()
	defer func() {
		cancel()
		assert.NoError(t, <-ended)
	}()
	f.write(t, "cust_001", event.StatusSuccess)
	f.write(t, "cust_001", event.StatusFailed)
	late := f.write(t, "cust_001", event.StatusAccepted)
	await("3", "1", "0", "1")
	f.end(t, late, event.StatusPartial)
	await("3", "1", "1", "1")

	_, err := projection.Rebuild(t.Context(), f.pool, f.bus)
	require.NoError(t, err)
	f.write(t, "cust_001", event.StatusSuccess) // it comes in a batch with those that are read again
	f.eventually(t, 0, 4)
	f.write(t, "cust_001", event.StatusSuccess)
	await("4", "2", "1", "1")

	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == "galley_execution_duration_seconds" {
			for _, one := range family.GetMetric() {
				assert.Positive(t, one.GetHistogram().GetSampleCount(), one)
				assert.Less(t, one.GetHistogram().GetSampleSum(), 60.0, one)
			}
		}
	}
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	require.Empty(t, problems)
}
