package ledger_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/migrations"
)

// BenchmarkApply measures batches as they come under load: half debits, half settles of the debits of the batch before, with a
// refund in each, on a server that syncs to disk. Each customer has as many open lots.
func BenchmarkApply(b *testing.B) {
	url := migrated(b, testkit.PostgresServer(b).URL())
	for _, size := range []int{2, 20, 500} {
		for _, kind := range []struct{ customers, lots int }{{1, 3}, {1000, 1}, {1000, 3}} {
			b.Run(fmt.Sprintf("batch=%d/customers=%d/lots=%d", size, kind.customers, kind.lots), func(b *testing.B) {
				benchmarkApply(b, url, kind.customers, kind.lots, size)
			})
		}
	}
}

func benchmarkApply(b *testing.B, url string, customers, lots, size int) {
	b.Helper()
	prefix := fmt.Sprintf("customer_%d_%d_", customers, lots)
	batches := pool(b, url, migrations.Role, ledger.PoolSettings())
	_, err := batches.Exec(b.Context(), `INSERT INTO billing.accounts SELECT $3 || n, $2 * 300000000000000, now()
		FROM generate_series(0, $1 - 1) AS n ON CONFLICT DO NOTHING`, customers, lots, prefix)
	require.NoError(b, err)
	_, err = batches.Exec(b.Context(), `INSERT INTO billing.grants (customer_id, grant_id, transaction_id, amount, remaining, expires_at)
		SELECT $3 || n, lot::text, 1000000000 + 10 * n + lot, 300000000000000, 300000000000000, now() + lot * interval '1 day'
		FROM generate_series(0, $1 - 1) AS n, generate_series(1, $2) AS lot ON CONFLICT DO NOTHING`, customers, lots, prefix)
	require.NoError(b, err)
	money := ledger.New(batches, nil, now)
	half := size / 2
	next := func(n int) []ledger.Instruction {
		debits := make([]ledger.Instruction, half)
		for i := range debits {
			id, err := uuid.NewV7()
			require.NoError(b, err)
			key := ledger.Key{Customer: fmt.Sprint(prefix, (n*half+i)%customers), Execution: id}
			debits[i] = ledger.Instruction{Key: key, Action: ledger.Debit, Amount: 100_000}
		}
		return debits
	}
	debits := next(0)
	_, err = money.Apply(b.Context(), debits)
	require.NoError(b, err)
	for n := 1; b.Loop(); n++ {
		batch := debits
		for i := range batch {
			batch[i].Action, batch[i].Amount = ledger.Settle, 80_000
		}
		debits = next(n)
		_, err := money.Apply(b.Context(), append(batch, debits...))
		require.NoError(b, err)
	}
	b.ReportMetric(float64(half*b.N)/b.Elapsed().Seconds(), "executions/s")
}
