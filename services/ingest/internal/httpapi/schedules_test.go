package httpapi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/services/ingest/internal/schedule"
)

func TestSchedules(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	alice, bob := s.customer(t, "alice"), s.customer(t, "bob")
	const path = "/api/v1/schedules"
	var made schedule.Schedule
	got := s.call(t, alice, "POST", path, `{"schedule_id":"nightly","agent_id":"cook","recipe_id":"soup","input_data":{"a":1},
		"cron":"30 4 * * mon-fri","time_zone":"Europe/Berlin"}`)
	require.Equal(t, 201, got.status, string(got.body))
	got.into(t, &made)
	require.Equal(t, []any{"alice", schedule.OverlapSkip, schedule.MissedLatest}, []any{made.CustomerID, made.Overlap, made.Missed})
	require.NotNil(t, made.NextAt)
	require.Equal(t, 409, s.call(t, alice, "POST", path, `{"schedule_id":"nightly","agent_id":"cook","recipe_id":"soup","cron":"@daily"}`).status)

	// Another customer's is unknown, in every way to name it.
	for _, method := range []string{"GET", "DELETE"} {
		require.Equal(t, 404, s.call(t, bob, method, path+"/nightly", nil).status)
	}
	for _, verb := range []string{"pause", "resume"} {
		require.Equal(t, 404, s.call(t, bob, "POST", path+"/nightly/"+verb, nil).status)
	}
	require.Equal(t, 404, s.call(t, operatorKey, "GET", path+"/nightly?customer_id=bob", nil).status)
	var none, one list[schedule.Schedule]
	s.call(t, bob, "GET", path, nil).into(t, &none)
	require.NotNil(t, none.Items)
	require.Empty(t, none.Items)
	s.call(t, operatorKey, "GET", path+"?customer_id=alice", nil).into(t, &one)
	require.Len(t, one.Items, 1)

	var found schedule.Schedule
	s.call(t, alice, "POST", path+"/nightly/pause", nil).into(t, &found)
	require.True(t, found.Paused)
	var resumed schedule.Schedule
	s.call(t, alice, "POST", path+"/nightly/resume", nil).into(t, &resumed)
	require.False(t, resumed.Paused)
	require.NotNil(t, resumed.NextAt)
	var changed schedule.Schedule
	s.call(t, alice, "PUT", path+"/nightly", `{"agent_id":"cook","recipe_id":"soup","at":"2999-01-01T00:00:00+01:00","overlap":"allow"}`).into(t, &changed)
	require.Equal(t, "2998-12-31T23:00:00Z", changed.NextAt.Format("2006-01-02T15:04:05Z07:00"))
	require.Empty(t, changed.Cron)

	require.Equal(t, 404, s.call(t, alice, "POST", path, `{"schedule_id":"x","agent_id":"cook","recipe_id":"stew","cron":"@daily"}`).status)
	refused := s.call(t, alice, "POST", path, `{"schedule_id":"x","agent_id":"cook","recipe_id":"soup","cron":"* * * * * *","missed":"all"}`).problem(t)
	require.Equal(t, []any{422, "INVALID_REQUEST", "/missed /cron"}, []any{refused.Status, refused.Code, places(refused)})
	require.Equal(t, 422, s.call(t, alice, "POST", path, `{"schedule_id":"x","agent_id":"cook","recipe_id":"soup","every":"1s"}`).status)
	require.Equal(t, 422, s.call(t, alice, "POST", path, `{"schedule_id":"x","agent_id":"cook","recipe_id":"soup","at":"tomorrow"}`).status)

	require.Equal(t, 204, s.call(t, alice, "DELETE", path+"/nightly", nil).status)
	require.Equal(t, 404, s.call(t, alice, "GET", path+"/nightly", nil).status)
}
