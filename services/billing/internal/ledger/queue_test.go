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
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

// outcome is a decision about what has waited.
type outcome struct {
	execution byte
	state     ledger.State
	debited   credit.Micro
}

func (b *bank) outcomes(t *testing.T) (found []outcome) {
	t.Helper()
	for _, one := range b.decisions(t) {
		found = append(found, outcome{one.Execution[15], one.State, one.Debited})
	}
	return found
}

func funded(n byte, amount credit.Micro) outcome { return outcome{n, ledger.StateDebited, amount} }

func TestWaits(t *testing.T) {
	t.Parallel()
	grant := func(amount credit.Micro) func(*testing.T, *bank) {
		return func(t *testing.T, b *bank) {
			t.Helper()
			b.grant(t, "a", uuid.NewString(), amount)
		}
	}
	apply := func(batch step) func(*testing.T, *bank) {
		return func(t *testing.T, b *bank) {
			t.Helper()
			b.apply(t, batch.of("a"))
		}
	}
	pass := func(d time.Duration) func(*testing.T, *bank) {
		return func(t *testing.T, b *bank) {
			t.Helper()
			b.pass(d)
			next, err := b.Serve(t.Context())
			require.NoError(t, err)
			require.Zero(t, next)
		}
	}
	tests := map[string]struct {
		steps    []func(*testing.T, *bank)
		outcomes []outcome
		ledger   []credit.Micro
	}{
		"a grant pays for them in their order, as far as it goes": {
			steps:    []func(*testing.T, *bank){apply(step{wait(2, 5), wait(1, 5)}), apply(step{wait(3, 5)}), grant(12)},
			outcomes: []outcome{funded(1, 5), funded(2, 5)}, ledger: []credit.Micro{12, -5, -5},
		},
		"a large one holds up a smaller one behind it": {
			steps: []func(*testing.T, *bank){apply(step{wait(1, 50), wait(2, 5)}), grant(12)}, ledger: []credit.Micro{12},
		},
		"one that is covered goes behind those that wait": {
			steps: []func(*testing.T, *bank){grant(12), apply(step{wait(1, 50)}), apply(step{wait(2, 5)})}, ledger: []credit.Micro{12},
		},
		"one that does not wait goes ahead": {
			steps: []func(*testing.T, *bank){grant(12), apply(step{wait(1, 50), debit(2, 5)})}, ledger: []credit.Micro{12, -5},
		},
		"a refund pays": {
			steps:    []func(*testing.T, *bank){grant(10), apply(step{debit(1, 10), wait(2, 6)}), apply(step{settle(1, 3)})},
			outcomes: []outcome{funded(2, 6)}, ledger: []credit.Micro{10, -10, 7, -6},
		},
		"a refund in the same batch pays, and nobody has to be told": {
			steps:  []func(*testing.T, *bank){grant(10), apply(step{debit(1, 10), wait(2, 6), settle(1, 3)})},
			ledger: []credit.Micro{10, -10, 7, -6},
		},
		"an overdraft pays": {
			steps: []func(*testing.T, *bank){apply(step{wait(1, 6)}), func(t *testing.T, b *bank) {
				t.Helper()
				_, err := b.SetOverdraft(t.Context(), query.OverdraftRequest{CustomerID: "a", Limit: 6})
				require.NoError(t, err)
			}},
			outcomes: []outcome{funded(1, 6)}, ledger: []credit.Micro{-6},
		},
		"one that is cancelled makes way": {
			steps:    []func(*testing.T, *bank){grant(10), apply(step{wait(1, 50), wait(2, 5)}), apply(step{settle(1, 0)})},
			outcomes: []outcome{funded(2, 5)}, ledger: []credit.Micro{10, -5},
		},
		"cancelled before it waits": {
			steps: []func(*testing.T, *bank){apply(step{settle(1, 0)}), apply(step{wait(1, 5)}), grant(10)}, ledger: []credit.Micro{10},
		},
		"one that has waited too long makes way": {
			steps:    []func(*testing.T, *bank){apply(step{wait(1, 50), wait(2, 5)}), grant(10), pass(time.Hour)},
			outcomes: []outcome{{1, ledger.StateRefused, 0}, {2, ledger.StateRefused, 0}}, ledger: []credit.Micro{10},
		},
		"a grant that comes too late does not pay": {
			steps: []func(*testing.T, *bank){
				apply(step{wait(1, 5)}), func(_ *testing.T, b *bank) { b.pass(time.Hour) }, grant(10),
			},
			outcomes: []outcome{{1, ledger.StateRefused, 0}}, ledger: []credit.Micro{10},
		},
		"one that comes too late for credits is refused": {
			steps:  []func(*testing.T, *bank){func(_ *testing.T, b *bank) { b.pass(time.Hour) }, apply(step{wait(1, 5)}), grant(10)},
			ledger: []credit.Micro{10},
		},
		"delivered again, it waits once": {
			steps:    []func(*testing.T, *bank){apply(step{wait(1, 5)}), apply(step{wait(1, 5), wait(1, 5)}), grant(20), apply(step{wait(1, 5)})},
			outcomes: []outcome{funded(1, 5)}, ledger: []credit.Micro{20, -5},
		},
		"what is free does not wait": {
			steps: []func(*testing.T, *bank){apply(step{wait(1, 5), wait(2, 0)})},
		},
		"paid and ended in one batch": {
			steps: []func(*testing.T, *bank){
				grant(10), apply(step{debit(1, 10), wait(2, 6)}), apply(step{settle(1, 0), settle(2, 1)}),
			},
			ledger: []credit.Micro{10, -10, 10, -6, 5},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bank := open(t, migrated(t, testkit.Postgres(t)))
			for _, do := range test.steps {
				do(t, bank)
			}
			assert.Equal(t, test.outcomes, bank.outcomes(t))
			assert.Equal(t, test.ledger, bank.amounts(t, "a"))
			bank.reconciled(t)
		})
	}
}

