package control_test

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
	"github.com/galley-engine/galley/services/ingest/internal/control"
	"github.com/galley-engine/galley/services/ingest/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// shelf has the versions of one recipe, cook/soup.
type shelf map[int]*recipe.Recipe

func (s shelf) Resolve(_ context.Context, _, _, _ string, version int) (*catalogue.Pinned, error) {
	if found := s[version]; found != nil {
		return &catalogue.Pinned{Recipe: found, Version: version}, nil
	}
	return nil, &problem.Error{Code: problem.NotFound, Message: "no such version"}
}

// past is what the projection knows.
type past map[string]bool

func (p past) Completed(_ context.Context, executions []subject.Execution) (map[string]accept.Outcome, error) {
	found := map[string]accept.Outcome{}
	for _, execution := range executions {
		if p[execution.ID] {
			found[execution.ID] = accept.Outcome{ExecutionID: execution.ID}
		}
	}
	return found, nil
}

type fixture struct {
	*control.Controller
	bus     *bus.Bus
	journal *journal.Journal
	admin   *pgxpool.Pool
	shelf   shelf
	past    past
	clock   *testkit.Clock
}

func setUp(t *testing.T) *fixture {
	t.Helper()
	conn := testkit.NATS(t).Conn(t)
	messages, err := bus.New(conn, bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	require.NoError(t, messages.Provision(t.Context()))
	url := testkit.Postgres(t)
	require.NoError(t, postgres.Migrate(t.Context(), url, migrations.Schema()))
	open := func(role string) *pgxpool.Pool {
		pool, err := postgres.Open(t.Context(), postgres.PoolConfig{URL: url, Role: role, MaxConns: 8})
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return pool
	}
	f := &fixture{
		bus: messages, journal: journal.New(conn, messages.JS), admin: open("postgres"), shelf: shelf{}, past: past{},
		clock: testkit.NewClock(time.Now().UTC().Truncate(time.Millisecond)),
	}
	f.Controller = control.New(control.Deps{
		Journal: f.journal, Bus: messages, Catalogue: f.shelf, History: f.past, Pool: open(migrations.Reader),
		Outbox: outbox.New(open(migrations.Role), messages.JS, "ingest", zerolog.Nop()), Clock: f.clock.Now, Log: zerolog.Nop(),
	})
	return f
}

var alice = control.Author{Actor: event.Actor{Type: "api_key", ID: "key_1"}, Trace: trace} //nolint:gochecknoglobals // a constant

const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// script writes the journal of one execution.
type script struct {
	*fixture
	execution subject.Execution
	sequence  uint64
	events    int
}

func (f *fixture) accept(t *testing.T, request event.Request, headers ...string) *script {
	t.Helper()
	s := &script{fixture: f, execution: subject.Execution{Customer: "alice", ID: uuid.Must(uuid.NewV7()).String()}}
	request.ExecutionID, request.CustomerID, request.AgentID, request.RecipeID = s.execution.ID, "alice", "cook", "soup"
	request.RecipeVersion, request.Input = 1, json.RawMessage(`{"litres":2}`)
	header := nats.Header{
		event.HeaderSubject: {"cook/soup/1"}, event.HeaderActor: {"producer:alice"}, event.HeaderCredits: {"900000"},
		event.HeaderTraceParent: {trace},
	}
	for pair := range slices.Chunk(headers, 2) {
		header.Set(pair[0], pair[1])
	}
	return s.append(t, event.Accepted, "", header, request)
}

func (s *script) append(t *testing.T, kind event.Kind, number string, header nats.Header, data any) *script {
	t.Helper()
	encoded, err := json.Marshal(data)
	require.NoError(t, err)
	result := s.journal.Append(context.WithoutCancel(t.Context()), journal.Entry{
		Execution: s.execution, Kind: kind, Qualifier: number, Expect: s.sequence, Source: "test", Time: s.clock.Now(), Header: header,
		Data: encoded,
	})[0]
	require.NoError(t, result.Err)
	s.sequence = result.Sequence
	return s
}

func (s *script) checkpoint(t *testing.T, kind event.Kind, checkpoint event.Checkpoint) *script {
	t.Helper()
	s.events++
	checkpoint.ExecutionID, checkpoint.Delivery = s.execution.ID, 1
	checkpoint.StartedAt = s.clock.Now().Add(-1500 * time.Millisecond)
	return s.append(t, kind, strconv.Itoa(s.events), nats.Header{}, checkpoint)
}

// end completes it; failed names the step that failed, if any.
func (s *script) end(t *testing.T, status event.Status, failed string) *script {
	t.Helper()
	response := event.Response{Status: status, Data: json.RawMessage("null")}
	header := nats.Header{event.HeaderStatus: {string(status)}}
	if status == event.StatusFailed {
		response.Errors = []problem.Error{{Code: problem.Upstream5xx, Step: failed}}
	}
	return s.append(t, event.Completed, "", header, response)
}

func step(id string, status event.StepStatus, price int64) event.StepOutcome {
	return event.StepOutcome{StepSummary: event.StepSummary{ID: id, Status: status, Attempts: 1, Credits: micro(price)}, Output: "output of " + id}
}

// codeOf is the code of an error that a caller sees.
func codeOf(t *testing.T, err error) problem.Code {
	t.Helper()
	var refused *problem.Error
	require.ErrorAs(t, err, &refused)
	return refused.Code
}

// activities are those in the outbox, as "<subject> <actor> <changes>".
func (f *fixture) activities(t *testing.T) []string {
	t.Helper()
	rows, err := f.admin.Query(t.Context(), `SELECT subject, header->>'ce-actor', convert_from(data, 'UTF8')::jsonb->>'changes' FROM ingest.outbox ORDER BY id`)
	require.NoError(t, err)
	defer rows.Close()
	found := []string{}
	for rows.Next() {
		var name, actor, changes string
		require.NoError(t, rows.Scan(&name, &actor, &changes))
		found = append(found, name+" "+actor+" "+changes)
	}
	require.NoError(t, rows.Err())
	return found
}

// kinds are those of the events in an execution's journal.
func (f *fixture) kinds(t *testing.T, execution subject.Execution) []event.Kind {
	t.Helper()
	var found []event.Kind
	for record, err := range f.journal.Events(t.Context(), execution) {
		require.NoError(t, err)
		found = append(found, record.Kind)
	}
	return found
}

// messages subscribes to a subject.
func (f *fixture) messages(t *testing.T, name string) *nats.Subscription {
	t.Helper()
	subscription, err := f.bus.Conn.SubscribeSync(name)
	require.NoError(t, err)
	t.Cleanup(func() { _ = subscription.Unsubscribe() })
	return subscription
}

// came waits for one message.
func came(t *testing.T, subscription *nats.Subscription) *nats.Msg {
	t.Helper()
	message, err := subscription.NextMsg(10 * time.Second)
	require.NoError(t, err)
	return message
}
