package projection

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/event"
)

// metrics count executions where they are seen once each, in batches, whoever accepted or ended them.
type metrics struct {
	accepted  prometheus.Counter
	completed *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	// by has what is under the labels.
	by map[string]ending

	// key and last are the place up to which executions were counted. A rebuild brings the same ones again, and what is in a batch with
	// those is not counted either: a few too few are better than all of them twice.
	key  string
	last uint64
}

type ending struct {
	count    prometheus.Counter
	duration prometheus.Observer
}

func newMetrics() *metrics {
	m := &metrics{
		accepted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "galley_executions_accepted_total", Help: "Executions accepted, by whatever way they came.",
		}),
		completed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "galley_executions_completed_total", Help: "Executions ended, by their status.",
		}, []string{"status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "galley_execution_duration_seconds", Help: "Time from the acceptance of an execution to its end, whatever it waits for included.",
			Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600},
		}, []string{"status"}),
		by: make(map[string]ending),
	}
	for _, status := range []event.Status{event.StatusSuccess, event.StatusPartial, event.StatusFailed} {
		m.by[string(status)] = ending{m.completed.WithLabelValues(string(status)), m.duration.WithLabelValues(string(status))}
	}
	return m
}

// written is what became of one row.
type written struct {
	isNew  bool
	status string
	// seconds is the duration, nil before the end.
	seconds *float64
}

// count is called after the commit of a batch.
func (m *metrics) count(after bus.Place, messages []bus.Message, rows []written) {
	if after.Key != m.key {
		m.key, m.last = after.Key, 0
	}
	if messages[0].Sequence <= m.last {
		return
	}
	m.last = messages[len(messages)-1].Sequence
	accepted := 0
	for i := range rows {
		if rows[i].isNew {
			accepted++
		}
		if ended, known := m.by[rows[i].status]; known && rows[i].seconds != nil {
			ended.count.Inc()
			ended.duration.Observe(max(0, *rows[i].seconds))
		}
	}
	m.accepted.Add(float64(accepted))
}

// Describe implements prometheus.Collector.
func (p *Projection) Describe(descriptions chan<- *prometheus.Desc) {
	p.metrics.accepted.Describe(descriptions)
	p.metrics.completed.Describe(descriptions)
	p.metrics.duration.Describe(descriptions)
}

// Collect implements prometheus.Collector.
func (p *Projection) Collect(found chan<- prometheus.Metric) {
	p.metrics.accepted.Collect(found)
	p.metrics.completed.Collect(found)
	p.metrics.duration.Collect(found)
}
