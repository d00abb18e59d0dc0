package schedule

import (
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func parse(t require.TestingT, expression, zone string) *timetable {
	location, err := loadZone(zone)
	require.NoError(t, err)
	table, err := parseCron(expression, location)
	require.NoError(t, err)
	return table
}

func instant(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	require.NoError(t, err)
	return at.UTC()
}

func TestNextTimes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cron, zone, after string
		want              []string
	}{
		"UTC":                                 {"30 4 * * *", "UTC", "2026-11-23T07:00:00Z", []string{"2026-11-24T04:30:00Z", "2026-11-25T04:30:00Z"}},
		"strictly after":                      {"0 7 * * *", "UTC", "2026-11-23T07:00:00Z", []string{"2026-11-24T07:00:00Z"}},
		"zone with three quarters of an hour": {"0 9 * * *", "Asia/Kathmandu", "2026-11-23T07:00:00Z", []string{"2026-11-24T03:15:00Z"}},
		"day of month or of week": {"0 0 13 * fri", "UTC", "2026-11-07T00:00:00Z", []string{
			"2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z",
			"2026-11-27T00:00:00Z", "2026-12-04T00:00:00Z", "2026-12-11T00:00:00Z", "2026-12-13T00:00:00Z",
		}},
		"29 February over 2100": {"0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", []string{"2104-02-29T00:00:00Z"}},
		"daily":                 {"@daily", "Europe/Berlin", "2026-11-23T07:00:00Z", []string{"2026-11-23T23:00:00Z"}},

		// Forward: a named time that the clock leaves out comes when it is set.
		"gap": {
			"30 2 * * *", "America/New_York", "2027-03-13T08:00:00Z",
			[]string{"2027-03-14T07:00:00Z", "2027-03-15T06:30:00Z"},
		},
		"gap, several times together, and with the time after it": {
			"0,30 2,3 * * *", "America/New_York", "2027-03-14T00:00:00Z",
			[]string{"2027-03-14T07:00:00Z", "2027-03-14T07:30:00Z", "2027-03-15T06:00:00Z"},
		},
		"gap at midnight": {"0 0 * * *", "America/Santiago", "2026-09-05T12:00:00Z", []string{"2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"}},
		"gap of half an hour": {
			"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z",
			[]string{"2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"},
		},
		"gap of a day": {"0 12 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", []string{"2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"}},
		// Back: a named time that comes twice starts the first time.
		"repeated": {
			"30 1 * * *", "America/New_York", "2026-11-01T00:00:00Z",
			[]string{"2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"},
		},
		"repeated, asked in the second hour": {"30 1 * * *", "America/New_York", "2026-11-01T06:15:00Z", []string{"2026-11-02T06:30:00Z"}},
		"repeated, Berlin": {
			"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z",
			[]string{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		},
		// Every hour: even intervals.
		"hourly over the gap": {
			"15 * * * *", "America/New_York", "2027-03-14T06:00:00Z",
			[]string{"2027-03-14T06:15:00Z", "2027-03-14T07:15:00Z", "2027-03-14T08:15:00Z"},
		},
		"hourly over the repeated hour": {
			"0 * * * *", "America/New_York", "2026-11-01T04:30:00Z",
			[]string{"2026-11-01T05:00:00Z", "2026-11-01T06:00:00Z", "2026-11-01T07:00:00Z"},
		},
		"on one day, over a gap at midnight": {
			"0 * 6 9 *", "America/Santiago", "2026-09-05T12:00:00Z",
			[]string{"2026-09-06T04:00:00Z", "2026-09-06T05:00:00Z"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table, at := parse(t, test.cron, test.zone), instant(t, test.after)
			for _, want := range test.want {
				at = table.next(at)
				require.Equal(t, want, at.Format(time.RFC3339))
			}
		})
	}
	require.True(t, parse(t, "0 0 30 2 *", "UTC").next(instant(t, "2026-11-23T07:00:00Z")).IsZero())
}

func TestExpressionsThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "* * * *", "* * * * * *", "@every 1m", "@reboot", "TZ=UTC * * * * *", "CRON_TZ=UTC 0 0 * * *", "60 * * * *", "H * * * *",
		"0 0 L * *", "0 0 * * fri#3", "a b c d e", "0 0 0 * *", "@triggered",
	} {
		_, err := parseCron(text, time.UTC)
		require.ErrorIs(t, err, errCron, text)
	}
	for _, name := range []string{"Local", "Mars/Base", "../etc/passwd", "/etc/localtime"} {
		_, err := loadZone(name)
		require.ErrorIs(t, err, errZone, name)
	}
}

// TestTimesInZones: times only grow; going on from any moment in between finds the same next time; and over a year no day is left out
// and none has two starts, whatever the zone does with its clocks.
func TestTimesInZones(t *testing.T) {
	t.Parallel()
	zones := []string{"UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu", "Africa/Casablanca"}
	rapid.Check(t, func(t *rapid.T) {
		hour, minute := rapid.IntRange(0, 23).Draw(t, "hour"), rapid.IntRange(0, 59).Draw(t, "minute")
		zone := rapid.SampledFrom(zones).Draw(t, "zone")
		table := parse(t, time.Date(0, 1, 1, hour, minute, 0, 0, time.UTC).Format("4 15 * * *"), zone)
		at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
		day := at.In(table.zone)
		at = table.next(at)
		if at.In(table.zone).Day() == day.Day() {
			day = day.AddDate(0, 0, -1)
		}
		for range 365 {
			day = day.AddDate(0, 0, 1)
			require.Equal(t, day.Format(time.DateOnly), at.In(table.zone).Format(time.DateOnly))
			next := table.next(at)
			require.True(t, next.After(at))
			between := at.Add(time.Duration(rapid.Int64Range(0, int64(next.Sub(at))-1).Draw(t, "between")))
			require.Equal(t, next, table.next(between))
			at = next
		}
	})
}

func FuzzCron(f *testing.F) {
	for _, text := range []string{"*/15 1-3,5 * * mon-fri", "@daily", "0 0 29 2 *", "0 0 30 2 *", "5-1 22-3 31 feb sun#2"} {
		f.Add(text, int64(1_800_000_000))
	}
	zone, err := loadZone("America/Santiago")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, text string, seconds int64) {
		table, err := parseCron(text, zone)
		if err != nil {
			return
		}
		after := time.Unix(seconds%10_000_000_000, 0)
		for range 3 {
			next := table.next(after)
			if next.IsZero() {
				return
			}
			require.True(t, next.After(after), "%s after %s: %s", text, after, next)
			after = next
		}
	})
}

func BenchmarkNext(b *testing.B) {
	table := parse(b, "* * * * *", "America/New_York")
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for b.Loop() {
		at = table.next(at)
	}
}
