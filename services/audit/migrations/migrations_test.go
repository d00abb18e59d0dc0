package migrations_test

import (
	"context"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/services/audit/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const insertRow = `INSERT INTO audit.events VALUES (1, now(), now(), 'e/accepted', 'cust_001', 'execution.accepted', 'execution', 'e',
	'api_key', 'key_1', 'success', '', '{}')`

func migrated(t *testing.T) *pgx.Conn {
	t.Helper()
	url := testkit.Postgres(t)
	require.NoError(t, postgres.Migrate(t.Context(), url, migrations.Schema()))
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close(context.Background())) })
	_, err = conn.Exec(t.Context(), insertRow)
	require.NoError(t, err)
	return conn
}

// TestOwnerCannotChangeTheLog: not even a superuser, who owns the table, can, and neither can one that plays a replica.
func TestOwnerCannotChangeTheLog(t *testing.T) {
	t.Parallel()
	conn := migrated(t)
	for _, replication := range []string{"origin", "replica", "local"} {
		_, err := conn.Exec(t.Context(), `SELECT set_config('session_replication_role', $1, false)`, replication)
		require.NoError(t, err)
		for _, statement := range []string{
			`UPDATE audit.events SET outcome = 'failed'`,
			`UPDATE audit.events SET outcome = 'failed' WHERE false`,
			`DELETE FROM audit.events`,
			`DELETE FROM audit.events WHERE sequence = 1`,
			`TRUNCATE audit.events`,
			`TRUNCATE audit.events, audit.positions CASCADE`,
			`INSERT INTO audit.events SELECT * FROM audit.events ON CONFLICT (sequence) DO UPDATE SET outcome = 'failed'`,
			`MERGE INTO audit.events USING (SELECT 1) AS one ON true WHEN MATCHED THEN DELETE`,
		} {
			_, err := conn.Exec(t.Context(), statement)
			require.ErrorContains(t, err, "audit.events is append-only", "%s: %s", replication, statement)
		}
	}
	var rows int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM audit.events WHERE outcome = 'success'`).Scan(&rows))
	assert.Equal(t, 1, rows)
}

func TestRolesMayNotChangeTheLog(t *testing.T) {
	t.Parallel()
	conn := migrated(t)
	for _, role := range []string{migrations.Role, migrations.Reader} {
		_, err := conn.Exec(t.Context(), `SET ROLE `+role)
		require.NoError(t, err)
		for _, statement := range []string{
			`UPDATE audit.events SET outcome = 'failed'`, `DELETE FROM audit.events`, `TRUNCATE audit.events`,
			`ALTER TABLE audit.events DISABLE TRIGGER append_only`, `DROP TABLE audit.events`, `DELETE FROM audit.head`,
			`CREATE TABLE audit.mine ()`, `SET session_replication_role = 'replica'`,
		} {
			_, err := conn.Exec(t.Context(), statement)
			var denied interface{ SQLState() string }
			require.ErrorAs(t, err, &denied, "%s: %s", role, statement)
			assert.Equal(t, "42501", denied.SQLState(), "%s: %s", role, statement)
			assert.NotContains(t, err.Error(), "append-only", "%s: refused by the trigger only: %s", role, statement)
		}
	}
	_, err := conn.Exec(t.Context(), insertRow)
	require.ErrorContains(t, err, "permission denied", "the reader may not insert")
}

// TestKeysOfWebhooks: what was delivered since a webhook was set tells under which key its secret was shown; nothing else does.
func TestKeysOfWebhooks(t *testing.T) {
	t.Parallel()
	url := testkit.Postgres(t)
	schema := migrations.Schema()
	before := fstest.MapFS{}
	names, err := fs.Glob(schema.Migrations, "000[1-5]_*.sql")
	require.NoError(t, err)
	require.Len(t, names, 5)
	for _, name := range names {
		text, err := fs.ReadFile(schema.Migrations, name)
		require.NoError(t, err)
		before[name] = &fstest.MapFile{Data: text}
	}
	old := schema
	old.Migrations = before
	require.NoError(t, postgres.Migrate(t.Context(), url, old))
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close(context.Background())) })
	_, err = conn.Exec(t.Context(), `
		INSERT INTO audit.webhooks (customer_id, url, interval_seconds, nonce, created_at, updated_at, origin, delivered_at, due_at)
		SELECT customer, '', 60, decode(repeat('00', 16), 'hex'), now(), now(), origin, now() + delivered, now()
		FROM (VALUES ('delivered', 'log-1', interval '1 second'), ('new', '', NULL), ('set since', 'log-1', interval '-1 second'))
			AS hook (customer, origin, delivered)`)
	require.NoError(t, err)
	require.NoError(t, postgres.Migrate(t.Context(), url, schema))
	rows, err := conn.Query(t.Context(), `SELECT customer_id || ': ' || key_name FROM audit.webhooks ORDER BY 1`)
	require.NoError(t, err)
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	assert.Equal(t, []string{"delivered: log-1", "new: ", "set since: "}, keys)
}

// TestOnlyTheEraserErases: payloads of one customer, and nothing else.
func TestOnlyTheEraserErases(t *testing.T) {
	t.Parallel()
	conn := migrated(t)
	_, err := conn.Exec(t.Context(), `INSERT INTO audit.payloads (sequence, customer_id, salt, data)
		VALUES (1, 'cust_001', '\x01', '\x02'), (2, 'cust_002', '\x01', '\x02'), (3, '', '\x01', '\x02')`)
	require.NoError(t, err)
	attempt := func(role, statement string) (int64, error) {
		_, err := conn.Exec(t.Context(), `SET ROLE `+role)
		require.NoError(t, err)
		defer func() {
			_, err := conn.Exec(context.Background(), `RESET ROLE`)
			require.NoError(t, err)
		}()
		tag, err := conn.Exec(t.Context(), statement)
		return tag.RowsAffected(), err
	}
	_, err = conn.Exec(t.Context(), `SELECT set_config('app.customer', 'cust_001', false)`)
	require.NoError(t, err)
	for _, role := range []string{migrations.Role, migrations.Reader, migrations.Webhook} {
		for _, statement := range []string{`DELETE FROM audit.payloads`, `TRUNCATE audit.payloads`, `UPDATE audit.payloads SET data = NULL`} {
			_, err := attempt(role, statement)
			require.ErrorContains(t, err, "permission denied", "%s: %s", role, statement)
		}
	}
	for _, statement := range []string{
		`DELETE FROM audit.events`, `UPDATE audit.payloads SET data = NULL`, `TRUNCATE audit.payloads`, `INSERT INTO audit.payloads VALUES (9, 'cust_001', '', '')`,
		`DELETE FROM audit.tiles`, `DELETE FROM audit.tree_heads`, `SELECT FROM audit.outbox`, `SELECT FROM audit.webhooks`,
	} {
		_, err := attempt(migrations.Eraser, statement)
		require.ErrorContains(t, err, "permission denied", statement)
	}
	erased, err := attempt(migrations.Eraser, `DELETE FROM audit.payloads`)
	require.NoError(t, err)
	assert.EqualValues(t, 1, erased)
	_, err = conn.Exec(t.Context(), `SELECT set_config('app.customer', '*', false)`)
	require.NoError(t, err)
	erased, err = attempt(migrations.Eraser, `DELETE FROM audit.payloads`)
	require.NoError(t, err)
	assert.Zero(t, erased)
	var left int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM audit.payloads`).Scan(&left))
	assert.Equal(t, 2, left)
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM audit.events`).Scan(&left))
	assert.Equal(t, 1, left)
}
