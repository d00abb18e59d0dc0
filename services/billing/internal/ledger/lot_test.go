package ledger_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

// terms of a grant: its priority, and after how many hours it is over, 0 for never.
func terms(id string, amount credit.Micro, priority, hours int) query.GrantRequest {
	request := query.GrantRequest{ID: id, Amount: amount, Kind: query.GrantPromotional, Priority: &priority}
	if hours > 0 {
		at := now().Add(time.Duration(hours) * time.Hour)
		request.ExpiresAt = &at
	}
	return request
}

func TestLots(t *testing.T) {
	t.Parallel()
	type moment struct {
		hour  int
		batch step
	}
	tests := map[string]struct {
		overdraft credit.Micro
		grants    []query.GrantRequest
		moments   []moment
		later     []query.GrantRequest
		after     []moment
		lots      []lot
		ledger    []credit.Micro
	}{
		"burnt by priority, then the soonest to expire, then the oldest": {
			grants: []query.GrantRequest{
				terms("a never", 10, 50, 0), terms("b late", 10, 50, 9), terms("c soon", 10, 50, 2), terms("d first", 10, 7, 0),
				terms("e never, newer", 10, 50, 0),
			},
			moments: []moment{{0, step{debit(1, 45)}}},
			lots:    []lot{{Grant: "a never"}, {Grant: "b late"}, {Grant: "c soon"}, {Grant: "d first"}, {Grant: "e never, newer", Remaining: 5}},
			ledger:  []credit.Micro{10, 10, 10, 10, 10, -45},
		},
		"what was burnt last comes back first": {
			grants:  []query.GrantRequest{terms("a", 10, 1, 0), terms("b", 10, 2, 0), terms("c", 10, 3, 0)},
			moments: []moment{{0, step{debit(1, 25)}}, {0, step{settle(1, 8)}}},
			lots:    []lot{{Grant: "a", Remaining: 2}, {Grant: "b", Remaining: 10}, {Grant: "c", Remaining: 10}},
			ledger:  []credit.Micro{10, 10, 10, -25, 17},
		},
		"what is over is taken back before the decision": {
			grants:  []query.GrantRequest{terms("a", 10, 1, 2), terms("b", 5, 2, 0)},
			moments: []moment{{0, step{debit(1, 4)}}, {2, step{debit(2, 6), debit(3, 5)}}},
			lots:    []lot{{Grant: "a", Expired: 6}, {Grant: "b"}},
			ledger:  []credit.Micro{10, 5, -4, -6, -5},
		},
		"what comes back to a lot that is over expires at once": {
			grants:  []query.GrantRequest{terms("a", 10, 1, 2), terms("b", 10, 2, 0)},
			moments: []moment{{0, step{debit(1, 14)}}, {3, step{settle(1, 1), debit(2, 11)}}},
			lots:    []lot{{Grant: "a", Expired: 9}, {Grant: "b", Remaining: 10}},
			ledger:  []credit.Micro{10, 10, -14, 13, -9},
		},
		"several charges of a lot that is over": {
			grants:  []query.GrantRequest{terms("a", 10, 1, 2)},
			moments: []moment{{0, step{debit(1, 4), debit(2, 4)}}, {3, step{settle(1, 0), settle(2, 1)}}},
			lots:    []lot{{Grant: "a", Expired: 9}},
			ledger:  []credit.Micro{10, -4, -4, -2, 4, -4, 3, -3},
		},
		"a lot that is used up is open again after a refund": {
			grants:  []query.GrantRequest{terms("a", 10, 1, 2), terms("b", 10, 2, 0)},
			moments: []moment{{0, step{debit(1, 10)}}, {0, step{debit(2, 1)}}, {1, step{settle(1, 4), debit(3, 7)}}},
			lots:    []lot{{Grant: "a"}, {Grant: "b", Remaining: 8}},
			ledger:  []credit.Micro{10, 10, -10, -1, 6, -7},
		},
		"an overdraft is used last and comes back first": {
			overdraft: 10,
			grants:    []query.GrantRequest{terms("a", 5, 1, 0)},
			moments:   []moment{{0, step{debit(1, 12), debit(2, 4), debit(3, 3)}}, {0, step{settle(1, 4)}}},
			lots:      []lot{{Grant: "a", Remaining: 0, Repaid: 1}},
			ledger:    []credit.Micro{5, -12, -3, 8},
		},
		"a grant pays back first, and gets back what it paid": {
			overdraft: 10,
			grants:    []query.GrantRequest{terms("a", 5, 1, 0)},
			moments:   []moment{{0, step{debit(1, 12)}}},
			later:     []query.GrantRequest{terms("b", 4, 1, 0), terms("c", 9, 1, 0)},
			after:     []moment{{0, step{settle(1, 7)}}},
			lots:      []lot{{Grant: "a"}, {Grant: "b", Repaid: 2, Remaining: 2}, {Grant: "c", Remaining: 9}},
			ledger:    []credit.Micro{5, -12, 4, 9, 5},
		},
		"what a grant that is over had paid expires when it comes back": {
			overdraft: 10,
			moments:   []moment{{0, step{debit(1, 8)}}},
			later:     []query.GrantRequest{terms("a", 9, 1, 2)},
			after:     []moment{{3, step{settle(1, 3)}}},
			lots:      []lot{{Grant: "a", Repaid: 3, Expired: 6}},
			ledger:    []credit.Micro{-8, 9, -1, 5, -5},
		},
	}
	url := migrated(t, testkit.Postgres(t))
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bank := open(t, url)
			customer := uuid.NewString()
			give := func(requests []query.GrantRequest) {
				for _, request := range requests {
					request.CustomerID = customer
					bank.give(t, request)
				}
			}
			follow := func(moments []moment) {
				for _, moment := range moments {
					bank.passed.Store(int64(moment.hour) * int64(time.Hour))
					bank.apply(t, moment.batch.of(customer))
				}
			}
			_, err := bank.SetOverdraft(t.Context(), query.OverdraftRequest{CustomerID: customer, Limit: test.overdraft})
			require.NoError(t, err)
			give(test.grants)
			follow(test.moments)
			give(test.later)
			follow(test.after)
			assert.Equal(t, test.lots, bank.lots(t, customer))
			assert.Equal(t, test.ledger, bank.amounts(t, customer))
			bank.reconciled(t)
		})
	}
}

