package consumer

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
)

// decisions counts what became of accepted executions, each once: when the journal has taken what follows, and not when that was there
// already.
type decisions struct {
	all             *prometheus.CounterVec
	funded, refused prometheus.Counter
}

func newDecisions() decisions {
	all := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "galley_billing_decisions_total",
		Help: "Accepted executions that were decided: funded, that is debited, or refused for want of credits.",
	}, []string{"decision"})
	return decisions{all: all, funded: all.WithLabelValues("funded"), refused: all.WithLabelValues("refused")}
}

// count adds up a batch. When billing ends an execution, it refuses it.
func (d *decisions) count(entries []journal.Entry, results []journal.Result) {
	var funded, refused float64
	for i := range entries {
		switch {
		case results[i].Err != nil:
		case entries[i].Kind == event.Funded:
			funded++
		case entries[i].Kind == event.Completed:
			refused++
		}
	}
	d.funded.Add(funded)
	d.refused.Add(refused)
}

// Describe implements prometheus.Collector.
func (c *Consumer) Describe(descriptions chan<- *prometheus.Desc) {
	c.decisions.all.Describe(descriptions)
}

// Collect implements prometheus.Collector.
func (c *Consumer) Collect(found chan<- prometheus.Metric) { c.decisions.all.Collect(found) }
