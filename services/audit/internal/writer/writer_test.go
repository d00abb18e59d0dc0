package writer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/leaf"
	"github.com/galley-engine/galley/services/audit/internal/publish"
	"github.com/galley-engine/galley/services/audit/migrations"
	"github.com/galley-engine/galley/services/audit/verify"
)

const (
	patience = 60 * time.Second
	tick     = 5 * time.Millisecond
)

func TestMain(m *testing.M) { testkit.Main(m) }

func newWriter(tb testing.TB, e *audittest.Env) *Writer {
	tb.Helper()
	pool := e.Pool(tb, migrations.Role)
	signer := NewSigner(pool, e.Key, publish.NewNATS(e.Bus), clock.System, zerolog.Nop())
	return New(pool, e.Bus, signer, clock.System, zerolog.Nop())
}

func TestEveryEventOnce(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	want := e.Execute(t, "cust_001", 0, 1200) // more than one batch
	audittest.Start(t, newWriter(t, e).Run)
	e.Await(t, len(want))
	e.Activity(t, "cust_001", "activity-1")
	e.Activity(t, "cust_001", "activity-1") // published twice, as an outbox may
	e.Activity(t, "cust_001", "activity-2")
	e.Await(t, len(want)+2)
	e.Activity(t, "cust_001", "activity-1")
	e.Activity(t, "cust_001", "activity-3")
	e.Await(t, len(want)+3)
	want = append(want, "activity-1", "activity-2", "activity-3")
	assert.ElementsMatch(t, want, e.Log(t))

	var stored, salt, data []byte
	var recorded time.Time
	err := e.DB.QueryRow(t.Context(), `SELECT leaf, recorded_at, salt, data FROM audit.events JOIN audit.payloads USING (sequence)
		WHERE event_id = 'cust_001-000007/funded'`).Scan(&stored, &recorded, &salt, &data)
	require.NoError(t, err)
	made, err := leaf.Parse(stored)
	require.NoError(t, err)
	assert.Equal(t, leaf.ActionDebited, made.Action)
	assert.Equal(t, leaf.Digest(salt, []byte(`{"execution_id":"cust_001-000007"}`)), made.Digest)
	assert.Nil(t, data, "the journal keeps the data")
	assert.WithinDuration(t, time.Now(), recorded, time.Minute)
}

// TestWriterKilledInTransaction ends the session of the writer when it has moved its position and waits for the head.
func TestWriterKilledInTransaction(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	want := e.Execute(t, "cust_001", 0, 100)
	blocker, err := e.DB.Begin(t.Context())
	require.NoError(t, err)
	_, err = blocker.Exec(t.Context(), `SELECT 1 FROM audit.head FOR UPDATE`)
	require.NoError(t, err)
	audittest.Start(t, newWriter(t, e).Run)
	require.Eventually(t, func() bool {
		var killed bool
		err := e.DB.QueryRow(t.Context(), `SELECT bool_or(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = $1 AND wait_event_type = 'Lock'
			HAVING count(*) > 0`, migrations.Role).Scan(&killed)
		return err == nil && killed
	}, patience, tick)
	require.NoError(t, blocker.Rollback(t.Context()))
	e.Await(t, len(want))
	assert.ElementsMatch(t, want, e.Log(t))
}

