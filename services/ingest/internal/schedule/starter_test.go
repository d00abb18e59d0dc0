package schedule

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
)

func TestPoliciesForMissedTimes(t *testing.T) {
	t.Parallel()
	at := func(minutes int) time.Time {
		return begin.Truncate(time.Minute).Add(time.Duration(minutes) * time.Minute)
	}
	for name, test := range map[string]struct {
		missed  Missed
		overlap Overlap
		cron    string
		late    time.Duration
		ongoing bool
		want    []time.Time
	}{
		"in time":                      {MissedLatest, OverlapSkip, "* * * * *", 30 * time.Second, false, []time.Time{at(1)}},
		"not yet":                      {MissedLatest, OverlapSkip, "* * * * *", 29 * time.Second, false, nil},
		"latest":                       {MissedLatest, OverlapSkip, "* * * * *", time.Hour, false, []time.Time{at(60)}},
		"latest, in a year":            {MissedLatest, OverlapAllow, "0 5 14 * *", 365 * 24 * time.Hour, false, []time.Time{time.Date(2028, 2, 14, 5, 0, 0, 0, time.UTC)}},
		"previous goes on":             {MissedLatest, OverlapSkip, "* * * * *", time.Hour, true, nil},
		"previous goes on, no matter":  {MissedLatest, OverlapAllow, "* * * * *", time.Hour, true, []time.Time{at(60)}},
		"skip, a minute late":          {MissedSkip, OverlapSkip, "5 * * * *", 5*time.Minute + 30*time.Second, false, []time.Time{at(5)}},
		"skip, more than a minute":     {MissedSkip, OverlapSkip, "5 * * * *", 5*time.Minute + 31*time.Second, false, nil},
		"skip, both late and in time":  {MissedSkip, OverlapSkip, "* * * * *", 10*time.Minute + 15*time.Second, false, []time.Time{at(10)}},
		"skip, two that would overlap": {MissedSkip, OverlapSkip, "* * * * *", 10*time.Minute + 30*time.Second, false, []time.Time{at(11)}},
		"all":                          {MissedAll, OverlapAllow, "*/10 * * * *", 25 * time.Minute, false, []time.Time{at(10), at(20)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := stored{Schedule: Schedule{Plan: Plan{Cron: test.cron, TimeZone: "UTC", Missed: test.missed, Overlap: test.overlap}}}
			var err error
			s.NextAt, err = s.next(begin)
			require.NoError(t, err)
			now := begin.Add(test.late)
			due, err := s.pass(now, func() (bool, error) { return test.ongoing, nil })
			require.NoError(t, err)
			require.Equal(t, test.want, append([]time.Time(nil), due...))
			require.True(t, s.NextAt.After(now), "every time up to now is dealt with")
		})
	}

	s := stored{Schedule: Schedule{Plan: Plan{Cron: "* * * * *", TimeZone: "UTC", Missed: MissedAll, Overlap: OverlapAllow}}}
	first := at(1)
	s.NextAt = &first
	due, err := s.pass(at(300), nil)
	require.NoError(t, err)
	require.Len(t, due, 100)
	require.Equal(t, []time.Time{at(201), at(300)}, []time.Time{due[0], due[99]}, "the last hundred, the oldest first")
}

func TestUnknownWhetherThePreviousGoesOn(t *testing.T) {
	t.Parallel()
	s := stored{Schedule: Schedule{Plan: Plan{Cron: "* * * * *", TimeZone: "UTC", Missed: MissedLatest, Overlap: OverlapSkip}, NextAt: &begin}}
	_, err := s.pass(begin, func() (bool, error) { return false, errors.New("away") })
	require.Error(t, err, "nothing is decided")
}

// TestTwoProcessesStartEachTimeOnce: both are told of every time again and again.
func TestTwoProcessesStartEachTimeOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(t, "often", begin, Plan{Cron: "* * * * *", Overlap: OverlapAllow})
	w.run(t, w.clock.Now)
	w.run(t, w.clock.Now)
	const times = 10
	for range times {
		w.clock.Advance(time.Minute)
		for range 6 {
			w.due(t, "often")
		}
		w.settle(t)
	}
	require.Equal(t, times, w.accepted(t))
	s := w.get(t, "often")
	require.Equal(t, begin.Truncate(time.Minute).Add(times*time.Minute), *s.LastFiredAt)
	require.Equal(t, s.LastFiredAt.Add(time.Minute), *s.NextAt)
	require.Equal(t, uint64(1), w.waiting(t, subject.StreamDelays, subject.ScheduleDelay("alice", "often")))
	record, err := journal.New(w.bus.Conn, w.bus.JS).Last(t.Context(), subject.Execution{Customer: "alice", ID: s.LastExecutionID})
	require.NoError(t, err)
	require.Equal(t, "schedule:often", record.Header.Get(event.HeaderActor))
}

func TestOverlap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(t, "one", begin, Plan{Cron: "* * * * *"})
	w.run(t, w.clock.Now)
	tick := func() {
		w.clock.Advance(time.Minute)
		w.due(t, "one")
		w.settle(t)
	}
	tick()
	first := w.get(t, "one")
	tick()
	require.Equal(t, 1, w.accepted(t), "the first goes on")
	require.Equal(t, first.LastFiredAt, w.get(t, "one").LastFiredAt)
	w.finish(t, first.LastExecutionID)
	tick()
	require.Equal(t, 2, w.accepted(t))
	require.NotEqual(t, first.LastExecutionID, w.get(t, "one").LastExecutionID)
}

