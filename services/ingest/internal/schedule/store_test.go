package schedule

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

func author() catalogue.Author {
	return catalogue.Author{Actor: event.Actor{Type: "api_key", ID: "k"}}
}

func soup(cron string) Plan {
	return Plan{AgentID: "cook", RecipeID: "soup", Input: json.RawMessage(`{"litres":2}`), Cron: cron}
}

func requireCode(t *testing.T, code problem.Code, err error) {
	t.Helper()
	var refused *problem.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, code, refused.Code)
}

func TestLifeOfASchedule(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, database := w.store(t)
	delays := func() uint64 { return w.waiting(t, subject.StreamDelays, subject.ScheduleDelay("alice", "nightly")) }

	made, err := s.Create(t.Context(), "alice", "nightly", soup("0 3 * * *"), author())
	require.NoError(t, err)
	require.Equal(t, []any{OverlapSkip, MissedLatest, "UTC"}, []any{made.Overlap, made.Missed, made.TimeZone})
	require.Equal(t, "2027-03-15T03:00:00Z", made.NextAt.Format(time.RFC3339))
	require.Equal(t, uint64(1), delays())
	_, err = s.Create(t.Context(), "alice", "nightly", soup("0 3 * * *"), author())
	requireCode(t, problem.Conflict, err)
	_, err = s.Create(t.Context(), "bob", "nightly", soup("0 3 * * *"), author())
	require.NoError(t, err)
	list, err := s.List(t.Context(), "alice")
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Nil(t, list[0].Input)

	paused, err := s.Pause(t.Context(), "alice", "nightly", author())
	require.NoError(t, err)
	require.True(t, paused.Paused)
	require.Nil(t, paused.NextAt)
	require.Zero(t, delays())
	_, err = s.Pause(t.Context(), "alice", "nightly", author())
	require.NoError(t, err, "it is paused already")
	plan := soup("0 4 * * *")
	plan.TimeZone = "Europe/Berlin"
	changed, err := s.Change(t.Context(), "alice", "nightly", plan, author())
	require.NoError(t, err)
	require.True(t, changed.Paused)
	require.Nil(t, changed.NextAt)
	w.clock.Advance(48 * time.Hour)
	resumed, err := s.Resume(t.Context(), "alice", "nightly", author())
	require.NoError(t, err)
	require.Equal(t, "2027-03-17T03:00:00Z", resumed.NextAt.Format(time.RFC3339), "times that went by meanwhile were not missed")
	require.Equal(t, uint64(1), delays())

	// A change that leaves the times alone leaves what is due.
	w.clock.Advance(24 * time.Hour)
	plan.Input = json.RawMessage(`{"litres":3}`)
	changed, err = s.Change(t.Context(), "alice", "nightly", plan, author())
	require.NoError(t, err)
	require.Equal(t, resumed.NextAt, changed.NextAt)
	got, err := s.Get(t.Context(), "alice", "nightly")
	require.NoError(t, err)
	require.JSONEq(t, `{"litres":3}`, string(got.Input))

	require.NoError(t, s.Delete(t.Context(), "alice", "nightly", author()))
	require.Zero(t, delays())
	_, err = s.Get(t.Context(), "alice", "nightly")
	requireCode(t, problem.NotFound, err)
	requireCode(t, problem.NotFound, s.Delete(t.Context(), "alice", "nightly", author()))
	_, err = s.Change(t.Context(), "alice", "nightly", plan, author())
	requireCode(t, problem.NotFound, err)
	_, err = s.Get(t.Context(), "bob", "nightly")
	require.NoError(t, err)

	var actions string
	require.NoError(t, database.QueryRow(t.Context(), `SELECT string_agg(subject || ' ' || (header->>'ce-actor'), E'\n' ORDER BY id)
		FROM ingest.outbox WHERE subject LIKE 'galley.activity.alice.%'`).Scan(&actions))
	require.Equal(t, strings.Join([]string{
		"galley.activity.alice.schedule.created api_key:k", "galley.activity.alice.schedule.paused api_key:k",
		"galley.activity.alice.schedule.changed api_key:k", "galley.activity.alice.schedule.resumed api_key:k",
		"galley.activity.alice.schedule.changed api_key:k", "galley.activity.alice.schedule.deleted api_key:k",
	}, "\n"), actions)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.store(t)
	past := begin.Add(-time.Second)
	for name, test := range map[string]struct {
		change func(*Plan)
		code   problem.Code
		paths  string
	}{
		"no such recipe":  {func(p *Plan) { p.RecipeID = "stew" }, problem.NotFound, ""},
		"input":           {func(p *Plan) { p.Input = json.RawMessage(`{"litres":"two"}`) }, problem.InputInvalid, ""},
		"cron":            {func(p *Plan) { p.Cron = "@every 1s" }, problem.InvalidRequest, "/cron"},
		"never":           {func(p *Plan) { p.Cron = "0 0 30 2 *" }, problem.InvalidRequest, "/cron"},
		"neither":         {func(p *Plan) { p.Cron = "" }, problem.InvalidRequest, "/cron"},
		"both":            {func(p *Plan) { p.At = &begin }, problem.InvalidRequest, "/cron"},
		"past":            {func(p *Plan) { p.Cron, p.At = "", &past }, problem.InvalidRequest, "/at"},
		"all would queue": {func(p *Plan) { p.Missed = MissedAll }, problem.InvalidRequest, "/missed"},
		"several":         {func(p *Plan) { p.TimeZone, p.Overlap, p.Missed = "Mars", "x", "y" }, problem.InvalidRequest, "/overlap /missed /time_zone"},
		"large":           {func(p *Plan) { p.Input = json.RawMessage(`"` + strings.Repeat("x", 64<<10) + `"`) }, problem.InvalidRequest, "/input_data"},
	} {
		plan := soup("* * * * *")
		test.change(&plan)
		_, err := s.Create(t.Context(), "alice", "s", plan, author())
		requireCode(t, test.code, err)
		if test.paths == "" {
			continue
		}
		var invalid *catalogue.InvalidError
		require.ErrorAs(t, err, &invalid, name)
		paths := make([]string, 0, len(invalid.Violations))
		for _, violation := range invalid.Violations {
			paths = append(paths, violation.Path)
		}
		require.Equal(t, test.paths, strings.Join(paths, " "), name)
	}
	_, err := s.Create(t.Context(), "alice", "a.b", soup("* * * * *"), author())
	requireCode(t, problem.InvalidRequest, err)
}

