package httpapi_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/ingest/internal/httpapi"
)

// ate inserts executions of cook/feast that were accepted on these days.
func (s *server) ate(t *testing.T, customer string, days ...string) {
	t.Helper()
	toast := step("toast", 1234)
	toast.Usage = &event.Usage{InputTokens: 1000, OutputTokens: 117}
	made, err := json.Marshal(response(event.StatusSuccess, 600_000, step("invite", 40_000), toast))
	require.NoError(t, err)
	for _, day := range days {
		_, err := s.admin.Exec(context.WithoutCancel(t.Context()), `INSERT INTO ingest.executions
			(execution_id, customer_id, agent_id, recipe_id, recipe_version, status, accepted_at, completed_at, charged, response)
			VALUES (gen_random_uuid(), $1, 'cook', 'feast', 1, 'success', $2::timestamptz, now(), 41234, $3)`, customer, day, made)
		require.NoError(t, err)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	alice, bob := s.customer(t, "alice"), s.customer(t, "bob")
	for _, key := range []string{alice, bob} {
		require.Equal(t, 201, s.call(t, key, "POST", "/api/v1/recipes", feast, "Content-Type", "application/yaml").status)
	}
	s.ate(t, "alice", "2026-10-31T23:30:00Z", "2026-11-01T12:00:00Z", "2026-11-02T00:00:00Z", "2026-11-02T23:59:59.999999Z", "2026-11-03T00:00:00Z")
	s.ate(t, "bob", "2026-11-01T12:00:00Z")
	const path = "/api/v1/usage?from=2026-11-01&to=2026-11-02"

	got := s.call(t, alice, "GET", path, nil)
	require.Equal(t, 200, got.status, string(got.body))
	require.JSONEq(t, `{
		"customer_id": "alice", "from": "2026-11-01", "to": "2026-11-02", "time_zone": "UTC", "executions_under_way": 0,
		"items": [
			{"day": "2026-11-01", "executions": 1, "steps": 2, "credits": 0.041234, "input_tokens": 1000, "output_tokens": 117, "units": 0},
			{"day": "2026-11-02", "executions": 2, "steps": 4, "credits": 0.082468, "input_tokens": 2000, "output_tokens": 234, "units": 0}
		],
		"total": {"executions": 3, "steps": 6, "credits": 0.123702, "input_tokens": 3000, "output_tokens": 351, "units": 0}
	}`, string(got.body))

	got = s.call(t, alice, "GET", path+"&group_by=recipe,kind,day,customer&time_zone=Europe/Berlin&format=csv", nil)
	require.Equal(t, []any{200, "text/csv; charset=utf-8; header=present", `attachment; filename="usage-2026-11-01-2026-11-02.csv"`}, []any{
		got.status, got.header.Get("Content-Type"), got.header.Get("Content-Disposition"),
	})
	require.Equal(t, "customer_id,day,agent_id,recipe_id,kind,executions,steps,credits,input_tokens,output_tokens,units\r\n"+
		"alice,2026-11-01,cook,feast,action.http,2,2,0.08,0,0,0\r\nalice,2026-11-01,cook,feast,ai.chat,2,2,0.002468,2000,234,0\r\n"+
		"alice,2026-11-02,cook,feast,action.http,1,1,0.04,0,0,0\r\nalice,2026-11-02,cook,feast,ai.chat,1,1,0.001234,1000,117,0\r\n", string(got.body))

	executions := func(key, query string) map[string]int64 {
		var report httpapi.UsageReport
		s.call(t, key, "GET", path+"&group_by=customer"+query, nil).into(t, &report)
		found := make(map[string]int64)
		for _, item := range report.Items {
			found[item.Customer] = item.Executions
		}
		return found
	}
	require.Equal(t, map[string]int64{"alice": 3, "bob": 1}, executions(operatorKey, ""))
	require.Equal(t, map[string]int64{"bob": 1}, executions(operatorKey, "&customer_id=bob"))
	require.Equal(t, map[string]int64{"bob": 1}, executions(bob, ""))
	require.Equal(t, 403, s.call(t, bob, "GET", path+"&customer_id=alice", nil).status)
	for _, key := range []string{bob, operatorKey} {
		require.Equal(t, 422, s.call(t, key, "GET", path+"&customer_id=*", nil).status)
	}
	for _, unknown := range []string{"status", "day,hour"} {
		refused := s.call(t, alice, "GET", path+"&group_by="+unknown, nil).problem(t)
		require.Equal(t, 422, refused.Status)
		require.Contains(t, places(refused), "query:/group_by", unknown)
	}
}
