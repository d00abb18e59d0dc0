package ledger_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

// applied is what Apply returned.
type applied struct {
	charges []ledger.Charge
	err     error
}

// whileWaiting applies the batch, and does other things while it waits for the account "busy", which has to be in the batch.
func (b *bank) whileWaiting(t *testing.T, batch []ledger.Instruction, meanwhile func()) applied {
	t.Helper()
	holder, err := b.work.Begin(t.Context())
	require.NoError(t, err)
	_, err = holder.Exec(t.Context(), `SELECT FROM billing.accounts WHERE customer_id = 'busy' FOR UPDATE`)
	require.NoError(t, err)
	done := make(chan applied, 1)
	go func() {
		charges, err := b.Apply(t.Context(), batch)
		done <- applied{charges, err}
	}()
	require.Eventually(t, func() bool { return b.isWaiting(t) }, 30*time.Second, time.Millisecond)
	meanwhile()
	require.NoError(t, holder.Rollback(t.Context()))
	return <-done
}

func (b *bank) isWaiting(t *testing.T) (waiting bool) {
	t.Helper()
	err := b.work.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
		WHERE NOT granted AND datname = current_database())`).Scan(&waiting)
	require.NoError(t, err)
	return waiting
}

func TestSeesWhatWasCommittedWhileItWaited(t *testing.T) {
	t.Parallel()
	bank := open(t, migrated(t, testkit.Postgres(t)))
	bank.grant(t, "busy", "1", 10)
	bank.grant(t, "idle", "1", 10)
	batch := append(step{debit(1, 4)}.of("busy"), step{debit(2, 7)}.of("idle")...)
	result := bank.whileWaiting(t, batch, func() {
		_, err := bank.Apply(t.Context(), step{settle(2, 0), debit(3, 6)}.of("idle"))
		require.NoError(t, err)
	})
	require.NoError(t, result.err)
	assert.Equal(t, []answer{{ledger.StateDebited, 4, 0, 6}, {ledger.StateSettled, 0, 0, 0}}, answers(result.charges))
	bank.reconciled(t)
}

func TestAccountMadeWhileItWaited(t *testing.T) {
	t.Parallel()
	bank := open(t, migrated(t, testkit.Postgres(t)))
	bank.grant(t, "busy", "1", 10)
	batch := append(step{debit(1, 4)}.of("busy"), step{settle(2, 1)}.of("new")...)
	result := bank.whileWaiting(t, batch, func() {
		bank.grant(t, "new", "1", 10)
		_, err := bank.Apply(t.Context(), step{debit(2, 7)}.of("new"))
		require.NoError(t, err)
	})
	require.Error(t, result.err)

	charges, err := bank.Apply(t.Context(), batch)
	require.NoError(t, err)
	assert.Equal(t, []answer{{ledger.StateDebited, 4, 0, 6}, {ledger.StateSettled, 7, 1, 3}}, answers(charges))
	assert.EqualValues(t, 9, bank.balance(t, "new"))
	bank.reconciled(t)
}
