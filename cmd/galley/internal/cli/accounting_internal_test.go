package cli

import (
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
)

func TestDaysOfAPeriod(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 23, 30, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		flags    period
		from, to string
	}{
		"this month":            {period{}, "2026-11-01", "2026-11-30"},
		"this month, elsewhere": {period{TimeZone: "Europe/Berlin"}, "2026-12-01", "2026-12-01"},
		"a month":               {period{Month: "2026-11"}, "2026-11-01", "2026-11-30"},
		"a leap month":          {period{Month: "2028-02"}, "2028-02-01", "2028-02-29"},
		"from a day":            {period{From: "2026-10-05"}, "2026-10-05", "2026-11-30"},
		"up to a day":           {period{To: "2026-11-05"}, "2026-11-01", "2026-11-05"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := test.flags.days(now)
			require.NoError(t, err)
			require.Equal(t, client.Period{From: test.from, To: test.to, TimeZone: test.flags.TimeZone}, got)
		})
	}
	for _, wrong := range []period{{Month: "November"}, {Month: "2026-13"}, {TimeZone: "Mars/Base"}} {
		_, err := wrong.days(now)
		require.Error(t, err)
	}
}
