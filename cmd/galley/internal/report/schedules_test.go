package report

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
)

func TestSchedules(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := New(&out, nil)
	next, last := at(5), at(4)
	r.Schedules(nil)
	r.Schedules([]client.Schedule{
		{ScheduleID: "nightly", AgentID: "cook", RecipeID: "soup", Cron: "30 4 * * *", TimeZone: "Europe/Berlin", NextAt: &next, LastFiredAt: &last},
		{ScheduleID: "once", AgentID: "cook", RecipeID: "soup", At: &last},
		{ScheduleID: "stopped", AgentID: "cook", RecipeID: "soup", Cron: "@daily", TimeZone: "UTC", Paused: true},
	})
	require.Equal(t, `  there are no schedules
  schedule   recipe      when                        next (UTC)            last (UTC)
  nightly    cook/soup   30 4 * * * Europe/Berlin    2026-01-02 03:04:05   2026-01-02 03:04:04
  once       cook/soup   once, 2026-01-02 03:04:04   over
  stopped    cook/soup   @daily UTC                  paused
`, out.String())
}

func TestDeadLetter(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := New(&out, nil)
	letter := client.DeadLetter{
		Sequence: 7, Reason: "an \x1b[31mevil\x1b[0m reason", Stream: "RUNS", Subject: "galley.run.request.alice", Original: 3, Consumer: "ingest",
		DiedAt: at(5), Size: 2, Headers: map[string][]string{"b": {"2"}, "a": {"1", "\x1b[31m"}}, Encoding: "text", Data: "{\x1b}",
	}
	r.DeadLetters(nil, false)
	r.DeadLetters([]client.DeadLetter{letter}, true)
	r.DeadLetter(letter)
	require.Contains(t, out.String(), "there are no dead letters")
	require.Contains(t, out.String(), "and older ones")
	require.Contains(t, out.String(), "RUNS, sequence 3")
	require.NotContains(t, out.String(), "\x1b", "what comes from outside has no control sequences")
}
