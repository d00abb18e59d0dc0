package subscription_test

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/billing/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestNotes(t *testing.T) {
	t.Parallel()
	f := newWorld(t)
	none, err := f.Get(t.Context(), "alice")
	require.NoError(t, err)
	require.Equal(t, query.SubscriptionReply{CustomerID: "alice", Status: query.SubscriptionNone, Features: []string{}}, none)
	_, err = f.work.Exec(t.Context(), `INSERT INTO billing.accounts (customer_id, balance, created_at) VALUES ('alice', 2500000, now()), ('bob', 1, now())`)
	require.NoError(t, err)

	first, at := f.clock.Now(), "galley.activity.alice.subscription.updated operator:operator "
	want := query.SubscriptionReply{
		CustomerID: "alice", Plan: "pro", Status: query.SubscriptionActive, Features: []string{"exports", "leads"}, Balance: 2_500_000, UpdatedAt: &first,
	}
	got, err := f.Set(t.Context(), request("alice", "pro", query.SubscriptionActive, "leads", "exports", "leads"))
	require.NoError(t, err)
	require.Equal(t, want, got)

	f.clock.Advance(time.Minute)
	got, err = f.Set(t.Context(), request("alice", "pro", query.SubscriptionActive, "exports", "leads"))
	require.NoError(t, err)
	require.Equal(t, want, got, "what is so already is no change")

	second := f.clock.Now()
	got, err = f.Set(t.Context(), request("alice", "pro", query.SubscriptionCancelled))
	require.NoError(t, err)
	want.Status, want.Features, want.UpdatedAt = query.SubscriptionCancelled, []string{}, &second
	require.Equal(t, want, got)
	got, err = f.Get(t.Context(), "alice")
	require.NoError(t, err)
	require.Equal(t, want, got)
	none, err = f.Get(t.Context(), "bob")
	require.NoError(t, err)
	require.Equal(t, query.SubscriptionReply{CustomerID: "bob", Status: query.SubscriptionNone, Features: []string{}, Balance: 1}, none)

	require.Equal(t, []string{
		at + `{"after":{"features":["exports","leads"],"plan":"pro","status":"active"}}`,
		at + `{"before":{"features":["exports","leads"],"status":"active"},"after":{"features":[],"status":"cancelled"}}`,
	}, f.activities(t))
}

func TestNotesAtTheSameTime(t *testing.T) {
	t.Parallel()
	f := newWorld(t)
	var group sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		group.Go(func() {
			_, errs[i] = f.Set(t.Context(), request("alice", fmt.Sprintf("plan%d", i%2), query.SubscriptionActive))
		})
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	changes := f.activities(t)
	require.NotEmpty(t, changes)
	for i := range changes[1:] {
		require.NotEqual(t, changes[i], changes[i+1], "each is a change to what was there before")
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	f := newWorld(t)
	for _, customer := range []string{"alice", "bob"} {
		_, err := f.Set(t.Context(), request(customer, "pro", query.SubscriptionActive))
		require.NoError(t, err)
	}
	for customer, sees := range map[string][]string{"": {}, "alice": {"alice"}, "%": {}, "*": {"alice", "bob"}} {
		err := postgres.Transact(t.Context(), f.read, customer, func(tx pgx.Tx) error {
			rows, err := tx.Query(t.Context(), `SELECT customer_id FROM billing.subscriptions ORDER BY 1`)
			require.NoError(t, err)
			seen, err := pgx.CollectRows(rows, pgx.RowTo[string])
			assert.Equal(t, sees, seen, customer)
			return err
		})
		require.NoError(t, err)
	}
	refused := func(pool *pgxpool.Pool, statement string) {
		_, err := pool.Exec(t.Context(), statement)
		var failure *pgconn.PgError
		require.ErrorAs(t, err, &failure, statement)
		require.Equal(t, "42501", failure.Code, failure.Message)
	}
	for _, statement := range []string{
		`INSERT INTO billing.subscriptions VALUES ('carol', 'pro', 'active', '{}', now(), now())`, `INSERT INTO billing.plans VALUES ('x', 1, '{}', '', now())`,
		`INSERT INTO billing.retired_plans VALUES ('x', now())`,
		`UPDATE billing.subscriptions SET plan = 'x'`, `DELETE FROM billing.subscriptions`,
	} {
		refused(f.read, statement)
	}
	for _, statement := range []string{
		`UPDATE billing.subscriptions SET customer_id = 'x'`, `UPDATE billing.subscriptions SET created_at = now()`,
		`DELETE FROM billing.subscriptions`, `TRUNCATE billing.subscriptions`, `UPDATE billing.plans SET version = 2`,
		`DELETE FROM billing.plans`, `TRUNCATE billing.plans`, `DELETE FROM billing.retired_plans`,
	} {
		refused(f.work, statement)
	}
	for _, statement := range []string{
		`UPDATE billing.subscriptions SET plan = ''`, `UPDATE billing.subscriptions SET status = 'none'`,
		`UPDATE billing.subscriptions SET version = 1`, `UPDATE billing.subscriptions SET cancel_at_end = true`,
		`UPDATE billing.subscriptions SET next_plan = 'pro'`,
	} {
		_, err := f.work.Exec(t.Context(), statement)
		require.ErrorContains(t, err, "check constraint")
	}
}

// Subscriptions that were there before plans were are notes.
func TestSubscriptionsOfBefore(t *testing.T) {
	t.Parallel()
	url := testkit.Postgres(t)
	schema, earlier := migrations.Schema(), fstest.MapFS{}
	for _, name := range []string{"0001_ledger.sql", "0002_subscriptions.sql", "0003_lots.sql"} {
		text, err := fs.ReadFile(schema.Migrations, name)
		require.NoError(t, err)
		earlier[name] = &fstest.MapFile{Data: text}
	}
	schema.Migrations = earlier
	require.NoError(t, postgres.Migrate(t.Context(), url, schema))
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `INSERT INTO billing.subscriptions VALUES ('alice', 'pro', 'active', '{leads}', '2026-01-02Z', '2026-01-02Z')`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	w := openWorld(t, url)
	updated := moment(t, "2026-01-02T00:00:00Z")
	got, err := w.Get(t.Context(), "alice")
	require.NoError(t, err)
	require.Equal(t, query.SubscriptionReply{
		CustomerID: "alice", Plan: "pro", Status: query.SubscriptionActive, Features: []string{"leads"}, UpdatedAt: &updated,
	}, got)
	require.Equal(t, query.SubscriptionCancelled, w.cancel(t, false).Status, "a note ends at once")
}
