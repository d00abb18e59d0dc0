// Package metric is what a process of galley tells of itself in numbers, in the text format of Prometheus. There is no registry but the
// one that is made here: a service is given its Registerer, and whatever knows a number is a Collector of its own.
//
// The names begin with galley_, units are base units, and labels have few values that are known beforehand. No label and no help text may
// hold anything of a customer: whoever reads metrics needs no key.
package metric

import (
	"net/http"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
)

const (
	// Path is where metrics are served.
	Path = "/metrics"
	// Timeout bounds what one scrape asks of NATS or Postgres. What does not answer in time is missing from that scrape.
	Timeout = 2 * time.Second

	labelService = "service"
)

// NewRegistry makes a registry that has what belongs to the process as a whole: its build, the Go runtime, and what the operating system
// counts of it.
func NewRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build())
	return registry
}

// OfService gives the Registerer of one service: everything in it has the label "service", so that queries are the same whether the
// services share a process or not.
func OfService(registry prometheus.Registerer, service string) prometheus.Registerer {
	return prometheus.WrapRegistererWith(prometheus.Labels{labelService: service}, registry)
}

// Handler answers scrapes, one collection at a time. What cannot be collected is logged and counted in
// promhttp_metric_handler_errors_total, and the rest is answered.
func Handler(registry *prometheus.Registry, log zerolog.Logger) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry: registry, ErrorHandling: promhttp.ContinueOnError, ErrorLog: errorLog{log: log}, CoalesceGather: true,
	})
}

// errorLog implements promhttp.Logger.
type errorLog struct{ log zerolog.Logger }

// Println implements promhttp.Logger.
func (e errorLog) Println(values ...any) {
	e.log.Warn().Any("reasons", texts(values)).Msg("metrics not complete")
}

func texts(values []any) []string {
	var list []string
	for _, value := range values {
		switch known := value.(type) {
		case prometheus.MultiError:
			for _, err := range known {
				list = append(list, err.Error())
			}
		case error:
			list = append(list, known.Error())
		case string:
			list = append(list, known)
		}
	}
	return list
}

const unknown = "unknown"

// build tells what the process was built from. A build outside a checkout does not know its revision.
func build() prometheus.Collector {
	labels := prometheus.Labels{"version": unknown, "revision": unknown, "goversion": unknown}
	if info, known := debug.ReadBuildInfo(); known {
		labels["version"], labels["goversion"] = info.Main.Version, info.GoVersion
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				labels["revision"] = setting.Value
			}
		}
	}
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "galley_build_info", Help: "What the process was built from; always 1.", ConstLabels: labels,
	})
	gauge.Set(1)
	return gauge
}
