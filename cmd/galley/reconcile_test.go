package main

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
)

func TestReconcile(t *testing.T) {
	t.Parallel()
	i := install(t)
	database := testkit.Postgres(t)
	i.more = []string{"GALLEY_DATABASE_URL=" + database}
	i.start(t)
	journal := []string{"--nats-url", "nats://" + i.nats}
	reconcile := func(args ...string) (string, int) {
		return i.run(t, append([]string{"billing", "reconcile"}, args...)...)
	}
	out, code := reconcile()
	assert.Zero(t, code, out)
	assert.Contains(t, out, "not with the journal (set GALLEY_NATS_URL): 0 differences")
	out, code = reconcile(journal...)
	assert.Zero(t, code, out)
	assert.Regexp(t, `1 accounts, 1 charges and \d rows of the ledger, [12] events of the journal and 0 open debits compared: 0 differences`, out)
	require.Eventually(t, func() bool {
		out, code = reconcile(append(journal, "--last")...)
		return code == 0
	}, 30*time.Second, 100*time.Millisecond, "billing compares when it starts")
	assert.Contains(t, out, "0 executions settled")

	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	require.Eventually(t, func() bool { // the demo may not be settled yet
		tag, err := conn.Exec(t.Context(), `UPDATE billing.charges SET charged = charged - 1 WHERE state = 'settled'`)
		return err == nil && tag.RowsAffected() == 1
	}, 30*time.Second, 100*time.Millisecond)
	require.NoError(t, conn.Close(t.Context()))
	out, code = reconcile(journal...)
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "refunded in the ledger")
	assert.Contains(t, out, "galley: the money does not add up")
}
