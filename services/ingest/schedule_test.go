package ingest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
)

// TestSchedulesOverTwoInstances: each schedule starts once, whoever made it and whoever starts it.
func TestSchedulesOverTwoInstances(t *testing.T) {
	t.Parallel()
	database, server := testkit.Postgres(t), testkit.NATS(t)
	i := start(t, database, server.Conn(t))
	i.pipeline(t)
	i.seed(t)
	other := start(t, database, server.Conn(t))
	other.key = i.key
	at := clock.System().Add(3 * time.Second).Truncate(time.Second).Format(time.RFC3339)
	const schedules = 6
	for n := range schedules {
		var raw string
		body := fmt.Sprintf(`{"schedule_id":"s%d","agent_id":"cook","recipe_id":"echo","input_data":{"n":%d},"at":%q}`, n, n, at)
		status, _ := []*instance{i, other}[n%2].call(t, "POST", "/api/v1/schedules", body, &raw)
		require.Equal(t, 201, status, raw)
	}
	type execution struct {
		ID     string       `json:"execution_id"`
		Status event.Status `json:"status"`
	}
	var page struct{ Items []execution }
	require.Eventually(t, func() bool {
		i.call(t, "GET", "/api/v1/executions?status=success", "", &page)
		return len(page.Items) >= schedules
	}, 30*time.Second, 10*time.Millisecond)
	require.Len(t, page.Items, schedules)
	started := map[string]bool{}
	for _, found := range page.Items {
		started[found.ID] = true
	}
	for n := range schedules {
		var schedule struct {
			Last string `json:"last_execution_id"`
			Next string `json:"next_at"`
		}
		require.Eventually(t, func() bool {
			other.call(t, "GET", fmt.Sprintf("/api/v1/schedules/s%d", n), "", &schedule)
			return schedule.Last != ""
		}, 30*time.Second, 10*time.Millisecond)
		require.True(t, started[schedule.Last])
		require.Empty(t, schedule.Next)
	}
}