func TestBalanceListsWhatIsLeft(t *testing.T) {
	t.Parallel()
	bank := open(t, migrated(t, testkit.Postgres(t)))
	for _, request := range []query.GrantRequest{terms("last", 10, 60, 0), terms("soon", 10, 50, 2), terms("first", 10, 0, 4)} {
		request.CustomerID = "a"
		bank.give(t, request)
	}
	_, err := bank.SetOverdraft(t.Context(), query.OverdraftRequest{CustomerID: "a", Limit: 7})
	require.NoError(t, err)
	bank.apply(t, step{debit(1, 13)}.of("a"))
	list := func() (ids []string) {
		reply, err := bank.reader.Balance(t.Context(), "a")
		require.NoError(t, err)
		assert.EqualValues(t, 17, reply.Posted)
		for _, left := range reply.Grants {
			ids = append(ids, left.ID)
		}
		assert.Equal(t, reply.Overdraft+sum(reply.Grants), reply.Available)
		return ids
	}
	assert.Equal(t, []string{"soon", "last"}, list())
	bank.pass(2 * time.Hour)
	assert.Equal(t, []string{"last"}, list(), "what is over counts no more, though it was not taken back yet")
}

func sum(lots []query.Lot) (total credit.Micro) {
	for i := range lots {
		total += lots[i].Remaining
	}
	return total
}

func TestGrantsThatAreOver(t *testing.T) {
	t.Parallel()
	bank := open(t, migrated(t, testkit.Postgres(t)))
	bank.pass(3 * time.Hour)
	request := terms("late", 10, 50, 3)
	request.CustomerID = "a"
	_, err := bank.Grant(t.Context(), request)
	require.ErrorIs(t, err, ledger.ErrExpired)
	assert.Empty(t, bank.amounts(t, "a"))

	err = pgx.BeginFunc(t.Context(), bank.work, func(tx pgx.Tx) error {
		reply, err := bank.GrantTx(t.Context(), tx, request)
		require.NoError(t, err)
		assert.EqualValues(t, 10, reply.Transaction.Amount)
		assert.Zero(t, reply.Balance.Posted)
		return nil
	})
	require.NoError(t, err)
	assert.Equal(t, []credit.Micro{10, -10}, bank.amounts(t, "a"), "made, and taken back at once")
	again := bank.give(t, request)
	assert.True(t, again.Repeated, "the id of a grant that was made is no error")
	bank.reconciled(t)
}

func TestSweep(t *testing.T) {
	t.Parallel()
	bank := open(t, migrated(t, testkit.Postgres(t)))
	for n, id := range []string{"a", "b", "c"} {
		request := terms("g", 10, 50, n+1)
		request.CustomerID = id
		bank.give(t, request)
		bank.grant(t, id, "for ever", 1)
	}
	require.NoError(t, bank.ExpireDue(t.Context()))
	bank.pass(2 * time.Hour)
	errs := make(chan error, 4)
	for range cap(errs) {
		go func() { errs <- bank.ExpireDue(t.Context()) }()
	}
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	for id, want := range map[string]credit.Micro{"a": 1, "b": 1, "c": 11} {
		assert.Equal(t, want, bank.balance(t, id))
		assert.Equal(t, int(11-want)/10, bank.told(t, subject.Activity(id, "credits.expired")))
	}
	bank.reconciled(t)
}

