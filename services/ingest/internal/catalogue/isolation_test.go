package catalogue_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
	"github.com/galley-engine/galley/services/ingest/migrations"
)

const denied = "42501"

// The database itself keeps customers apart, whatever the statements of this service forget.
func TestRowLevelSecurity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.process(t, clock.System)
	for _, id := range []string{"alice", "bob"} {
		customer(t, c, id)
		_, _, err := c.Publish(t.Context(), id, soup("of "+id), author())
		require.NoError(t, err)
	}
	reader, batch := w.pool(t, migrations.Reader), w.pool(t, migrations.Role)
	for _, table := range []string{"customers", "api_keys", "agents", "recipes", "recipe_versions"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			count := func(as string) (all, others int) {
				err := postgres.Transact(t.Context(), reader, as, func(tx pgx.Tx) error {
					return tx.QueryRow(t.Context(), `SELECT count(*), count(*) FILTER (WHERE customer_id <> $1) FROM ingest.`+table,
						as).Scan(&all, &others)
				})
				require.NoError(t, err)
				return all, others
			}
			all, others := count("alice")
			require.Equal(t, []int{1, 0}, []int{all, others})
			all, _ = count("carol")
			require.Zero(t, all)
			all, _ = count(postgres.EveryCustomer)
			require.Equal(t, 2, all)

			require.NoError(t, reader.QueryRow(t.Context(), `SELECT count(*) FROM ingest.`+table).Scan(&all))
			require.Zero(t, all, "without a customer there is nothing")
			_, err := batch.Exec(t.Context(), `SELECT FROM ingest.`+table)
			requireState(t, denied, err)
			_, err = reader.Exec(t.Context(), `DELETE FROM ingest.`+table)
			requireState(t, denied, err)
		})
	}
	for _, as := range []string{"alice", postgres.EveryCustomer} {
		for _, statement := range []string{
			`INSERT INTO ingest.customers (customer_id, name, vars, created_at) VALUES ('mallory', '', '{}', now())`,
			`INSERT INTO ingest.agents (customer_id, agent_id, name, description, created_at) VALUES ('bob', 'x', '', '', now())`,
			`INSERT INTO ingest.api_keys (key_id, customer_id, hash, name, created_at) VALUES ('k', 'bob', sha256('k'), '', now())`,
			`INSERT INTO ingest.recipes (customer_id, agent_id, recipe_id) VALUES ('bob', 'cook', 'x')`,
			`UPDATE ingest.recipe_versions SET document = 'x'`,
			`UPDATE ingest.api_keys SET revoked_at = NULL`,
			`SELECT FROM ingest.outbox`,
		} {
			err := postgres.Transact(t.Context(), reader, as, func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), statement)
				return err
			})
			requireState(t, denied, err)
		}
	}
}

func requireState(t *testing.T, code string, err error) {
	t.Helper()
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, code, refused.Code, refused.Message)
}

func TestCustomersDoNotSeeOneAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.process(t, clock.System)
	customer(t, c, "alice")
	customer(t, c, "bob")
	_, _, err := c.Publish(t.Context(), "alice", soup("a"), author())
	require.NoError(t, err)

	_, err = c.Resolve(t.Context(), "bob", "cook", "soup", 0)
	requireCode(t, problem.NotFound, err)
	_, err = c.Resolve(t.Context(), "bob", "cook", "soup", 1)
	requireCode(t, problem.NotFound, err)
	_, err = c.Recipe(t.Context(), "bob", "", "soup", 0)
	requireCode(t, problem.NotFound, err)
	page, _, err := c.Recipes(t.Context(), catalogue.RecipeList{Customer: "bob", Limit: 10})
	require.NoError(t, err)
	require.Empty(t, page)
}
