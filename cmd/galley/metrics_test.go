package main

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	metricRow   = regexp.MustCompile("(?m)^\\| `(galley_[a-z_]+)` \\| ([a-z]+) \\| [^|]+ \\|([a-z, ]*)\\| [^|]+ \\|$")
	metricNames = regexp.MustCompile(`\bgalley_[a-z_]+`)
)

// documentedMetrics are those of docs/operations.md, each with its type and labels.
func documentedMetrics(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	found := map[string]string{}
	for _, row := range metricRow.FindAllStringSubmatch(string(text), -1) {
		labels := strings.FieldsFunc(row[3], func(r rune) bool { return r == ',' || r == ' ' })
		found[row[1]] = row[2] + ": " + strings.Join(slices.Sorted(slices.Values(labels)), ", ")
	}
	require.Len(t, found, strings.Count(string(text), "\n| `galley_"), "a row is not as the others, or there twice")
	return found
}

// servedMetrics are those of galley that are served, as documentedMetrics gives them, with the text.
func (i *installation) servedMetrics(t *testing.T) (found map[string]string, text []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+i.metrics+"/metrics", http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close() //nolint:errcheck // it was read
	text, err = io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s", text)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	require.NoError(t, err)
	found = map[string]string{}
	for name, family := range families {
		if strings.HasPrefix(name, "galley_") {
			found[name] = strings.ToLower(family.GetType().String()) + ": " + strings.Join(labelNames(t, family), ", ")
		}
	}
	return found, text
}

func labelNames(t *testing.T, family *dto.MetricFamily) []string {
	t.Helper()
	names := map[string]bool{}
	for _, label := range family.GetMetric()[0].GetLabel() {
		names[label.GetName()] = true
	}
	assert.Equal(t, family.GetName() != "galley_build_info", names["service"], family.GetName())
	delete(names, "service")
	return slices.Sorted(maps.Keys(names))
}

// TestMetricsAreDocumented compares the table in docs/operations.md with what is served, both ways, and the alert rules with the table.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	i := install(t)
	p := i.start(t)
	require.Contains(t, p.out.String(), "http://"+i.metrics+"/metrics")
	documented := documentedMetrics(t)
	var text []byte
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		var served map[string]string
		served, text = i.servedMetrics(t)
		assert.Equal(c, documented, served)
	}, patience, 100*time.Millisecond)
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	require.NoError(t, err)
	for _, problem := range problems {
		assert.NotContains(t, problem.Metric, "galley_", problem.Text)
	}
	for _, name := range []string{"cust_", "the-hunter", "discovery"} {
		assert.NotContains(t, string(text), name, "metrics tell nothing of customers")
	}

	rules, err := os.ReadFile("../../deploy/prometheus/alerts.yaml")
	require.NoError(t, err)
	for _, name := range metricNames.FindAllString(string(rules), -1) {
		assert.Contains(t, documented, name)
	}
}
