package httpapi

import (
	"encoding/csv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSheetHoldsNoFormula(t *testing.T) {
	t.Parallel()
	period := Period{From: "2026-11-01", To: "2026-11-30"}
	cells := []string{
		"plain", "", "-0.04", "-1", "-1+1", "=1+1", "+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "a \"quoted\", cell", "-2e3", "a=1",
	}
	want := []string{
		"plain", "", "-0.04", "-1", "'-1+1", "'=1+1", "'+1", "'@SUM(A1)", "'\t=1", "'\r=1", "'\n=1", "a \"quoted\", cell", "'-2e3", "a=1",
	}
	out, err := period.sheet("report", [][]string{cells})
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(out.Body), "\r\n"))
	read, err := csv.NewReader(strings.NewReader(string(out.Body))).ReadAll()
	require.NoError(t, err)
	for i := range want {
		want[i] = strings.ReplaceAll(want[i], "\r=", "=") // the reader of the standard library drops it
		read[0][i] = strings.ReplaceAll(read[0][i], "\r=", "=")
	}
	require.Equal(t, want, read[0])
}
