package period_test

import (
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/services/billing/internal/period"
)

func calendar(tb require.TestingT, day int, zone string) period.Calendar {
	made, err := period.NewCalendar(day, zone)
	require.NoError(tb, err)
	return made
}

func TestNext(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		day         int
		zone, begin string
		ends        []string
	}{
		"the 31st": {31, "UTC", "2026-01-31T09:30:00Z", []string{
			"2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z", "2026-04-30T00:00:00Z", "2026-05-31T00:00:00Z",
		}},
		"the 30th":                {30, "UTC", "2026-01-30T00:00:00Z", []string{"2026-02-28T00:00:00Z", "2026-03-30T00:00:00Z"}},
		"the 29th":                {29, "UTC", "2026-01-29T12:00:00Z", []string{"2026-02-28T00:00:00Z", "2026-03-29T00:00:00Z"}},
		"the 29th of a leap year": {29, "UTC", "2028-01-29T12:00:00Z", []string{"2028-02-29T00:00:00Z", "2028-03-29T00:00:00Z"}},
		"the 31st of a leap year": {31, "UTC", "2028-01-31T12:00:00Z", []string{"2028-02-29T00:00:00Z", "2028-03-31T00:00:00Z"}},
		"no leap year":            {29, "UTC", "2100-01-29T12:00:00Z", []string{"2100-02-28T00:00:00Z", "2100-03-29T00:00:00Z"}},
		"over the year":           {15, "UTC", "2026-12-15T12:00:00Z", []string{"2027-01-15T00:00:00Z"}},
		"before the anchor day":   {15, "UTC", "2026-12-01T12:00:00Z", []string{"2026-12-15T00:00:00Z", "2027-01-15T00:00:00Z"}},
		"on the boundary":         {15, "UTC", "2026-12-15T00:00:00Z", []string{"2027-01-15T00:00:00Z"}},
		"just before it":          {15, "UTC", "2026-12-14T23:59:59.999999Z", []string{"2026-12-15T00:00:00Z"}},
		"summer time": {1, "Europe/Berlin", "2026-02-01T08:00:00Z", []string{
			"2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z",
		}},
		"winter time":             {31, "Europe/Berlin", "2026-10-01T08:00:00Z", []string{"2026-10-30T23:00:00Z", "2026-11-29T23:00:00Z"}},
		"another day in the zone": {10, "Pacific/Auckland", "2026-06-09T13:00:00Z", []string{"2026-07-09T12:00:00Z"}},
		"far west":                {10, "Pacific/Pago_Pago", "2026-06-09T13:00:00Z", []string{"2026-06-10T11:00:00Z"}},
		"far east":                {1, "Pacific/Kiritimati", "2026-06-01T00:00:00Z", []string{"2026-06-30T10:00:00Z"}},
		"midnight left out": {6, "America/Santiago", "2026-08-06T12:00:00Z", []string{ // clocks go from 24:00 to 01:00 in the night to the 6th
			"2026-09-06T04:00:00Z", "2026-10-06T03:00:00Z",
		}},
		"midnight twice": {1, "America/Havana", "2026-10-01T12:00:00Z", []string{"2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z"}},
		"a day left out": {30, "Pacific/Apia", "2011-11-30T20:00:00Z", []string{"2011-12-30T10:00:00Z", "2012-01-29T10:00:00Z"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at, err := time.Parse(time.RFC3339, test.begin)
			require.NoError(t, err)
			for _, end := range test.ends {
				at = calendar(t, test.day, test.zone).Next(at)
				assert.Equal(t, end, at.Format(time.RFC3339Nano))
			}
		})
	}
}

func TestPeriodsFollowOneAnother(t *testing.T) {
	t.Parallel()
	zones := []string{
		"UTC", "Europe/Berlin", "America/New_York", "America/Santiago", "America/Havana", "America/Goose_Bay", "Asia/Beirut", "Asia/Kathmandu",
		"Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kiritimati", "Africa/Cairo",
	}
	rapid.Check(t, func(t *rapid.T) {
		day, zone := rapid.IntRange(1, period.MaxDay).Draw(t, "day"), rapid.SampledFrom(zones).Draw(t, "zone")
		location, err := period.Zone(zone)
		require.NoError(t, err)
		begin := time.Unix(rapid.Int64Range(631_152_000, 4_102_444_800).Draw(t, "begin"), 0) // 1990 to 2100
		end := calendar(t, day, zone).Next(begin)
		require.True(t, end.After(begin))
		require.LessOrEqual(t, end.Sub(begin), 32*24*time.Hour)
		for range 24 {
			begin, end = end, calendar(t, day, zone).Next(end)
			local := end.In(location)
			require.InDelta(t, 29.5, end.Sub(begin).Hours()/24, 2.6)
			lastDay := time.Date(local.Year(), local.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
			require.Equal(t, min(day, lastDay), local.Day(), "%v", local)
			require.Less(t, local.Hour(), 2, "%v", local)
			before := end.Add(-time.Second).In(location)
			require.NotEqual(t, local.Day(), before.Day(), "%v", before)
			require.Equal(t, end, calendar(t, day, zone).Next(end.Add(-time.Second)))
		}
	})
}

func TestCalendarsRefused(t *testing.T) {
	t.Parallel()
	for _, day := range []int{0, -1, 32} {
		_, err := period.NewCalendar(day, "UTC")
		require.ErrorIs(t, err, period.ErrDay)
	}
	for _, zone := range []string{"", "Local", "Mars/Base", "../etc/passwd"} {
		_, err := period.NewCalendar(1, zone)
		require.ErrorIs(t, err, period.ErrZone)
	}
}
