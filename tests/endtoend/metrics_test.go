package endtoend_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/tests/internal/harness"
)

// TestMetricsTellOfExecutions: every program tells what its services know, and the API, which has customers, tells nothing.
func TestMetricsTellOfExecutions(t *testing.T) {
	t.Parallel()
	for _, mode := range harness.Modes() {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			stage := newStage(t, mode)
			s := stage.scene(t)
			s.publish(t, failing)
			s.response(t, greeted())
			s.response(t, of("failing"))
			names := 1
			if mode == harness.Split {
				names = len(harness.Services())
			}
			require.Len(t, s.installation.Health(), names)
			for sample, want := range map[string]float64{
				"galley_executions_accepted_total ingest":          2,
				"galley_executions_completed_total ingest success": 1,
				"galley_executions_completed_total ingest failed":  1,
				"galley_billing_decisions_total billing funded":    2,
				"galley_reconcile_interval_seconds billing":        3600,
				"galley_executor_running_executions executor":      0,
				"galley_outbox_pending_events billing":             0,
			} {
				eventually(t, sample+" is not what it should be", func() bool {
					value, found := samples(t, s.installation.Health())[sample]
					return found && value == want
				})
			}
			all := samples(t, s.installation.Health())
			for _, service := range harness.Services() {
				assert.True(t, hasPart(all, "galley_consumer_pending_messages "+service+" "), "%s tells nothing of its consumers", service)
			}
			assert.False(t, hasPart(all, s.customer), "metrics have no names of customers")
			answer, err := s.installation.Operator().Call(t.Context(), http.MethodGet, "/metrics", nil)
			require.NoError(t, err)
			assert.Equal(t, http.StatusNotFound, answer.Status)
		})
	}
}

func hasPart(all map[string]float64, part string) bool {
	for name := range all {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// samples reads all counters and gauges, by name, service and the other labels' values.
func samples(t *testing.T, addresses map[string]string) map[string]float64 {
	t.Helper()
	found := map[string]float64{}
	for _, address := range addresses {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"/metrics", http.NoBody)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(strings.NewReader(string(text)))
		require.NoError(t, err)
		for name, family := range families {
			for _, metric := range family.GetMetric() {
				parts := []string{name}
				for _, label := range metric.GetLabel() {
					if label.GetName() == "service" {
						parts = slices.Insert(parts, 1, label.GetValue())
					} else {
						parts = append(parts, label.GetValue())
					}
				}
				found[strings.Join(parts, " ")] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	return found
}