// TestWritersWithoutLock lets three writers work at the same time, which only the loss of the leader's lock can bring about, while
// sessions are killed at any moment. The fences alone must hold.
func TestWritersWithoutLock(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	for range 3 {
		audittest.Start(t, newWriter(t, e).follow)
	}
	const rounds, executions = 30, 20
	var want []string
	for round := range rounds {
		want = append(want, e.Execute(t, "cust_001", round*executions, executions)...)
		id := fmt.Sprintf("activity-%d", round)
		e.Activity(t, "cust_002", id)
		e.Activity(t, "cust_002", id)
		want = append(want, id)
		if round%3 == 0 {
			_, err := e.DB.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND application_name = $1`, migrations.Role)
			require.NoError(t, err)
		}
	}
	e.Await(t, len(want))
	assert.ElementsMatch(t, want, e.Log(t))
	requireOrder(t, e)
	requireWhole(t, e)
}

// requireWhole verifies the log: nothing in it forks.
func requireWhole(t *testing.T, e *audittest.Env) {
	t.Helper()
	published, err := publish.NewNATS(e.Bus).Published(t.Context())
	require.NoError(t, err)
	options := verify.Options{Key: e.Key.Public}
	if published.Size > 0 {
		options.Published = []string{string(published.Note)}
	}
	report, err := verify.Database(t.Context(), e.DB, options)
	require.NoError(t, err)
	assert.Empty(t, report.Findings)
}

// TestFencedWriterLeavesNoTrace: of two writers that append behind the same leaf one is refused, with its rows, tiles, payloads, position and
// end of the log.
func TestFencedWriterLeavesNoTrace(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	first, second := newWriter(t, e), newWriter(t, e)
	const rows = 300 // more than a tile
	_, err := second.tipFor(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, first.append(t.Context(), subject.StreamExecutions, bus.Place{Key: "first"}, delivered(0, rows)))
	state := func() (text string) {
		const statement = `SELECT concat_ws(' ', (SELECT h FROM audit.head AS h), (SELECT count(*) FROM audit.events), (SELECT count(*) FROM audit.payloads),
			(SELECT string_agg(t::text, ',') FROM audit.tiles AS t), (SELECT string_agg(p::text, ',') FROM audit.positions AS p))`
		require.NoError(t, e.DB.QueryRow(t.Context(), statement).Scan(&text))
		return text
	}
	before := state()
	err = second.append(t.Context(), subject.StreamExecutions, bus.Place{Key: "second"}, delivered(rows, rows))
	require.ErrorIs(t, err, postgres.ErrFenced)
	assert.Equal(t, before, state())
	requireWhole(t, e)

	require.NoError(t, second.append(t.Context(), subject.StreamExecutions, bus.Place{Key: "second"}, delivered(rows, rows)))
	require.ErrorIs(t, first.append(t.Context(), subject.StreamExecutions, bus.Place{Key: "first", Sequence: rows}, delivered(2*rows, rows)),
		postgres.ErrFenced)
	assert.Equal(t, 2*rows, e.Count(t))
	requireWhole(t, e)
}

// requireOrder checks that the rows of each execution stand in the order of its journal.
func requireOrder(t *testing.T, e *audittest.Env) {
	t.Helper()
	var disordered int
	err := e.DB.QueryRow(t.Context(), `
		SELECT count(*) FROM (SELECT string_agg(action_type, ' ' ORDER BY sequence) AS actions FROM audit.events
			WHERE resource_type = 'execution' GROUP BY resource_id) AS execution
		WHERE actions <> 'execution.accepted execution.debited execution.completed'`).Scan(&disordered)
	require.NoError(t, err)
	assert.Zero(t, disordered)
}

func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	stop := audittest.Start(t, newWriter(t, e).Run)
	want := e.Execute(t, "cust_001", 0, 10)
	e.Await(t, len(want))
	audittest.Start(t, newWriter(t, e).Run)
	want = append(want, e.Execute(t, "cust_001", 10, 10)...)
	e.Await(t, len(want))
	stop()
	want = append(want, e.Execute(t, "cust_001", 20, 10)...)
	e.Await(t, len(want))
	assert.ElementsMatch(t, want, e.Log(t))
}

func TestStreamMadeAnew(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	want := e.Execute(t, "cust_001", 0, 50)
	stop := audittest.Start(t, newWriter(t, e).Run)
	e.Await(t, len(want))
	stop()

	require.NoError(t, e.Bus.JS.DeleteStream(t.Context(), subject.StreamExecutions))
	require.NoError(t, e.Bus.Provision(t.Context()))
	e.Execute(t, "cust_001", 10, 10)                         // known already
	want = append(want, e.Execute(t, "cust_001", 50, 60)...) // more than the old stream had
	audittest.Start(t, newWriter(t, e).Run)
	e.Await(t, len(want))
	want = append(want, e.Execute(t, "cust_001", 110, 10)...)
	e.Await(t, len(want))
	assert.ElementsMatch(t, want, e.Log(t))
}

// TestStalePosition reads the stream again from its beginning, as after a restored backup of the positions.
func TestStalePosition(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	want := e.Execute(t, "cust_001", 0, 50)
	stop := audittest.Start(t, newWriter(t, e).Run)
	e.Await(t, len(want))
	stop()
	_, err := e.DB.Exec(t.Context(), `UPDATE audit.positions SET sequence = 3`)
	require.NoError(t, err)
	want = append(want, e.Execute(t, "cust_001", 50, 1)...)
	audittest.Start(t, newWriter(t, e).Run)
	e.Await(t, len(want))
	assert.ElementsMatch(t, want, e.Log(t))
}

func TestMalformedEventsAreLogged(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	good := e.Execute(t, "cust_001", 0, 1)
	bad := []string{
		"galley.execution.00.cust_001.e1.accepted", "galley.execution.a.b.c.completed", "galley.execution.00.\xff\x01.e1.funded",
		"galley.activity.cust_001.recipe.published", "galley.activity.x", "galley.run.rejected.cust_001",
	}
	for _, name := range bad {
		e.Publish(t, name, nats.Header{event.HeaderID: {"\x7f"}}, []byte("\x00 not JSON \xff"))
		e.Publish(t, name, nil, nil)
	}
	good = append(good, e.Execute(t, "cust_001", 1, 1)...)
	e.Activity(t, "cust_001", "activity-1")
	good = append(good, "activity-1")
	audittest.Start(t, newWriter(t, e).Run)
	e.Await(t, len(good)+2*len(bad))
	var found []string
	for _, id := range e.Log(t) {
		if !strings.HasPrefix(id, "EXECUTIONS/") && !strings.HasPrefix(id, "ACTIVITY/") {
			found = append(found, id)
		}
	}
	assert.ElementsMatch(t, good, found)
	var logged int
	err := e.DB.QueryRow(t.Context(), `SELECT count(*) FROM audit.events JOIN audit.payloads USING (sequence) WHERE action_type = $1
		AND event_id LIKE resource_id || '/%' AND convert_from(data, 'UTF8')::jsonb->>'reason' <> ''`, leaf.ActionMalformed).Scan(&logged)
	require.NoError(t, err)
	assert.Equal(t, 2*len(bad), logged)
}

// TestDamagedHead: the log rather stops than gives a sequence twice.
func TestDamagedHead(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	want := e.Execute(t, "cust_001", 0, 10)
	stop := audittest.Start(t, newWriter(t, e).Run)
	e.Await(t, len(want))
	stop()
	_, err := e.DB.Exec(t.Context(), `UPDATE audit.head SET sequence = 3, tree_size = 3`)
	require.NoError(t, err)
	writer := newWriter(t, e)
	var after bus.Place
	err = e.DB.QueryRow(t.Context(), `SELECT name, sequence FROM audit.positions WHERE name LIKE 'EXECUTIONS@%'`).
		Scan(&after.Key, &after.Sequence)
	require.NoError(t, err)
	err = writer.store(t.Context(), after, after.Sequence+1, []entry{{leaf: leaf.Leaf{EventID: "x"}}})
	require.ErrorContains(t, err, "the stored edge is not that of a tree")
	assert.False(t, repeatsEvent(err))
	assert.Len(t, want, e.Count(t))
}
