// Package audittest gives the tests of audit a database with its schema, a NATS server, and events to log.
package audittest

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"  //nolint:depguard // this package is for tests
	"github.com/stretchr/testify/require" //nolint:depguard // this package is for tests

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/testkit" //nolint:depguard // this package is for tests
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/audit/internal/reader"
	"github.com/galley-engine/galley/services/audit/internal/tree"
	"github.com/galley-engine/galley/services/audit/migrations"
)

const (
	patience = 60 * time.Second
	tick     = 10 * time.Millisecond
)

// Env is what a test works with.
type Env struct {
	NATS    *testkit.NATSServer
	Bus     *bus.Bus
	Journal *journal.Journal
	// URL is the database, as superuser.
	URL string
	// DB is a pool of the superuser.
	DB *pgxpool.Pool
	// Key is that of the log.
	Key tree.Key
}

// New makes an environment with the audit schema, in a database of the shared server.
func New(tb testing.TB) *Env {
	tb.Helper()
	return On(tb, testkit.Postgres(tb))
}

// On makes an environment over a database.
func On(tb testing.TB, url string) *Env {
	tb.Helper()
	e := &Env{NATS: testkit.NATS(tb), URL: url}
	require.NoError(tb, postgres.Migrate(tb.Context(), url, migrations.Schema()))
	var err error
	e.Key, err = tree.ParseKey(tree.NewKey())
	require.NoError(tb, err)
	e.DB, err = pgxpool.New(tb.Context(), url)
	require.NoError(tb, err)
	tb.Cleanup(e.DB.Close)
	conn := e.NATS.Conn(tb)
	settings := bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}
	e.Bus, err = bus.New(conn, settings, zerolog.New(zerolog.NewTestWriter(tb)).With().Timestamp().Logger())
	require.NoError(tb, err)
	require.NoError(tb, e.Bus.Provision(tb.Context()))
	e.Journal = journal.New(conn, e.Bus.JS)
	return e
}

// Pool opens a pool that acts as the role; it is closed after the test.
func (e *Env) Pool(tb testing.TB, role string) *pgxpool.Pool {
	tb.Helper()
	config := postgres.PoolConfig{URL: e.URL, Role: role, MaxConns: 5}
	if role == migrations.Reader {
		config.Settings = reader.PoolSettings()
	}
	pool, err := postgres.Open(tb.Context(), config)
	require.NoError(tb, err)
	tb.Cleanup(pool.Close)
	return pool
}

// Start calls run in the background until the test ends or stop is called, which waits for it.
func Start(tb testing.TB, run func(ctx context.Context) error) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			assert.NoError(tb, <-done)
		}
	}
	tb.Cleanup(stop)
	return stop
}

// Execute puts the journals of executions first to first+n-1 of the customer into the stream and returns the ids of the events
// that must be logged.
func (e *Env) Execute(tb testing.TB, customer string, first, n int) []string {
	tb.Helper()
	var ids []string
	expect := make([]uint64, n)
	for _, kind := range []event.Kind{event.Accepted, event.Funded, event.Step, event.Completed} {
		entries := make([]journal.Entry, n)
		for i := range entries {
			entries[i] = Entry(customer, fmt.Sprintf("%s-%06d", customer, first+i), kind, expect[i])
			if kind != event.Step {
				ids = append(ids, entries[i].ID())
			}
		}
		for i, result := range e.Journal.Append(tb.Context(), entries...) {
			require.NoError(tb, result.Err)
			expect[i] = result.Sequence
		}
	}
	return ids
}

// Entry is an event of an execution's journal, as the services append it.
func Entry(customer, execution string, kind event.Kind, expect uint64) journal.Entry {
	header := nats.Header{}
	header.Set(event.HeaderActor, "api_key:key_1")
	header.Set(event.HeaderCredits, "80000")
	header.Set(event.HeaderTraceParent, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	entry := journal.Entry{
		Execution: subject.Execution{Customer: customer, ID: execution}, Kind: kind, Expect: expect, Source: "test",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Header: header, Data: []byte(`{"execution_id":"` + execution + `"}`),
	}
	switch kind {
	case event.Completed:
		header.Set(event.HeaderStatus, string(event.StatusSuccess))
	case event.Step:
		entry.Qualifier = "0"
	case event.Accepted, event.Funded, event.Started, event.Waiting:
	}
	return entry
}

// Activity publishes an activity with the id.
func (e *Env) Activity(tb testing.TB, customer, id string) {
	tb.Helper()
	data, err := json.Marshal(event.Activity{
		CustomerID: customer, ActionType: "recipe.published", ResourceType: "recipe", ResourceID: "discovery",
		Actor: event.Actor{Type: "api_key", ID: "key_1"}, Changes: json.RawMessage(`{"after":{"version":1}}`), Outcome: "success",
	})
	require.NoError(tb, err)
	e.Publish(tb, subject.Activity(customer, "recipe.published"), nats.Header{
		event.HeaderID: {id}, event.HeaderType: {event.TypeActivity},
	}, data)
}

// Publish puts a message into whatever stream captures the subject, unguarded.
func (e *Env) Publish(tb testing.TB, name string, header nats.Header, data []byte) {
	tb.Helper()
	_, err := e.Bus.JS.PublishMsg(tb.Context(), &nats.Msg{Subject: name, Header: header, Data: data}, jetstream.WithRetryAttempts(10))
	require.NoError(tb, err)
}

// Log reads the event ids of the whole log, in order. It fails the test when sequences are not 1, 2, 3 and so on to the head.
func (e *Env) Log(tb testing.TB) []string {
	tb.Helper()
	rows, err := e.DB.Query(tb.Context(), `SELECT sequence, event_id FROM audit.events ORDER BY sequence`)
	require.NoError(tb, err)
	var ids []string
	var sequence int64
	var id string
	_, err = pgx.ForEachRow(rows, []any{&sequence, &id}, func() error {
		ids = append(ids, id)
		require.EqualValues(tb, len(ids), sequence)
		return nil
	})
	require.NoError(tb, err)
	require.NoError(tb, e.DB.QueryRow(tb.Context(), `SELECT sequence FROM audit.head`).Scan(&sequence))
	require.EqualValues(tb, len(ids), sequence)
	return ids
}

// Await waits until the log has n rows.
func (e *Env) Await(tb testing.TB, n int) {
	tb.Helper()
	require.Eventually(tb, func() bool { return e.Count(tb) >= n }, patience, tick)
}

// Count is the number of rows of the log, 0 while Postgres is away.
func (e *Env) Count(tb testing.TB) int {
	tb.Helper()
	var count int
	_ = e.DB.QueryRow(tb.Context(), `SELECT count(*) FROM audit.events`).Scan(&count)
	return count
}
