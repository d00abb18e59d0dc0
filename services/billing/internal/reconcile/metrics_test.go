package reconcile_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/services/billing/internal/reconcile"
)

// gauges reads what a reconciler tells, by name without the common beginning.
func gauges(t *testing.T, reconciler *reconcile.Reconciler) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(reconciler))
	families, err := registry.Gather()
	require.NoError(t, err)
	const prefix = "galley_reconcile_"
	values := make(map[string]float64, len(families))
	for _, family := range families {
		require.Contains(t, family.GetName(), prefix)
		values[family.GetName()[len(prefix):]] = family.GetMetric()[0].GetGauge().GetValue()
	}
	return values
}

// TestFailureIsAMetric that an alert can watch: a ledger that somebody has changed, and a run that cannot be completed.
func TestFailureIsAMetric(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	reconciler, standby := s.reconciler(time.Hour), s.reconciler(time.Hour)
	const interval = 3600.0
	assert.Equal(t, map[string]float64{"interval_seconds": interval}, gauges(t, reconciler), "nothing is known before the first run")
	stop := run(t, reconciler.Run)
	first := float64(s.clock.Now().UnixMilli()) / 1000
	good := map[string]float64{
		"interval_seconds": interval, "last_run_failed": 0, "violations": 0, "last_run_timestamp_seconds": first, "last_success_timestamp_seconds": first,
	}
	await(t, reconciler, good)
	run(t, standby.Run)
	stop()
	assert.Equal(t, map[string]float64{"interval_seconds": interval}, gauges(t, reconciler), "it does not reconcile any more")
	await(t, standby, good)

	s.tamper(t, `UPDATE billing.accounts SET balance = balance + 1`)
	s.clock.Advance(2 * time.Hour)
	bad, err := standby.Reconcile(t.Context())
	require.NoError(t, err)
	require.NotZero(t, bad.Found)
	second := first + 2*interval
	sabotaged := map[string]float64{
		"interval_seconds": interval, "last_run_failed": 1, "violations": float64(bad.Found), "last_run_timestamp_seconds": second,
		"last_success_timestamp_seconds": first,
	}
	await(t, standby, sabotaged)
	problems, err := testutil.CollectAndLint(standby)
	require.NoError(t, err)
	require.Empty(t, problems)

	s.tamper(t, `UPDATE billing.accounts SET balance = balance - 1`)
	s.clock.Advance(time.Hour)
	_, err = standby.Reconcile(t.Context())
	require.NoError(t, err)
	mended := gauges(t, standby)
	assert.Equal(t, []float64{0, 0}, []float64{mended["last_run_failed"], mended["violations"]})
	assert.InDelta(t, second+interval, mended["last_success_timestamp_seconds"], 0.001)
}

// TestRestartKnowsTheLastFailure: the alert does not end because the process was restarted.
func TestRestartKnowsTheLastFailure(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.tamper(t, `UPDATE billing.accounts SET balance = balance + 1`)
	bad, err := s.reconciler(time.Hour).Reconcile(t.Context())
	require.NoError(t, err)
	restarted := s.reconciler(time.Hour)
	run(t, restarted.Run)
	await(t, restarted, map[string]float64{
		"interval_seconds": 3600, "last_run_failed": 1, "violations": float64(bad.Found),
		"last_run_timestamp_seconds": float64(bad.EndedAt.UnixMilli()) / 1000,
	})
}

// TestRunThatCannotBeCompleted has failed, too.
func TestRunThatCannotBeCompleted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	conn, err := pgx.Connect(t.Context(), s.url)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `ALTER TABLE billing.charges RENAME TO hidden`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	reconciler := s.reconciler(time.Hour)
	run(t, reconciler.Run)
	await(t, reconciler, map[string]float64{"interval_seconds": 3600, "last_run_failed": 1})
}

func await(t *testing.T, reconciler *reconcile.Reconciler, want map[string]float64) {
	t.Helper()
	require.Eventually(t, func() bool { return assert.ObjectsAreEqual(want, gauges(t, reconciler)) }, patience, 10*time.Millisecond,
		"it does not tell %v", want)
}
