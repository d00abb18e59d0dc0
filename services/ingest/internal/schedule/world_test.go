package schedule

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
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
	"github.com/galley-engine/galley/services/ingest/internal/reply"
	"github.com/galley-engine/galley/services/ingest/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const document = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: cook, id: soup}
spec:
  input: {type: object, required: [litres], properties: {litres: {type: integer}}, additionalProperties: false}
  steps:
    - {id: boil, uses: state.set, with: {pot: "${input.litres}"}}
`

// shelf is a catalogue of one recipe, which may be taken away.
type shelf struct {
	pinned *catalogue.Pinned
	gone   atomic.Bool
}

func (s *shelf) Resolve(_ context.Context, _, agent, id string, _ int) (*catalogue.Pinned, error) {
	if agent != "cook" || id != "soup" || s.gone.Load() {
		return nil, &problem.Error{Code: problem.NotFound, Message: "no such recipe"}
	}
	return s.pinned, nil
}

type nothing struct{}

func (nothing) Completed(context.Context, []subject.Execution) (map[string]accept.Outcome, error) {
	return nil, nil
}

// world is a NATS server with processes that start schedules.
type world struct {
	nats  *testkit.NATSServer
	bus   *bus.Bus
	clock *testkit.Clock
	shelf *shelf
}

var begin = time.Date(2027, 3, 14, 5, 0, 30, 0, time.UTC) //nolint:gochecknoglobals // a constant; long after the server's own time

func newWorld(t *testing.T) *world {
	t.Helper()
	compiler, err := recipe.NewCompiler()
	require.NoError(t, err)
	compiled, err := compiler.Load([]byte(document))
	require.NoError(t, err)
	w := &world{
		nats: testkit.NATS(t), clock: testkit.NewClock(begin), shelf: &shelf{pinned: &catalogue.Pinned{Recipe: compiled, Version: 1}},
	}
	w.bus = w.connect(t)
	require.NoError(t, w.bus.Provision(t.Context()))
	return w
}

func (w *world) connect(t *testing.T) *bus.Bus {
	t.Helper()
	messages, err := bus.New(w.nats.Conn(t), bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	return messages
}

func (w *world) acceptor(messages *bus.Bus, now clock.Clock) *accept.Acceptor {
	executions := journal.New(messages.Conn, messages.JS)
	return accept.New(w.shelf, nothing{}, messages, executions, reply.New(messages.Conn, executions), now)
}

func (w *world) starter(t *testing.T, now clock.Clock) *Starter {
	t.Helper()
	messages := w.connect(t)
	return NewStarter(StarterDeps{
		Bus: messages, Acceptor: w.acceptor(messages, now), Journal: journal.New(messages.Conn, messages.JS), AckWait: 5 * time.Second,
		Clock: now,
	})
}

// run runs a starter until the test ends or the function that it returns is called.
func (w *world) run(t *testing.T, now clock.Clock) (stop func()) {
	t.Helper()
	s := w.starter(t, now)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx); close(done) }()
	stop = func() { cancel(); assert.NoError(t, <-done) }
	t.Cleanup(stop)
	return stop
}

// store is a Store over a database of its own.
func (w *world) store(t *testing.T) (*Store, *pgxpool.Pool) {
	t.Helper()
	url := testkit.Postgres(t)
	require.NoError(t, postgres.Migrate(t.Context(), url, migrations.Schema()))
	open := func(role string) *pgxpool.Pool {
		pool, err := postgres.Open(t.Context(), postgres.PoolConfig{URL: url, Role: role, MaxConns: 8})
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return pool
	}
	batch := open(migrations.Role)
	return NewStore(StoreDeps{
		Pool: open(migrations.Reader), Bus: w.bus, Outbox: outbox.New(batch, w.bus.JS, "ingest", zerolog.Nop()),
		Checker: w.acceptor(w.bus, w.clock.Now), Clock: w.clock.Now,
	}), batch
}

func (w *world) bucket(t *testing.T) bucket {
	t.Helper()
	schedules, err := openBucket(t.Context(), w.bus.JS)
	require.NoError(t, err)
	return schedules
}

func (w *world) get(t *testing.T, id string) stored {
	t.Helper()
	found, known, err := w.bucket(t).get(t.Context(), "alice", id)
	require.NoError(t, err)
	require.True(t, known)
	return found
}

// put stores a schedule of alice's as it would be when it was just made.
func (w *world) put(t *testing.T, id string, now time.Time, plan Plan) stored {
	t.Helper()
	plan.AgentID, plan.RecipeID, plan.Input = "cook", "soup", json.RawMessage(`{"litres":2}`)
	plan.complete()
	require.NoError(t, plan.validate())
	next, err := plan.next(now)
	require.NoError(t, err)
	made := stored{Schedule: Schedule{ScheduleID: id, CustomerID: "alice", Plan: plan, CreatedAt: now, UpdatedAt: now, NextAt: next}}
	require.NoError(t, w.bucket(t).put(t.Context(), &made))
	return made
}

func (w *world) due(t *testing.T, id string) {
	t.Helper()
	require.NoError(t, w.bus.Due(t.Context(), subject.ScheduleDue("alice", id)))
}

// waiting is the number of messages in a stream that match.
func (w *world) waiting(t *testing.T, stream, filter string) (n uint64) {
	t.Helper()
	found, err := w.bus.JS.Stream(t.Context(), stream)
	require.NoError(t, err)
	info, err := found.Info(t.Context(), jetstream.WithSubjectFilter(filter))
	require.NoError(t, err)
	for _, count := range info.State.Subjects {
		n += count
	}
	return n
}

// settle waits until nothing is due any more.
func (w *world) settle(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return w.waiting(t, subject.StreamDelays, subject.AllDueSchedules) == 0 },
		20*time.Second, 5*time.Millisecond)
}

// accepted counts the executions.
func (w *world) accepted(t *testing.T) int {
	t.Helper()
	return int(w.waiting(t, subject.StreamExecutions, subject.ExecutionMilestone(string(event.Accepted)))) //nolint:gosec // a few
}

// finish ends an execution.
func (w *world) finish(t *testing.T, id string) {
	t.Helper()
	executions := journal.New(w.bus.Conn, w.bus.JS)
	execution := subject.Execution{Customer: "alice", ID: id}
	last, err := executions.Last(t.Context(), execution)
	require.NoError(t, err)
	header := journal.NewHeader()
	header.Set(event.HeaderStatus, string(event.StatusSuccess))
	result := executions.Append(t.Context(), journal.Entry{
		Execution: execution, Kind: event.Completed, Expect: last.Sequence, Source: "test", Header: header, Data: []byte(`{}`),
	})
	require.NoError(t, result[0].Err)
}
