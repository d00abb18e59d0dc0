// Package postgres_test tries pkg/postgres and pkg/outbox on a real server.
package postgres_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const migration = `-- +goose Up
CREATE TABLE pantry.positions (name text PRIMARY KEY, sequence bigint NOT NULL);
CREATE TABLE pantry.jars (customer_id text NOT NULL, name text NOT NULL);
CREATE TABLE pantry.outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, subject text NOT NULL, header jsonb NOT NULL, data bytea NOT NULL);
ALTER TABLE pantry.jars ENABLE ROW LEVEL SECURITY;
ALTER TABLE pantry.jars FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON pantry.jars TO galley_pantry
    USING (customer_id = current_setting('app.customer', true) OR current_setting('app.customer', true) = '*');
GRANT USAGE ON SCHEMA pantry TO galley_pantry;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pantry TO galley_pantry;
-- +goose Down
DROP TABLE pantry.jars, pantry.positions, pantry.outbox;
`

func pantry(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool, _ := pantryAndOwner(t)
	return pool
}

// pantryAndOwner also gives a pool of the database's owner.
func pantryAndOwner(t *testing.T) (pool, owner *pgxpool.Pool) {
	t.Helper()
	url := testkit.Postgres(t)
	schema := postgres.Schema{
		Name: "pantry", Roles: []string{"galley_pantry"}, LockID: 99,
		Migrations: fstest.MapFS{"0001_pantry.sql": {Data: []byte(migration)}},
	}
	// Four processes start at once.
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() { require.NoError(t, postgres.Migrate(t.Context(), url, schema)) })
	}
	group.Wait()
	pool, err := postgres.Open(t.Context(), postgres.PoolConfig{URL: url, Role: "galley_pantry", MaxConns: 8})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	owner, err = pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(owner.Close)
	return pool, owner
}

func TestQueriesSeeOneCustomer(t *testing.T) {
	t.Parallel()
	pool := pantry(t)
	for _, customer := range []string{"a", "b"} {
		require.NoError(t, postgres.Transact(t.Context(), pool, customer, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `INSERT INTO pantry.jars VALUES ($1, 'jam')`, customer)
			return err
		}))
	}
	count := func(customer string) (n int) {
		require.NoError(t, postgres.Query(t.Context(), pool, customer, func(batch *pgx.Batch) {
			batch.Queue(`SELECT count(*) FROM pantry.jars`).QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
		}))
		return n
	}
	require.Equal(t, 1, count("a"))
	require.Equal(t, 0, count("c"))
	require.Equal(t, 2, count(postgres.EveryCustomer))
	var unlimited int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pantry.jars`).Scan(&unlimited))
	require.Zero(t, unlimited, "a query that names no customer sees nothing")
	err := postgres.Transact(t.Context(), pool, "a", func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `INSERT INTO pantry.jars VALUES ('b', 'theft')`)
		return err
	})
	require.ErrorContains(t, err, "row-level security")
}

func TestAdvanceFencesTheSecondWriter(t *testing.T) {
	t.Parallel()
	pool := pantry(t)
	advance := func(after, sequence uint64) error {
		return pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			return postgres.Advance(t.Context(), tx, "pantry", "shelf", after, sequence)
		})
	}
	require.NoError(t, advance(0, 5))
	require.ErrorIs(t, advance(0, 6), postgres.ErrFenced)
	require.ErrorIs(t, advance(4, 6), postgres.ErrFenced)
	require.NoError(t, advance(5, 9))
	position, err := postgres.Position(t.Context(), pool, "pantry", "shelf")
	require.NoError(t, err)
	require.Equal(t, uint64(9), position)

	var succeeded atomic.Int32
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			if advance(9, 10) == nil {
				succeeded.Add(1)
			}
		})
	}
	group.Wait()
	require.Equal(t, int32(1), succeeded.Load())
}

func TestLeadPassesToTheNextWhenTheSessionDies(t *testing.T) {
	t.Parallel()
	pool, owner := pantryAndOwner(t)
	var leaders atomic.Int32
	terms := make(chan int, 16)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for n := range 3 {
		group.Go(func() {
			_ = postgres.Lead(ctx, pool, 4711, func(error) {}, func(ctx context.Context) error {
				terms <- n
				leaders.Add(1)
				<-ctx.Done()
				leaders.Add(-1)
				return nil
			})
		})
	}
	<-terms
	require.Equal(t, int32(1), leaders.Load())
	var killed bool
	require.NoError(t, owner.QueryRow(t.Context(), `SELECT bool_or(pg_terminate_backend(pid)) FROM pg_locks
		WHERE locktype = 'advisory' AND objid = 4711 AND granted
		  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&killed))
	require.True(t, killed)
	select {
	case <-terms:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody took over")
	}
	cancel()
	group.Wait()
}

func TestOutboxPublishesWhatWasCommittedInOrder(t *testing.T) {
	t.Parallel()
	pool := pantry(t)
	server := testkit.NATS(t)
	messages, err := bus.New(server.Conn(t), bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	require.NoError(t, messages.Provision(t.Context()))
	box := outbox.New(pool, messages.JS, "pantry", zerolog.Nop())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- box.Run(ctx) }()
	for n := range 10 {
		err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			activity := event.Activity{
				CustomerID: "a", ActionType: "jar.filled", ResourceType: "jar", ResourceID: strconv.Itoa(n),
				Actor: event.Actor{Type: "operator", ID: "cook"}, Outcome: "success", OccurredAt: time.Unix(0, 0),
			}
			if err := box.Activity(t.Context(), tx, activity, ""); err != nil {
				return err
			}
			if n%2 == 1 {
				return pgx.ErrTxCommitRollback
			}
			return nil
		})
		require.Equal(t, n%2 == 1, err != nil)
		box.Wake()
	}
	consumer, err := messages.JS.OrderedConsumer(t.Context(), subject.StreamActivity, jetstream.OrderedConsumerConfig{})
	require.NoError(t, err)
	for n := 0; n < 10; n += 2 {
		message, err := consumer.Next(jetstream.FetchMaxWait(20 * time.Second))
		require.NoError(t, err)
		require.Equal(t, "galley.activity.a.jar.filled", message.Subject())
		require.Contains(t, string(message.Data()), fmt.Sprintf(`"resource_id":"%d"`, n))
	}
	require.Eventually(t, func() bool {
		left := -1
		err := pool.QueryRow(t.Context(), `SELECT count(*) FROM pantry.outbox`).Scan(&left)
		return err == nil && left == 0
	}, 20*time.Second, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}

func TestArraysArriveAsTheyWere(t *testing.T) {
	t.Parallel()
	pool := pantry(t)
	large := strings.Repeat("ä", 100_000)
	for _, texts := range [][]string{nil, {}, {""}, {"a", "", `{"b",NULL}`, large}} {
		var read []string
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT $1::text[]`, texts).Scan(&read))
		require.Equal(t, texts, read)
	}
	for _, blobs := range [][][]byte{nil, {}, {{}}, {[]byte("a"), nil, {0, 255}, []byte(large)}} {
		var read [][]byte
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT $1::bytea[]`, blobs).Scan(&read))
		require.Equal(t, blobs, read)
	}
	var rows int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM unnest($1::text[], $2::bytea[])`,
		[]string{"a", "b"}, [][]byte{nil, []byte("b")}).Scan(&rows))
	require.Equal(t, 2, rows)
}
