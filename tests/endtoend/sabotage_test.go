package endtoend_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/tests/internal/harness"
	"github.com/galley-engine/galley/tests/internal/inspect"
)

// TestSabotageIsNoticed tests the tests: a superuser who switches every guard off damages the database in one transaction after the
// other, and the checks of this package must find each damage.
func TestSabotageIsNoticed(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.Split)
	s := stage.scene(t)
	s.publish(t, failing)
	ids := []string{s.response(t, greeted()).ExecutionID, s.response(t, of("failing")).ExecutionID}
	stage.checkEverything(t)
	journal, err := inspect.ReadJournal(t.Context(), s.js)
	require.NoError(t, err)
	require.Len(t, journal, len(ids))
	conn, err := s.installation.Database(t.Context())
	require.NoError(t, err)
	defer conn.Close(context.Background()) //nolint:errcheck // nothing is committed
	tests := map[string]struct{ statement, said string }{
		"execution not projected": {`DELETE FROM ingest.executions WHERE execution_id = $1`, "is not projected"},
		"execution of nobody":     {`UPDATE ingest.executions SET execution_id = gen_random_uuid() WHERE execution_id = $1`, "has no journal"},
		"other status":            {`UPDATE ingest.executions SET status = 'partial' WHERE execution_id = $1`, "is projected as"},
		"other charge":            {`UPDATE ingest.executions SET charged = 1 WHERE execution_id = $1`, "is projected as"},
		"other response":          {`UPDATE ingest.executions SET response = '{}' WHERE execution_id = $1`, "another response"},
		"debit missing":           {`DELETE FROM billing.credit_transactions WHERE kind = 'debit' AND execution_id = $1`, "the ledger has 0 debits"},
		"debit twice":             {again("debit"), "the ledger has 2 debits"},
		"balance drifts":          {`UPDATE billing.accounts SET balance = balance + 1 WHERE $1 <> ''`, "has a balance of"},
		"audit row missing":       {`DELETE FROM audit.events WHERE event_id = $1 || '/funded'`, "funded is missing"},
		"audit row of another":    {`UPDATE audit.events SET customer_id = 'x' WHERE event_id = $1 || '/funded'`, "is not expected"},
		"audit row renumbered":    {`UPDATE audit.events SET sequence = sequence + 1000 WHERE event_id = $1 || '/funded'`, "has the sequence"},
		"audit leaf changed":      {`UPDATE audit.events SET leaf = leaf || ' ' WHERE event_id = $1 || '/funded'`, "have another root"},
		"audit log cut off": {
			`DELETE FROM audit.events WHERE sequence >= (SELECT sequence FROM audit.events WHERE event_id = $1 || '/funded')`,
			"and a root of",
		},
		"audit row that is too much": {`INSERT INTO audit.events SELECT sequence + 1000, occurred_at, recorded_at, event_id || '/2', customer_id, action_type,
			resource_type, resource_id, actor_type, actor_id, outcome, trace_id, leaf FROM audit.events WHERE event_id = $1 || '/funded'`, "is not expected"},
	}
	for name, test := range tests {
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), `ALTER TABLE billing.credit_transactions DISABLE TRIGGER ALL; ALTER TABLE audit.events DISABLE TRIGGER ALL`)
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), test.statement, pgx.QueryExecModeSimpleProtocol, ids[0])
		require.NoError(t, err, name)
		problems, err := journal.Database(t.Context(), conn)
		require.NoError(t, err)
		var texts []string
		for _, problem := range problems {
			texts = append(texts, problem.Error())
		}
		require.Contains(t, strings.Join(texts, "\n"), test.said, name)
		require.NoError(t, tx.Rollback(t.Context()))
	}
	problems, err := journal.Database(t.Context(), conn)
	require.NoError(t, err)
	require.Empty(t, problems, "everything was rolled back")
}

// again repeats a row of the ledger.
func again(kind string) string {
	return `INSERT INTO billing.credit_transactions (amount, balance_after, created_at, execution_id, customer_id, kind)
		SELECT amount, balance_after, created_at, execution_id, customer_id, kind FROM billing.credit_transactions
		WHERE kind = '` + kind + `' AND execution_id = $1`
}