// TestRestart: the server is down while times go by, and the starter with it.
func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := clock.System()
	soon := now.Add(1500 * time.Millisecond)
	once := w.put(t, "once", now, Plan{At: &soon})
	stop := w.run(t, clock.System) // its sweep sets the delay, which nobody has
	delay := subject.ScheduleDelay("alice", "once")
	require.Eventually(t, func() bool { return w.waiting(t, subject.StreamDelays, delay) == 1 }, 10*time.Second, 5*time.Millisecond)
	stop()
	w.nats.Shutdown()
	timer := time.NewTimer(time.Until(soon))
	<-timer.C
	w.nats.Restart(t)
	w.run(t, clock.System)
	require.Eventually(t, func() bool {
		found, known, err := w.bucket(t).get(t.Context(), "alice", "once")
		return err == nil && known && found.LastFiredAt != nil
	}, 20*time.Second, 10*time.Millisecond)
	w.due(t, "once")
	w.settle(t)
	done := w.get(t, "once")
	require.True(t, once.At.Equal(*done.LastFiredAt))
	require.Nil(t, done.NextAt)
	require.Equal(t, 1, w.accepted(t))
}

// TestCrashBetweenDecisionAndRecord: the times were decided on, and one of them was started.
func TestCrashBetweenDecisionAndRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.put(t, "crashed", begin, Plan{Cron: "* * * * *", Overlap: OverlapAllow, Missed: MissedAll})
	w.clock.Advance(2 * time.Minute)
	var err error
	s.Starting, err = s.pass(w.clock.Now(), nil)
	require.NoError(t, err)
	require.Len(t, s.Starting, 2)
	require.NoError(t, w.bucket(t).put(t.Context(), &s))
	accepted := w.acceptor(w.bus, w.clock.Now).Accept(t.Context(), []accept.Command{s.command(s.Starting[0])})
	require.NoError(t, accepted[0].Err)

	w.run(t, w.clock.Now) // its sweep finds the schedule
	require.Eventually(t, func() bool { return w.get(t, "crashed").LastFiredAt != nil }, 20*time.Second, 5*time.Millisecond)
	w.settle(t)
	require.Equal(t, 2, w.accepted(t))
	require.Empty(t, w.get(t, "crashed").Starting)
}

func TestLostDelayIsSetAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(t, "delayed", begin, Plan{Cron: "0 0 1 1 *"})
	paused := w.put(t, "paused", begin, Plan{Cron: "0 0 1 1 *"})
	paused.Paused, paused.NextAt = true, nil
	require.NoError(t, w.bucket(t).put(t.Context(), &paused))
	s := w.starter(t, w.clock.Now)
	for range 2 {
		require.NoError(t, s.Sweep(t.Context()))
		require.Equal(t, uint64(1), w.waiting(t, subject.StreamDelays, subject.AllDelays))
	}
	require.Zero(t, w.waiting(t, subject.StreamDelays, subject.AllDueSchedules))
	w.clock.Set(time.Date(2028, 1, 1, 0, 0, 10, 0, time.UTC))
	require.NoError(t, s.Sweep(t.Context()))
	require.Equal(t, uint64(1), w.waiting(t, subject.StreamDelays, subject.ScheduleDue("alice", "delayed")))
}

func TestHarmlessMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(t, "later", begin, Plan{Cron: "0 0 1 1 *"})
	paused := w.put(t, "paused", begin, Plan{Cron: "* * * * *"})
	paused.Paused, paused.NextAt = true, nil
	require.NoError(t, w.bucket(t).put(t.Context(), &paused))
	w.run(t, w.clock.Now)
	w.clock.Advance(time.Hour)
	for _, id := range []string{"later", "paused", "gone"} {
		w.due(t, id)
	}
	require.NoError(t, w.bus.Due(t.Context(), "galley.due.schedule.alice.with.more"))
	w.settle(t)
	require.Zero(t, w.accepted(t))
	require.Equal(t, uint64(1), w.waiting(t, subject.StreamDeadLetters, subject.AllDeadLetters), "the malformed one")
}

func TestRefusedStartIsReported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(t, "orphan", begin, Plan{Cron: "* * * * *"})
	w.shelf.gone.Store(true)
	w.run(t, w.clock.Now)
	w.clock.Advance(time.Minute)
	w.due(t, "orphan")
	w.settle(t)
	stream, err := w.bus.JS.Stream(t.Context(), subject.StreamActivity)
	require.NoError(t, err)
	message, err := stream.GetLastMsgForSubject(t.Context(), subject.RunRejected("alice"))
	require.NoError(t, err)
	var rejection event.Rejection
	require.NoError(t, json.Unmarshal(message.Data, &rejection))
	require.Equal(t, problem.NotFound, rejection.Code)
	require.Equal(t, "orphan/2027-03-14T05:01:00Z", rejection.MessageID)
	require.Equal(t, "schedule:orphan", message.Header.Get(event.HeaderActor))
	s := w.get(t, "orphan")
	require.Nil(t, s.LastFiredAt)
	require.Equal(t, "2027-03-14T05:02:00Z", s.NextAt.Format(time.RFC3339), "the next time comes all the same")
}

// TestChangedWhileStarting: a schedule that was changed between the reading and the writing is looked at again.
func TestChangedWhileStarting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stale := w.put(t, "s", begin, Plan{Cron: "* * * * *"})
	fresh := w.get(t, "s")
	require.NoError(t, w.bucket(t).put(t.Context(), &fresh))
	require.ErrorIs(t, w.bucket(t).put(t.Context(), &stale), errMoved)
	require.ErrorIs(t, w.bucket(t).remove(t.Context(), &stale), errMoved)
	second := w.get(t, "s")
	second.revision = 0
	require.ErrorIs(t, w.bucket(t).put(t.Context(), &second), errMoved, "it exists")
}
