package ledger_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

func execution(n byte) uuid.UUID { return uuid.UUID{15: n} }

// step is a batch of instructions about executions of one customer, by number.
type step []instruction

type instruction struct {
	execution byte
	action    ledger.Action
	amount    credit.Micro
	waits     bool
}

func debit(n byte, amount credit.Micro) instruction {
	return instruction{n, ledger.Debit, amount, false}
}

// wait is a debit that may wait for an hour, in the order of the numbers.
func wait(n byte, amount credit.Micro) instruction { return instruction{n, ledger.Debit, amount, true} }

func settle(n byte, amount credit.Micro) instruction {
	return instruction{n, ledger.Settle, amount, false}
}

// answer is what an instruction's charge has to be.
type answer struct {
	state            ledger.State
	debited, charged credit.Micro
	balance          credit.Micro
}

func TestApply(t *testing.T) {
	t.Parallel()
	debited := func(amount, balance credit.Micro) answer { return answer{ledger.StateDebited, amount, 0, balance} }
	refused := func(balance credit.Micro) answer { return answer{ledger.StateRefused, 0, 0, balance} }
	settled := func(debited, charged, balance credit.Micro) answer {
		return answer{ledger.StateSettled, debited, charged, balance}
	}
	tests := map[string]struct {
		granted credit.Micro
		batches []step
		answers [][]answer
		balance credit.Micro
		ledger  []credit.Micro
	}{
		"a debit and its settle": {
			granted: 100,
			batches: []step{{debit(1, 30)}, {settle(1, 20)}},
			answers: [][]answer{{debited(30, 70)}, {settled(30, 20, 70)}},
			balance: 80, ledger: []credit.Micro{100, -30, 10},
		},
		"a refused debit takes nothing from smaller ones after it": {
			granted: 100,
			batches: []step{{debit(1, 60), debit(2, 60), debit(3, 40), debit(4, 1)}},
			answers: [][]answer{{debited(60, 40), refused(40), debited(40, 0), refused(0)}},
			balance: 0, ledger: []credit.Micro{100, -60, -40},
		},
		"a settle pays for a debit after it in the batch": {
			granted: 10,
			batches: []step{{debit(1, 10)}, {debit(2, 8), settle(1, 2), debit(3, 8)}},
			answers: [][]answer{{debited(10, 0)}, {refused(0), settled(10, 2, 0), debited(8, 0)}},
			balance: 0, ledger: []credit.Micro{10, -10, 8, -8},
		},
		"delivered again, the answer stays": {
			granted: 10,
			batches: []step{{debit(1, 10), debit(2, 10)}, {debit(2, 10), debit(1, 10)}, {settle(1, 0)}, {debit(2, 10), debit(1, 10)}},
			answers: [][]answer{
				{debited(10, 0), refused(0)}, {refused(0), debited(10, 0)}, {settled(10, 0, 0)}, {refused(0), settled(10, 0, 0)},
			},
			balance: 10, ledger: []credit.Micro{10, -10, 10},
		},
		"the same debit twice in a batch": {
			granted: 10,
			batches: []step{{debit(1, 6), debit(1, 6), debit(2, 6), debit(2, 6)}},
			answers: [][]answer{{debited(6, 4), debited(6, 4), refused(4), refused(4)}},
			balance: 4, ledger: []credit.Micro{10, -6},
		},
		"accepted and completed in one batch": {
			granted: 10,
			batches: []step{{debit(1, 6), settle(1, 2)}},
			answers: [][]answer{{settled(6, 2, 4), settled(6, 2, 4)}},
			balance: 8, ledger: []credit.Micro{10, -6, 4},
		},
		"cancelled before the debit": {
			granted: 10,
			batches: []step{{settle(1, 0)}, {debit(1, 6)}},
			answers: [][]answer{{settled(0, 0, 0)}, {settled(0, 0, 0)}},
			balance: 10, ledger: []credit.Micro{10},
		},
		"cancelled before the debit, in one batch": {
			granted: 10,
			batches: []step{{settle(1, 0), debit(1, 6)}},
			answers: [][]answer{{settled(0, 0, 0), settled(0, 0, 0)}},
			balance: 10, ledger: []credit.Micro{10},
		},
		"settled twice": {
			granted: 10,
			batches: []step{{debit(1, 6)}, {settle(1, 2), settle(1, 2)}, {settle(1, 2)}},
			answers: [][]answer{{debited(6, 4)}, {settled(6, 2, 4), settled(6, 2, 4)}, {settled(6, 2, 4)}},
			balance: 8, ledger: []credit.Micro{10, -6, 4},
		},
		"everything is used, so there is no refund": {
			granted: 10,
			batches: []step{{debit(1, 6)}, {settle(1, 6)}},
			answers: [][]answer{{debited(6, 4)}, {settled(6, 6, 4)}},
			balance: 4, ledger: []credit.Micro{10, -6},
		},
		"charged more than debited": {
			granted: 10,
			batches: []step{{debit(1, 6)}, {settle(1, 7)}, {settle(2, 7)}},
			answers: [][]answer{{debited(6, 4)}, {settled(6, 6, 4)}, {settled(0, 0, 0)}},
			balance: 4, ledger: []credit.Micro{10, -6},
		},
		"free of charge": {
			granted: 10,
			batches: []step{{debit(1, 0)}, {settle(1, 0)}},
			answers: [][]answer{{debited(0, 10)}, {settled(0, 0, 10)}},
			balance: 10, ledger: []credit.Micro{10},
		},
		"a refused execution completes": {
			granted: 10,
			batches: []step{{debit(1, 11)}, {settle(1, 0)}},
			answers: [][]answer{{refused(10)}, {refused(10)}},
			balance: 10, ledger: []credit.Micro{10},
		},
		"an unknown customer": {
			batches: []step{{debit(1, 1), debit(2, 0)}, {settle(2, 0), debit(1, 1)}},
			answers: [][]answer{{refused(0), debited(0, 0)}, {settled(0, 0, 0), refused(0)}},
		},
	}
	url := migrated(t, testkit.Postgres(t))
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bank := open(t, url)
			customer := uuid.NewString()
			if test.granted > 0 {
				bank.grant(t, customer, "opening", test.granted)
			}
			for i, batch := range test.batches {
				charges, err := bank.Apply(t.Context(), batch.of(customer))
				require.NoError(t, err)
				assert.Equal(t, test.answers[i], answers(charges))
			}
			assert.Equal(t, test.balance, bank.balance(t, customer))
			assert.Equal(t, test.ledger, bank.amounts(t, customer))
			bank.reconciled(t)
		})
	}
}