func TestWaitsAreToldOnce(t *testing.T) {
	t.Parallel()
	bank := open(t, migrated(t, testkit.Postgres(t)))
	bank.apply(t, step{wait(1, 5)}.of("a"))
	<-bank.Woken()
	assert.Equal(t, 1, bank.told(t, subject.Billing("a", "exhausted")))
	bank.apply(t, step{wait(2, 5), wait(3, 1)}.of("a"))
	assert.Equal(t, 1, bank.told(t, subject.Billing("a", "exhausted")), "once until credits come")
	<-bank.Woken()
	bank.grant(t, "a", "1", 5)
	<-bank.Woken()
	assert.Equal(t, 2, bank.told(t, subject.Billing("a", "exhausted")), "it came back, and was used up")
	found := bank.decisions(t)
	require.Len(t, found, 1)
	require.NoError(t, bank.Told(t.Context(), []ledger.Key{found[0].Key}))
	assert.Empty(t, bank.decisions(t))
	bank.apply(t, step{settle(1, 5)}.of("a"))
	bank.reconciled(t)
}

// TestManyWait has more wait than a transaction looks at: the rest is served right after it, or by whoever looks next.
func TestManyWait(t *testing.T) {
	t.Parallel()
	bank := open(t, migrated(t, testkit.Postgres(t)))
	const many = 450
	batch := make([]ledger.Instruction, many)
	for i := range batch {
		batch[i] = ledger.Instruction{
			Key: ledger.Key{Customer: "a", Execution: uuid.New()}, Action: ledger.Debit, Amount: 1,
			Wait: ledger.Wait{Until: now().Add(time.Hour), Place: uint64(i + 1)},
		}
	}
	bank.apply(t, batch)
	bank.apply(t, []ledger.Instruction{{Key: batch[300].Key, Action: ledger.Settle}})
	bank.grant(t, "a", "1", many-50)
	next, err := bank.Serve(t.Context())
	require.NoError(t, err)
	assert.Equal(t, now().Add(time.Hour), next)
	assert.Zero(t, bank.balance(t, "a"))
	bank.reconciled(t)

	rows, err := bank.work.Query(t.Context(), `SELECT execution_id FROM billing.charges WHERE debited > 0 ORDER BY debit_id`)
	require.NoError(t, err)
	paid, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	require.NoError(t, err)
	var wanted []uuid.UUID
	for i := range batch[:many-49] {
		if i != 300 {
			wanted = append(wanted, batch[i].Execution)
		}
	}
	assert.Equal(t, wanted, paid, "the first of them, in their order")

	bank.pass(time.Hour)
	next, err = bank.Serve(t.Context())
	require.NoError(t, err)
	assert.Zero(t, next)
	assert.Len(t, bank.decisions(t), many-1)
	bank.reconciled(t)
}
