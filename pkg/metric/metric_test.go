package metric_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/metric"
)

func scrape(t *testing.T, handler http.Handler) map[string]*dto.MetricFamily {
	t.Helper()
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, metric.Path, nil))
	require.Equal(t, http.StatusOK, recorder.Code, recorder.Body)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(recorder.Body)
	require.NoError(t, err)
	return families
}

func TestWhatBelongsToTheProcess(t *testing.T) {
	t.Parallel()
	registry := metric.NewRegistry()
	families := scrape(t, metric.Handler(registry, zerolog.Nop()))
	for _, name := range []string{"go_goroutines", "go_gc_gomemlimit_bytes", "process_resident_memory_bytes", "galley_build_info"} {
		assert.Contains(t, families, name)
	}
	assert.Len(t, families["galley_build_info"].GetMetric()[0].GetLabel(), 3)
	problems, err := testutil.GatherAndLint(registry, "galley_build_info")
	require.NoError(t, err)
	assert.Empty(t, problems)
}

// broken is a collector whose source does not answer.
type broken struct{ *prometheus.Desc }

func (b broken) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- b.Desc }

func (b broken) Collect(found chan<- prometheus.Metric) {
	found <- prometheus.NewInvalidMetric(b.Desc, errors.New("the database is down"))
}

// TestOneThatFails is missing; the other service's, of the same name, is there.
func TestOneThatFails(t *testing.T) {
	t.Parallel()
	registry := metric.NewRegistry()
	var log bytes.Buffer
	handler := metric.Handler(registry, zerolog.New(&log))
	require.NoError(t, metric.OfService(registry, "one").Register(broken{prometheus.NewDesc("galley_test", "A test.", nil, nil)}))
	good := prometheus.NewGauge(prometheus.GaugeOpts{Name: "galley_test", Help: "A test."})
	require.NoError(t, metric.OfService(registry, "two").Register(good))
	families := scrape(t, handler)
	require.Len(t, families["galley_test"].GetMetric(), 1)
	label := families["galley_test"].GetMetric()[0].GetLabel()[0]
	assert.Equal(t, []string{"service", "two"}, []string{label.GetName(), label.GetValue()})
	assert.Contains(t, log.String(), "the database is down")
	failures := scrape(t, handler)["promhttp_metric_handler_errors_total"]
	require.NotNil(t, failures)
	total := 0.0
	for _, counter := range failures.GetMetric() {
		total += counter.GetCounter().GetValue()
	}
	assert.Positive(t, total)
}