func (s step) of(customer string) []ledger.Instruction {
	instructions := make([]ledger.Instruction, len(s))
	for i, one := range s {
		key := ledger.Key{Customer: customer, Execution: execution(one.execution)}
		instructions[i] = ledger.Instruction{Key: key, Action: one.action, Amount: one.amount}
		if one.waits {
			instructions[i].Wait = ledger.Wait{Until: now().Add(time.Hour), Place: uint64(one.execution)}
		}
	}
	return instructions
}

func answers(charges []ledger.Charge) []answer {
	found := make([]answer, len(charges))
	for i, charge := range charges {
		found[i] = answer{charge.State, charge.Debited, charge.Charged, charge.BalanceAfter}
	}
	return found
}

func TestSameExecutionIDOfTwoCustomers(t *testing.T) {
	t.Parallel()
	bank := open(t, migrated(t, testkit.Postgres(t)))
	bank.grant(t, "a", "1", 10)
	bank.grant(t, "b", "1", 10)
	charges, err := bank.Apply(t.Context(), append(step{debit(1, 4)}.of("a"), step{debit(1, 6)}.of("b")...))
	require.NoError(t, err)
	assert.Equal(t, []answer{{ledger.StateDebited, 4, 0, 6}, {ledger.StateDebited, 6, 0, 4}}, answers(charges))
	bank.reconciled(t)
}

