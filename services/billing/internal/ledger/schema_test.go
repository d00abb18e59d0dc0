package ledger_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/migrations"
)

const insufficientPrivilege = "42501"

func changes() []string {
	return []string{
		`UPDATE billing.credit_transactions SET amount = amount + 1`,
		`DELETE FROM billing.credit_transactions`,
		`TRUNCATE billing.credit_transactions`,
	}
}

func superuser(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

func requireRefused(t *testing.T, err error) {
	t.Helper()
	var failure *pgconn.PgError
	require.ErrorAs(t, err, &failure)
	require.Equal(t, insufficientPrivilege, failure.Code, failure.Message)
}

func TestNobodyChangesTheLedger(t *testing.T) {
	t.Parallel()
	url := migrated(t, testkit.Postgres(t))
	bank := open(t, url)
	bank.grant(t, "a", "1", 10)
	owner := superuser(t, url)
	for _, mode := range []string{"origin", "replica"} {
		_, err := owner.Exec(t.Context(), `SELECT set_config('session_replication_role', $1, false)`, mode)
		require.NoError(t, err)
		for _, statement := range changes() {
			_, err := owner.Exec(t.Context(), statement)
			requireRefused(t, err)
			assert.ErrorContains(t, err, "append-only")
		}
	}
	for _, statement := range changes() {
		_, err := bank.work.Exec(t.Context(), statement)
		requireRefused(t, err)
		assert.ErrorContains(t, err, "permission denied")
	}
	bank.apply(t, step{debit(1, 4)}.of("a"))
	_, err := bank.work.Exec(t.Context(), `UPDATE billing.charges SET debited = 0`)
	requireRefused(t, err)
	assert.EqualValues(t, 10, bank.amounts(t, "a")[0])
}

func TestReaderSeesOneCustomer(t *testing.T) {
	t.Parallel()
	url := migrated(t, testkit.Postgres(t))
	bank := open(t, url)
	for _, customer := range []string{"a", "b"} {
		bank.grant(t, customer, "1", 10)
		bank.apply(t, step{debit(1, 4), wait(2, 40)}.of(customer))
	}
	reader := pool(t, url, migrations.Reader, nil)
	tests := map[string]struct {
		customer string
		sees     []string
	}{
		"its own rows":       {"a", []string{"a"}},
		"nothing by default": {"", nil},
		"no pattern":         {"%", nil},
		"all, the operator":  {"*", []string{"a", "b"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, table := range []string{"accounts", "charges", "credit_transactions", "grants", "waits"} {
				err := pgx.BeginFunc(t.Context(), reader, func(tx pgx.Tx) error {
					if test.customer != "" {
						_, err := tx.Exec(t.Context(), `SELECT set_config('app.customer', $1, true)`, test.customer)
						require.NoError(t, err)
					}
					rows, err := tx.Query(t.Context(), `SELECT DISTINCT customer_id FROM billing.`+table+` ORDER BY 1`)
					require.NoError(t, err)
					seen, err := pgx.CollectRows(rows, pgx.RowTo[string])
					require.NoError(t, err)
					assert.ElementsMatch(t, test.sees, seen, table)
					return nil
				})
				require.NoError(t, err)
			}
		})
	}
	for _, statement := range append(changes(),
		`INSERT INTO billing.accounts VALUES ('c', 1, now())`, `UPDATE billing.accounts SET balance = 1`, `SELECT * FROM billing.outbox`) {
		_, err := reader.Exec(t.Context(), statement)
		requireRefused(t, err)
	}
}

func TestReconcileFindsEveryDrift(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ damage, problem string }{
		"balance": {
			`UPDATE billing.accounts SET balance = balance + 1`, "the balance is 86, the ledger adds up to 85",
		},
		"account lost":  {`DELETE FROM billing.accounts`, "the balance is missing, the ledger adds up to 85"},
		"amount":        {`UPDATE billing.credit_transactions SET amount = -31 WHERE amount = -30`, "the balance was 100, the amount is -31"},
		"balance after": {`UPDATE billing.credit_transactions SET balance_after = 71 WHERE amount = -30`, "is said to be 71"},
		"row lost":      {`DELETE FROM billing.credit_transactions WHERE amount = 15`, "refunded in the ledger: 0"},
		"charge lost":   {`DELETE FROM billing.charges`, "a debit of 30 that no charge names"},
		"charge": {
			`UPDATE billing.charges SET charged = 16 WHERE state = 'settled'`, "settled charge, debited 30, charged 16, refunded in the ledger: 15",
		},
		"debit":           {`UPDATE billing.charges SET debited = 31 WHERE state = 'settled'`, "settled charge of 31, debited in the ledger: 30"},
		"grant lost":      {`DELETE FROM billing.grants`, "grant opening"},
		"grant amount":    {`UPDATE billing.grants SET amount = 101`, "grant opening: remembered and in the ledger do not agree"},
		"remaining":       {`UPDATE billing.grants SET remaining = 86`, "the balance is 85, of the grants remains 86"},
		"remaining alone": {`UPDATE billing.grants SET remaining = 86`, "grant opening of 100: remaining 86, repaid 0, expired 0"},
		"expired": {
			`UPDATE billing.grants SET expired = 1, remaining = 84`, "grant opening: expired 1, in the ledger 0",
		},
		"repaid":          {`UPDATE billing.grants SET repaid = 1, remaining = 84`, "grants have repaid 1, charges hold 0 of the overdraft"},
		"allocation":      {`UPDATE billing.charges SET allocation[2] = 29 WHERE state = 'settled'`, "debited 30, allocated 29"},
		"allocation lost": {`UPDATE billing.charges SET allocation = NULL WHERE state = 'settled'`, "charges without an allocation took 15, of the grants 0"},
		"another lot":     {`UPDATE billing.charges SET allocation[1] = 99 WHERE state = 'settled'`, "grant missing of 0: remaining , repaid , expired , unallocated , held by charges 15"},
		"no lot":          {`UPDATE billing.charges SET allocation[1] = 0 WHERE state = 'settled'`, "charges hold 15 of the overdraft"},
		"wait lost":       {`DELETE FROM billing.waits`, "waiting charge, and its wait is missing"},
		"wait decided":    {`UPDATE billing.waits SET decided_at = now()`, "waiting charge, and its wait is decided"},
		"wait forgotten":  {`UPDATE billing.charges SET state = 'refused' WHERE state = 'waiting'`, "no charge, and its wait is not decided"},
		"waiting":         {`UPDATE billing.accounts SET waiting = 2`, "2 charges are said to wait, 1 do"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := migrated(t, testkit.Postgres(t))
			bank := open(t, url)
			bank.grant(t, "a", "opening", 100)
			_, err := bank.Apply(t.Context(), step{debit(1, 30)}.of("a"))
			require.NoError(t, err)
			_, err = bank.Apply(t.Context(), step{settle(1, 15), wait(2, 900)}.of("a"))
			require.NoError(t, err)
			bank.reconciled(t)

			owner := superuser(t, url)
			_, err = owner.Exec(t.Context(), `ALTER TABLE billing.credit_transactions DISABLE TRIGGER ALL;
				ALTER TABLE billing.charges DISABLE TRIGGER ALL; `+test.damage)
			require.NoError(t, err)
			report, err := ledger.Reconcile(t.Context(), bank.query)
			require.NoError(t, err)
			require.NotEmpty(t, report.Drifts)
			var text strings.Builder
			for _, drift := range report.Drifts {
				text.WriteString(drift.String() + "\n")
			}
			assert.Contains(t, text.String(), "customer a")
			assert.Contains(t, text.String(), test.problem)
		})
	}
}
