package subscription_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/internal/period"
)

// wait has an execution of alice wait for credits.
func (w *world) wait(t *testing.T, place uint64, amount credit.Micro) ledger.Instruction {
	t.Helper()
	one := ledger.Instruction{
		Key: ledger.Key{Customer: "alice", Execution: uuid.New()}, Action: ledger.Debit, Amount: amount,
		Wait: ledger.Wait{Until: start().AddDate(1, 0, 0), Place: place},
	}
	charges, err := w.ledger.Apply(t.Context(), []ledger.Instruction{one})
	require.NoError(t, err)
	require.Equal(t, ledger.StateWaiting, charges[0].State)
	return one
}

// paid are the executions that have waited and were paid for, in their order.
func (w *world) paid(t *testing.T) (keys []ledger.Key) {
	t.Helper()
	found, err := w.ledger.Decided(t.Context(), nil, 100)
	require.NoError(t, err)
	for _, one := range found {
		require.Equal(t, ledger.StateDebited, one.State)
		keys = append(keys, one.Key)
	}
	return keys
}

// TestPeriodsPayForWhatWaits: a new period, a larger plan and its overdraft do as a top-up does.
func TestPeriodsPayForWhatWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	owed := credit.Micro(70)
	w.offer(t, "small", 100, all(), nil)
	w.offer(t, "large", 100, all(), func(p *query.PlanTerms) { p.Limits.Overdraft = &owed })
	w.subscribe(t, "small")
	var wanted []ledger.Key
	for place, amount := range []credit.Micro{150, 40, 60} {
		wanted = append(wanted, w.wait(t, uint64(place+1), amount).Key)
	}
	require.Empty(t, w.paid(t))
	w.on(t, "2027-02-28T00:00:00Z")
	_, err := w.Advance(t.Context(), "alice")
	require.NoError(t, err)
	require.Equal(t, wanted[:2], w.paid(t), "by the credits of the period, with what is carried")
	require.Equal(t, map[string]credit.Micro{"subscription/1/2": 10}, w.lots(t))
	w.subscribe(t, "large")
	require.Equal(t, wanted, w.paid(t), "by the overdraft of the plan")
	w.reconciled(t)
}

// TestClocksDisagree lets processes with clocks of their own, up to hours apart, end the periods of the same customers, spend, and have
// executions wait, around the ends of periods: every period is there once, with its grant, and the money adds up.
func TestClocksDisagree(t *testing.T) {
	t.Parallel()
	url := testkit.Postgres(t)
	processes := make([]*world, 3)
	for i := range processes {
		processes[i] = openWorld(t, url)
	}
	first := processes[0]
	first.offer(t, "monthly", 100, capped(30), nil)
	rapid.Check(t, func(rt *rapid.T) {
		customer, m := uuid.NewString(), &model{}
		now := time.Unix(rapid.Int64Range(1_800_000_000, 1_900_000_000).Draw(rt, "begin"), 0).UTC()
		asked := request(customer, "monthly", query.SubscriptionActive)
		asked.Anchor, asked.TimeZone = m.drawCalendar(rt, now)
		first.clock.Set(now)
		reply, err := first.Set(t.Context(), asked)
		require.NoError(rt, err)
		calendar, err := period.NewCalendar(asked.Anchor, asked.TimeZone)
		require.NoError(rt, err)
		begins, end := []time.Time{now}, reply.Period.End
		for place := range rapid.Uint64Range(1, 6).Draw(rt, "ends") {
			var group sync.WaitGroup
			for i, process := range processes {
				skew := time.Duration(rapid.IntRange(-7200, 7200).Draw(rt, fmt.Sprint("clock ", i))) * time.Second
				process.clock.Set(end.Add(skew))
				one := ledger.Instruction{
					Key: ledger.Key{Customer: customer, Execution: uuid.New()}, Action: ledger.Debit,
					Amount: credit.Micro(rapid.IntRange(1, 90).Draw(rt, "amount")),
				}
				if rapid.Bool().Draw(rt, "waits") {
					one.Wait = ledger.Wait{Until: end.AddDate(10, 0, 0), Place: 3*place + uint64(i)}
				}
				group.Go(func() {
					_, err := process.Advance(t.Context(), customer)
					assert.NoError(t, err)
					_, err = process.ledger.Apply(t.Context(), []ledger.Instruction{one})
					assert.NoError(t, err)
					assert.NoError(t, process.ledger.ExpireDue(t.Context()))
				})
			}
			group.Wait()
			first.clock.Set(end) // it is over for whoever was behind, too
			_, err := first.Advance(t.Context(), customer)
			require.NoError(rt, err)
			begins, end = append(begins, end), calendar.Next(end)
		}
		got, err := first.Get(t.Context(), customer)
		require.NoError(rt, err)
		require.Equal(rt, query.SubscriptionPeriod{Subscription: 1, Number: len(begins), Start: begins[len(begins)-1], End: end}, got.Period)
		var monthly, wrong int
		require.NoError(rt, first.work.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE kind = 'monthly'),
			count(*) FILTER (WHERE amount > 100) FROM billing.grants WHERE customer_id = $1`, customer).Scan(&monthly, &wrong))
		require.Equal(rt, len(begins), monthly)
		require.Zero(rt, wrong)
	})
	first.reconciled(t)
}
