package worker

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// occupancy is how busy this process is.
type occupancy struct {
	running           atomic.Int64
	executions, limit prometheus.GaugeFunc
}

func newOccupancy(concurrency int) *occupancy {
	o := &occupancy{}
	o.executions = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "galley_executor_running_executions", Help: "Executions that this process runs at the moment; what waits for a time or an event is not run.",
	}, func() float64 { return float64(o.running.Load()) })
	o.limit = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "galley_executor_concurrency", Help: "How many executions this process runs at most at the same time.",
	}, func() float64 { return float64(concurrency) })
	return o
}

// Describe implements prometheus.Collector.
func (w *Worker) Describe(descriptions chan<- *prometheus.Desc) {
	w.occupancy.executions.Describe(descriptions)
	w.occupancy.limit.Describe(descriptions)
}

// Collect implements prometheus.Collector.
func (w *Worker) Collect(found chan<- prometheus.Metric) {
	w.occupancy.executions.Collect(found)
	w.occupancy.limit.Collect(found)
}
