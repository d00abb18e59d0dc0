package login_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	defer b.stop()
	told := func(operator, apiKey string) {
		t.Helper()
		require.NoError(t, testutil.CollectAndCompare(b.Log, strings.NewReader(`
			# HELP galley_authentications_denied_total Requests with a key that nobody has, by what it looks like: that of the operator, or an API key.
			# TYPE galley_authentications_denied_total counter
			galley_authentications_denied_total{kind="api_key"} `+apiKey+`
			galley_authentications_denied_total{kind="operator"} `+operator+`
		`)))
	}
	told("0", "0") // an alert needs to see them rise from 0
	for range 3 {
		b.Denied(event.ActionOperatorDenied, "10.0.0.1", trace)
	}
	b.Denied(event.ActionKeyDenied, "10.0.0.2", trace)
	b.Authenticated("abcd", "10.0.0.1", trace)
	told("3", "1")
	problems, err := testutil.CollectAndLint(b.Log)
	require.NoError(t, err)
	require.Empty(t, problems)
}