func TestGrant(t *testing.T) {
	t.Parallel()
	bank := open(t, migrated(t, testkit.Postgres(t)))
	first := bank.grant(t, "a", "welcome", 5)
	assert.False(t, first.Repeated)
	lots := []query.Lot{{ID: "welcome", Kind: query.GrantTopUp, Priority: query.DefaultPriority, Amount: 5, Remaining: 5}}
	assert.Equal(t, query.BalanceReply{CustomerID: "a", Posted: 5, Available: 5, Grants: lots}, first.Balance)
	bank.grant(t, "a", "more", 3)

	again := bank.grant(t, "a", "welcome", 7)
	assert.True(t, again.Repeated)
	assert.Equal(t, first.Transaction, again.Transaction)
	assert.EqualValues(t, 8, again.Balance.Posted)
	assert.False(t, bank.grant(t, "b", "welcome", 5).Repeated, "the id of another customer's grant")

	_, err := bank.Grant(t.Context(), query.GrantRequest{ID: "x", CustomerID: "a", Amount: ledger.MaxBalance})
	require.ErrorIs(t, err, ledger.ErrMaxBalance)
	assert.Equal(t, []credit.Micro{5, 3}, bank.amounts(t, "a"))
	bank.reconciled(t)
}

func TestGrantMadeByManyAtOnce(t *testing.T) {
	t.Parallel()
	bank := open(t, migrated(t, testkit.Postgres(t)))
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			_, err := bank.Grant(t.Context(), query.GrantRequest{ID: "once", CustomerID: "new", Amount: 5})
			assert.NoError(t, err)
		})
	}
	group.Wait()
	assert.EqualValues(t, 5, bank.balance(t, "new"))
	assert.Equal(t, 1, bank.events(t), "activities in the outbox")
	bank.reconciled(t)
}

func TestTransactions(t *testing.T) {
	t.Parallel()
	bank := open(t, migrated(t, testkit.Postgres(t)))
	bank.grant(t, "a", "g", 100)
	bank.grant(t, "b", "g", 100)
	for n := range byte(4) {
		_, err := bank.Apply(t.Context(), append(step{debit(n+1, 10)}.of("a"), step{debit(n+1, 20)}.of("b")...))
		require.NoError(t, err)
	}
	_, err := bank.Apply(t.Context(), step{settle(2, 7)}.of("a"))
	require.NoError(t, err)

	var amounts []credit.Micro
	page := ledger.Page{Customer: "a", Limit: 4}
	for {
		reply, err := bank.reader.Transactions(t.Context(), page)
		require.NoError(t, err)
		for _, row := range reply.Transactions {
			amounts = append(amounts, row.Amount)
		}
		if page.Before = reply.Next; reply.Next == 0 {
			break
		}
	}
	assert.Equal(t, []credit.Micro{3, -10, -10, -10, -10, 100}, amounts)

	reply, err := bank.reader.Transactions(t.Context(), ledger.Page{Customer: "a", Execution: execution(2), Limit: 10})
	require.NoError(t, err)
	require.Len(t, reply.Transactions, 2)
	refund := reply.Transactions[0]
	assert.Equal(t, query.Transaction{
		ID: refund.ID, CustomerID: "a", Kind: "refund", Amount: 3, BalanceAfter: 63, ExecutionID: execution(2).String(), CreatedAt: now(),
	}, refund)
	assert.EqualValues(t, -10, reply.Transactions[1].Amount)

	reply, err = bank.reader.Transactions(t.Context(), ledger.Page{Customer: "nobody", Limit: 1})
	require.NoError(t, err)
	assert.Equal(t, query.TransactionsReply{Transactions: []query.Transaction{}}, reply)
}
