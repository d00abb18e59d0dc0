package reconcile

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/galley-engine/galley/schemas/query"
)

// results are what the process that reconciles tells of it. The others tell nothing but the interval: what they knew may be old.
type results struct {
	interval, failed, violations, lastRun, lastSuccess *prometheus.Desc

	mu    sync.Mutex
	known bool
	// bad: the last run could not be completed, or found differences.
	bad            bool
	found          int64
	ended, success time.Time
}

func newResults() *results {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("galley_reconcile_"+name, help, nil, nil)
	}
	return &results{
		interval: describe("interval_seconds", "How long after one reconciliation of the ledger the next one begins; 0 for never."),
		failed: describe("last_run_failed",
			"1 when the last reconciliation did not prove the ledger right: it could not be completed, or it found differences."),
		violations: describe("violations", "Differences that the last completed reconciliation found."),
		lastRun:    describe("last_run_timestamp_seconds", "When the last reconciliation was completed, whatever it found."),
		lastSuccess: describe("last_success_timestamp_seconds",
			"When a reconciliation was last completed that found no difference; missing when that was before the process began to reconcile."),
	}
}

// restore takes over what another process, or this one before its restart, has recorded.
func (r *results) restore(last query.ReconciliationReply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended.IsZero() && last.EndedAt != nil {
		failed := r.bad
		r.set(last)
		r.bad = r.bad || failed
	}
}

func (r *results) complete(result query.ReconciliationReply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set(result)
}

func (r *results) set(result query.ReconciliationReply) {
	r.known, r.bad, r.found, r.ended = true, !result.OK, result.Found, *result.EndedAt
	if result.OK {
		r.success = r.ended
	}
}

func (r *results) fail() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known, r.bad = true, true
}

func (r *results) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known, r.bad, r.found, r.ended, r.success = false, false, 0, time.Time{}, time.Time{}
}

// Describe implements prometheus.Collector.
func (r *Reconciler) Describe(descriptions chan<- *prometheus.Desc) {
	for _, description := range []*prometheus.Desc{
		r.results.interval, r.results.failed, r.results.violations, r.results.lastRun, r.results.lastSuccess,
	} {
		descriptions <- description
	}
}

// Collect implements prometheus.Collector.
func (r *Reconciler) Collect(found chan<- prometheus.Metric) {
	gauge := func(description *prometheus.Desc, value float64) {
		found <- prometheus.MustNewConstMetric(description, prometheus.GaugeValue, value)
	}
	gauge(r.results.interval, r.Interval.Seconds())
	r.results.mu.Lock()
	defer r.results.mu.Unlock()
	if !r.results.known {
		return
	}
	failed := 0.0
	if r.results.bad {
		failed = 1
	}
	gauge(r.results.failed, failed)
	if !r.results.ended.IsZero() {
		gauge(r.results.violations, float64(r.results.found))
		gauge(r.results.lastRun, seconds(r.results.ended))
	}
	if !r.results.success.IsZero() {
		gauge(r.results.lastSuccess, seconds(r.results.success))
	}
}

func seconds(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }
