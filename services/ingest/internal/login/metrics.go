package login

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/galley-engine/galley/schemas/event"
)

// denials counts who was not let in, as far as metrics may tell of it: by what the key looked like.
type denials struct {
	all              *prometheus.CounterVec
	operator, apiKey prometheus.Counter
}

func newDenials() denials {
	all := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "galley_authentications_denied_total",
		Help: "Requests with a key that nobody has, by what it looks like: that of the operator, or an API key.",
	}, []string{"kind"})
	return denials{all: all, operator: all.WithLabelValues("operator"), apiKey: all.WithLabelValues("api_key")}
}

// count takes an action as Denied does.
func (d *denials) count(action string) {
	if action == event.ActionOperatorDenied {
		d.operator.Inc()
	} else {
		d.apiKey.Inc()
	}
}

// Describe implements prometheus.Collector.
func (l *Log) Describe(descriptions chan<- *prometheus.Desc) { l.denials.all.Describe(descriptions) }

// Collect implements prometheus.Collector.
func (l *Log) Collect(found chan<- prometheus.Metric) { l.denials.all.Collect(found) }
