package reconcile_test

import (
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/internal/reconcile"
)

// TestOrphansAreSettled once, by two processes at the same time, with what is known of them.
func TestOrphansAreSettled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	unknown, lost, ended, unsettled, alive := newExecution(t), newExecution(t), newExecution(t), newExecution(t), newExecution(t)
	for _, execution := range []subject.Execution{unknown, lost, ended, unsettled, alive} {
		s.apply(t, execution, ledger.Debit, 10)
	}
	s.append(t, alive, event.Funded, 0, 10)
	s.acknowledged(t, unsettled, event.Completed, s.append(t, unsettled, event.Funded, 0, 10), 3)
	outcome := func(execution subject.Execution, status event.Status, charged credit.Micro) query.Outcome {
		key := query.ExecutionKey{CustomerID: execution.Customer, ExecutionID: execution.ID}
		return query.Outcome{ExecutionKey: key, Status: status, Charged: charged}
	}
	s.clock.Advance(reconcile.OrphanAge)
	result, err := s.reconciler(0).Reconcile(t.Context())
	require.NoError(t, err)
	assert.Zero(t, result.Settled, "none is older than that")
	s.clock.Advance(time.Second)
	s.ingest(t, outcome(lost, event.StatusAccepted, 0), outcome(ended, event.StatusSuccess, 4))

	results := make([]query.ReconciliationReply, 2)
	var both sync.WaitGroup
	for i := range results {
		both.Go(func() {
			var err error
			results[i], err = s.reconciler(0).Reconcile(t.Context())
			assert.NoError(t, err)
		})
	}
	both.Wait()
	assert.EqualValues(t, 4, results[0].Settled+results[1].Settled)
	assert.EqualValues(t, 1000-3-4-10, s.balance(t))
	charged := map[string]string{}
	for _, activity := range s.activities(t, subject.Activity(customer, "credits.reconciled")) {
		assert.Equal(t, []string{"execution", "service:billing", "success"}, []string{activity.ResourceType, activity.Actor.String(), activity.Outcome})
		charged[activity.ResourceID] += string(activity.Changes)
	}
	assert.Equal(t, map[string]string{
		unknown.ID: `{"after":{"charged":0,"debited":0.00001}}`, lost.ID: `{"after":{"charged":0,"debited":0.00001}}`,
		ended.ID: `{"after":{"charged":0.000004,"debited":0.00001}}`, unsettled.ID: `{"after":{"charged":0.000003,"debited":0.00001}}`,
	}, charged)
	result, err = s.reconciler(0).Reconcile(t.Context())
	require.NoError(t, err)
	assert.True(t, result.OK, result.Differences)
}

// TestOrphansWait until ingest can be asked how they ended.
func TestOrphansWait(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.apply(t, newExecution(t), ledger.Debit, 10)
	s.clock.Advance(reconcile.OrphanAge + time.Second)
	result, err := s.reconciler(0).Reconcile(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []int64{1, 0}, []int64{result.Found, result.Settled})
	assert.EqualValues(t, 990, s.balance(t))
	s.ingest(t)
	result, err = s.reconciler(0).Reconcile(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []int64{1, 1}, []int64{result.Found, result.Settled})
	assert.EqualValues(t, 1000, s.balance(t))
}

func TestRecords(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	reconciler := s.reconciler(0)
	run(t, reconciler.Answer)
	last := func() (reply query.ReconciliationReply) {
		require.Eventually(t, func() bool {
			var err error
			reply, err = bus.Ask[query.ReconciliationReply](t.Context(), s.bus, query.ServiceBilling, query.Reconciliation, query.ReconciliationRequest{})
			return err == nil
		}, patience, 10*time.Millisecond)
		return reply
	}
	assert.Equal(t, query.ReconciliationReply{Differences: []string{}}, last())
	good, err := reconciler.Reconcile(t.Context())
	require.NoError(t, err)
	ended := s.clock.Now()
	assert.Equal(t, query.ReconciliationReply{EndedAt: &ended, OK: true, Accounts: 1, Transactions: 1, Differences: []string{}}, good)
	assert.Equal(t, good, last())
	for range 25 {
		s.apply(t, newExecution(t), ledger.Debit, 1)
	}
	s.clock.Advance(time.Hour)
	bad, err := reconciler.Reconcile(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []any{false, int64(25), 25}, []any{bad.OK, bad.Found, len(bad.Differences)})
	assert.Equal(t, bad, last())

	activities := s.activities(t, subject.Activity("", "ledger.reconciled"))
	require.Len(t, activities, 2)
	assert.Equal(t, []string{"success", "failed"}, []string{activities[0].Outcome, activities[1].Outcome})
	var told struct {
		After query.ReconciliationReply `json:"after"`
	}
	require.NoError(t, json.Unmarshal(activities[1].Changes, &told))
	assert.Equal(t, bad.Found, told.After.Found)
	assert.Equal(t, bad.Differences[:20], told.After.Differences)
}

// TestSchedule runs in one process at a time, and not before the interval since the last run is over.
func TestSchedule(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for range 2 {
		run(t, s.reconciler(time.Hour).Run)
	}
	runs := func() int { return len(s.activities(t, subject.Activity("", "ledger.reconciled"))) }
	require.Eventually(t, func() bool { return runs() == 1 }, patience, 10*time.Millisecond, "the first one is due at once")
	for range 2 {
		stop := run(t, s.reconciler(time.Hour).Run) // as a process that starts again
		stop()
	}
	assert.Equal(t, 1, runs())
}

func TestScheduleOff(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	require.NoError(t, s.reconciler(0).Run(t.Context()))
	assert.Empty(t, s.activities(t, subject.Activity("", "ledger.reconciled")))
}

// TestScheduleGoesOn after the interval.
func TestScheduleGoesOn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	run(t, s.reconciler(time.Millisecond).Run)
	require.Eventually(t, func() bool {
		s.clock.Advance(time.Second)
		return len(s.activities(t, subject.Activity("", "ledger.reconciled"))) >= 3
	}, patience, 10*time.Millisecond)
}
