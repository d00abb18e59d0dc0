package outbox

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/galley-engine/galley/pkg/metric"
)

func newPending() *prometheus.Desc {
	return prometheus.NewDesc("galley_outbox_pending_events", "Events that are committed and not published yet.", nil, nil)
}

// Describe implements prometheus.Collector.
func (o *Outbox) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- o.waiting
}

// Collect implements prometheus.Collector. It counts in the database, for what waits may be another process's.
func (o *Outbox) Collect(found chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), metric.Timeout)
	defer cancel()
	var count int64
	if err := o.pool.QueryRow(ctx, `SELECT count(*) FROM `+o.table).Scan(&count); err != nil {
		found <- prometheus.NewInvalidMetric(o.waiting, fmt.Errorf("count events in %s: %w", o.table, err))
		return
	}
	found <- prometheus.MustNewConstMetric(o.waiting, prometheus.GaugeValue, float64(count))
}