// TestLimitIsExact: many create the last schedule at the same time.
func TestLimitIsExact(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.store(t)
	for i := range MaxPerCustomer - 1 {
		_, err := w.bus.JS.PublishAsync("$KV.schedules.alice.s"+strconv.Itoa(i), []byte(`{"schedule_id":"x","customer_id":"alice"}`))
		require.NoError(t, err)
	}
	<-w.bus.JS.PublishAsyncComplete()
	var made atomic.Int64
	var group errgroup.Group
	for i := range 5 {
		group.Go(func() error {
			_, err := s.Create(t.Context(), "alice", fmt.Sprintf("last%d", i), soup("* * * * *"), author())
			if err == nil {
				made.Add(1)
				return nil
			}
			if refused, ok := errors.AsType[*problem.Error](err); ok && refused.Code == problem.Conflict {
				return nil
			}
			return err
		})
	}
	require.NoError(t, group.Wait())
	require.Equal(t, int64(1), made.Load())
}

// TestChangeMeetsAStart: a start that comes between the reading and the writing of a change is not lost, and neither is the change.
func TestChangeMeetsAStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.store(t)
	_, err := s.Create(t.Context(), "alice", "s", soup("* * * * *"), author())
	require.NoError(t, err)
	tries := 0
	changed, err := s.change(t.Context(), action{"alice", "s", event.ActionScheduleChanged, author()}, func(current *stored, _ time.Time) (bool, error) {
		if tries++; tries == 1 {
			other := w.get(t, "s")
			other.LastExecutionID = "started"
			require.NoError(t, w.bucket(t).put(t.Context(), &other))
		}
		current.Overlap = OverlapAllow
		return true, nil
	})
	require.NoError(t, err)
	require.Equal(t, []any{2, OverlapAllow, "started"}, []any{tries, changed.Overlap, changed.LastExecutionID})
}