func TestExpireTx(t *testing.T) {
	t.Parallel()
	bank := open(t, migrated(t, testkit.Postgres(t)))
	request := terms("month", 10, 50, 5)
	request.CustomerID = "a"
	bank.give(t, request)
	bank.apply(t, step{debit(1, 4)}.of("a"))
	within := func(do func(tx pgx.Tx) error) error { return pgx.BeginFunc(t.Context(), bank.work, do) }
	expire := func(customer, id string) (expired credit.Micro, err error) {
		err = within(func(tx pgx.Tx) (err error) {
			expired, err = bank.ExpireTx(t.Context(), tx, customer, id, bank.clock())
			return err
		})
		return expired, err
	}
	require.NoError(t, within(func(tx pgx.Tx) error {
		remaining, err := bank.RemainingTx(t.Context(), tx, "a", "month")
		assert.EqualValues(t, 6, remaining)
		return err
	}))
	for range 2 {
		expired, err := expire("a", "month")
		require.NoError(t, err)
		assert.EqualValues(t, 6, expired)
	}
	bank.apply(t, step{settle(1, 1)}.of("a"))
	assert.Equal(t, []credit.Micro{10, -4, -6, 3, -3}, bank.amounts(t, "a"), "the grant is over from then on")
	expired, err := expire("a", "month")
	require.NoError(t, err)
	assert.EqualValues(t, 9, expired, "all that has expired of it")
	for _, unknown := range [][2]string{{"a", "other"}, {"b", "month"}} {
		_, err := expire(unknown[0], unknown[1])
		require.ErrorIs(t, err, ledger.ErrNoGrant)
		require.ErrorIs(t, within(func(tx pgx.Tx) error {
			_, err := bank.RemainingTx(t.Context(), tx, unknown[0], unknown[1])
			return err
		}), ledger.ErrNoGrant)
	}
	bank.reconciled(t)
}

func TestAlertsOncePerCrossing(t *testing.T) {
	t.Parallel()
	bank := open(t, migrated(t, testkit.Postgres(t)))
	low := func() int { return bank.told(t, subject.Billing("a", string(event.AlertLowBalance))) }
	exhausted := func() int { return bank.told(t, subject.Billing("a", string(event.AlertExhausted))) }
	threshold := credit.Micro(10)
	bank.grant(t, "a", "1", 20)
	set := func(threshold *credit.Micro) {
		_, err := bank.SetLowBalance(t.Context(), query.LowBalanceRequest{CustomerID: "a", Threshold: threshold})
		require.NoError(t, err)
	}
	set(&threshold)
	bank.apply(t, step{debit(1, 10)}.of("a"))
	assert.Zero(t, low(), "at the threshold")
	bank.apply(t, step{debit(2, 1), settle(2, 0), debit(3, 3), debit(4, 8)}.of("a"))
	assert.Equal(t, 1, low(), "below it, above it by a refund, below it again")
	assert.Equal(t, 1, exhausted(), "a debit was refused")
	bank.apply(t, step{debit(5, 7), debit(6, 1)}.of("a"))
	assert.Equal(t, 1, exhausted(), "nothing is left, and that was told")

	bank.grant(t, "a", "2", 9)
	bank.apply(t, step{debit(7, 9)}.of("a"))
	assert.Equal(t, []int{1, 1}, []int{low(), exhausted()}, "the grant did not reach the threshold")
	bank.grant(t, "a", "3", 10)
	bank.apply(t, step{debit(8, 10)}.of("a"))
	assert.Equal(t, []int{2, 2}, []int{low(), exhausted()})

	higher := threshold + 1
	set(&higher)
	assert.Equal(t, 3, low(), "below a new threshold")
	set(&higher)
	set(nil)
	assert.Equal(t, 3, low())
	_, err := bank.SetOverdraft(t.Context(), query.OverdraftRequest{CustomerID: "a", Limit: 5})
	require.NoError(t, err)
	bank.apply(t, step{debit(9, 5)}.of("a"))
	assert.Equal(t, 3, exhausted(), "the overdraft is used up, too")
	assert.Equal(t, 3, bank.told(t, subject.Activity("a", "credits.low_balance_changed")))
	assert.Equal(t, 1, bank.told(t, subject.Activity("a", "credits.overdraft_changed")))
	bank.reconciled(t)
}

func TestOverdraftMayBeLowered(t *testing.T) {
	t.Parallel()
	bank := open(t, migrated(t, testkit.Postgres(t)))
	limit := func(limit credit.Micro) query.BalanceReply {
		reply, err := bank.SetOverdraft(t.Context(), query.OverdraftRequest{CustomerID: "a", Limit: limit})
		require.NoError(t, err)
		return reply
	}
	assert.EqualValues(t, 10, limit(10).Available)
	assert.Equal(t, []answer{{ledger.StateDebited, 8, 0, -8}}, answers(bank.apply(t, step{debit(1, 8)}.of("a"))))
	assert.EqualValues(t, 0, limit(3).Available)
	assert.Equal(t, []answer{{ledger.StateRefused, 0, 0, -8}, {ledger.StateDebited, 0, 0, -8}},
		answers(bank.apply(t, step{debit(2, 1), debit(3, 0)}.of("a"))), "what is free is not refused")
	bank.apply(t, step{settle(1, 2)}.of("a"))
	assert.Equal(t, []answer{{ledger.StateDebited, 1, 0, -3}}, answers(bank.apply(t, step{debit(4, 1)}.of("a"))))
	bank.reconciled(t)
}
