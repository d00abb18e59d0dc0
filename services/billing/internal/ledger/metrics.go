package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/galley-engine/galley/pkg/metric"
	"github.com/galley-engine/galley/pkg/postgres"
)

// Only the accounts are counted, and the first of each queue looked at: of a queue, that one has waited longest.
const waiting = `SELECT COALESCE(sum(waiting), 0)::bigint, min(since)
	FROM billing.accounts LEFT JOIN LATERAL (SELECT since FROM billing.waits
		WHERE waits.customer_id = accounts.customer_id AND decided_at IS NULL ORDER BY place, execution_id LIMIT 1) AS first ON true
	WHERE waiting > 0`

// descriptions are those of what a Reader tells of executions that wait for credits.
type descriptions struct{ executions, longest *prometheus.Desc }

func newDescriptions() descriptions {
	return descriptions{
		executions: prometheus.NewDesc("galley_billing_waiting_executions", "Executions that wait for credits.", nil, nil),
		longest: prometheus.NewDesc("galley_billing_longest_wait_seconds",
			"How long the execution has waited that has waited longest for credits; 0 when none waits.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (r *Reader) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- r.metrics.executions
	descriptions <- r.metrics.longest
}

// Collect implements prometheus.Collector. It asks the database, for what waits may have come through another process.
func (r *Reader) Collect(found chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), metric.Timeout)
	defer cancel()
	var executions int64
	var since pgtype.Timestamptz
	err := postgres.Query(ctx, r.pool, postgres.EveryCustomer, func(batch *pgx.Batch) {
		batch.Queue(waiting).QueryRow(func(row pgx.Row) error { return row.Scan(&executions, &since) })
	})
	if err != nil {
		found <- prometheus.NewInvalidMetric(r.metrics.executions, fmt.Errorf("count executions that wait for credits: %w", err))
		return
	}
	var longest time.Duration
	if since.Valid {
		longest = max(0, r.now().Sub(since.Time))
	}
	found <- prometheus.MustNewConstMetric(r.metrics.executions, prometheus.GaugeValue, float64(executions))
	found <- prometheus.MustNewConstMetric(r.metrics.longest, prometheus.GaugeValue, longest.Seconds())
}
