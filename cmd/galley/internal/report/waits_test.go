package report_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/cmd/galley/internal/report"
	"github.com/galley-engine/galley/schemas/event"
)

func TestWaits(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := report.New(&out, nil)
	r.Waits(nil)
	require.Empty(t, out.String())
	item, until := 3, time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	r.Waits([]event.Wait{
		{Step: "a", Until: until, Event: "paid"},
		{Step: "b", Item: &item, Until: until, Approval: "Send\x1b it?"},
		{Step: "c", Until: until, Execution: "e-1"},
		{Step: "d", Until: until, Attempts: 1},
		{Step: "e", Until: until},
		{Until: until, Credits: 370_000},
	})
	for _, line := range []string{
		`a +event +paid +2026-01-01 12:00:00`, `b\.3 +approval +Send.* it\? +2026`, `c +execution +e-1 +2026`, `d +attempt +2 +2026`, `e +time +2026`, `credits +0.37 +2026`,
	} {
		require.Regexp(t, line, out.String())
	}
	require.NotContains(t, out.String(), "\x1b")
}
