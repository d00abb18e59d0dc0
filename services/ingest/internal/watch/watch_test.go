package watch_test

import (
	"context"
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
	"github.com/galley-engine/galley/services/ingest/internal/watch"
	"github.com/galley-engine/galley/services/ingest/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// soup takes at most three attempts of 30 s and three delays of 20 s: 150 s without an event, and 4 minutes in all.
const soup = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: cook, id: soup}
spec:
  timeout: 4m
  steps:
    - {id: order, uses: action.http, with: {url: "https://shop.example.com/"}}
    - {id: pause, uses: wait.for, with: {duration: 2m}}
`

type shelf struct{ recipe *recipe.Recipe }

func (s shelf) Resolve(_ context.Context, _, agent, _ string, _ int) (*catalogue.Pinned, error) {
	if agent != "cook" {
		return nil, &problem.Error{Code: problem.NotFound, Message: "no such recipe"}
	}
	return &catalogue.Pinned{Recipe: s.recipe, Version: 1}, nil
}

type fixture struct {
	*watch.Watch
	deps    watch.Deps
	bus     *bus.Bus
	journal *journal.Journal
	pool    *pgxpool.Pool
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
	pool, err := postgres.Open(t.Context(), postgres.PoolConfig{URL: url, Role: migrations.Role, MaxConns: 4})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	compiler, err := recipe.NewCompiler()
	require.NoError(t, err)
	compiled, err := compiler.Load([]byte(soup))
	require.NoError(t, err)
	f := &fixture{
		bus: messages, journal: journal.New(conn, messages.JS), pool: pool, clock: testkit.NewClock(time.Now().UTC().Truncate(time.Millisecond)),
	}
	f.deps = watch.Deps{
		Pool: pool, Bus: messages, Journal: f.journal, Recipes: shelf{compiled}, Interval: 10 * time.Millisecond, Clock: f.clock.Now,
		Log: zerolog.Nop(),
	}
	f.Watch = watch.New(f.deps)
	return f
}

// says has a service say that it is ready, or that it is not.
func (f *fixture) says(t *testing.T, service string, ready bool) {
	t.Helper()
	subscription, err := f.bus.Conn.Subscribe(subject.Query(service, query.Ready), func(message *nats.Msg) {
		data, _ := json.Marshal(query.Readiness{Ready: ready})
		_ = message.Respond(data)
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = subscription.Unsubscribe() })
}

// script writes the journal of one execution, by hand.
type script struct {
	*fixture
	execution subject.Execution
	sequence  uint64
	events    int
}

// accept has an execution accepted now, by the journal and in the projection.
func (f *fixture) accept(t *testing.T) *script {
	t.Helper()
	return f.acceptWith(t, nil)
}

// acceptWith adds headers.
func (f *fixture) acceptWith(t *testing.T, headers map[string]string) *script {
	t.Helper()
	s := f.project(t)
	header := nats.Header{event.HeaderSubject: {"cook/soup/1"}, event.HeaderActor: {"api_key:k"}, event.HeaderCredits: {"900000"}}
	for name, value := range headers {
		header.Set(name, value)
	}
	return s.append(t, event.Accepted, header, event.Request{
		ExecutionID: s.execution.ID, CustomerID: s.execution.Customer, AgentID: "cook", RecipeID: "soup", RecipeVersion: 1,
		Input: json.RawMessage(`{}`), AcceptedAt: f.clock.Now(), Deadline: f.clock.Now().Add(bus.MaxExecution),
	})
}

// project has the projection know an execution.
func (f *fixture) project(t *testing.T) *script {
	t.Helper()
	s := &script{fixture: f, execution: subject.Execution{Customer: "alice", ID: uuid.Must(uuid.NewV7()).String()}}
	_, err := f.pool.Exec(t.Context(), `INSERT INTO ingest.executions (execution_id, customer_id, agent_id, recipe_id, recipe_version, status, accepted_at)
		VALUES ($1, $2, 'cook', 'soup', 1, 'accepted', $3)`, s.execution.ID, s.execution.Customer, f.clock.Now())
	require.NoError(t, err)
	return s
}

func (s *script) append(t *testing.T, kind event.Kind, header nats.Header, data any) *script {
	t.Helper()
	encoded, err := json.Marshal(data)
	require.NoError(t, err)
	number := ""
	if kind == event.Started || kind == event.Step || kind == event.Waiting {
		s.events++
		number = strconv.Itoa(s.events)
	}
	result := s.journal.Append(t.Context(), journal.Entry{
		Execution: s.execution, Kind: kind, Qualifier: number, Expect: s.sequence, Source: "test", Time: s.clock.Now(), Header: header, Data: encoded,
	})[0]
	require.NoError(t, result.Err)
	s.sequence = result.Sequence
	return s
}

func (s *script) fund(t *testing.T) *script {
	t.Helper()
	return s.append(t, event.Funded, nats.Header{}, map[string]any{})
}

// checkpoint appends an event with a checkpoint; waits end after these durations from now.
func (s *script) checkpoint(t *testing.T, kind event.Kind, waits ...time.Duration) *script {
	t.Helper()
	checkpoint := event.Checkpoint{ExecutionID: s.execution.ID, Delivery: 1, StartedAt: s.clock.Now(), Steps: []event.StepOutcome{
		{StepSummary: event.StepSummary{ID: "order", Status: event.StepSuccess, Attempts: 1, Credits: 5}},
	}}
	for _, wait := range waits {
		checkpoint.Waits = append(checkpoint.Waits, event.Wait{Step: "pause", Since: s.clock.Now(), Until: s.clock.Now().Add(wait)})
	}
	return s.append(t, kind, nats.Header{}, checkpoint)
}

// short has billing say that the execution waits for credits.
func (s *script) short(t *testing.T, wait time.Duration) *script {
	t.Helper()
	data, err := json.Marshal(event.Checkpoint{
		ExecutionID: s.execution.ID, StartedAt: s.clock.Now(), Steps: []event.StepOutcome{},
		Waits: []event.Wait{{Since: s.clock.Now(), Until: s.clock.Now().Add(wait), Credits: 900_000}},
	})
	require.NoError(t, err)
	result := s.journal.Append(t.Context(), journal.Entry{
		Execution: s.execution, Kind: event.Waiting, Qualifier: event.WaitingForCredits, Expect: s.sequence, Source: "test", Time: s.clock.Now(),
		Data: data,
	})[0]
	require.NoError(t, result.Err)
	s.sequence = result.Sequence
	return s
}

// TestKinds has each execution found when it is stuck, how, and not before.
func TestKinds(t *testing.T) {
	t.Parallel()
	far := 24 * time.Hour
	tests := map[string]struct {
		write func(t *testing.T, f *fixture) *script
		kind  watch.Kind
		after time.Duration
	}{
		"accepted": {func(t *testing.T, f *fixture) *script { return f.accept(t) }, watch.Unfunded, time.Minute},
		"funded":   {func(t *testing.T, f *fixture) *script { return f.accept(t).fund(t) }, watch.Silent, 210 * time.Second},
		"started": {func(t *testing.T, f *fixture) *script {
			return f.accept(t).fund(t).checkpoint(t, event.Started)
		}, watch.Silent, 210 * time.Second},
		"between steps": {func(t *testing.T, f *fixture) *script {
			return f.accept(t).fund(t).checkpoint(t, event.Step)
		}, watch.Silent, 210 * time.Second},
		"waits": {func(t *testing.T, f *fixture) *script {
			return f.accept(t).fund(t).checkpoint(t, event.Waiting, 2*time.Minute, 100*time.Second)
		}, watch.Asleep, 160 * time.Second},
		"waits longer than the recipe": {func(t *testing.T, f *fixture) *script {
			return f.accept(t).fund(t).checkpoint(t, event.Waiting, far)
		}, watch.Asleep, 5 * time.Minute},
		"waits for a child": {func(t *testing.T, f *fixture) *script {
			s := f.accept(t).fund(t)
			until := f.clock.Now().Add(far)
			return s.append(t, event.Waiting, nats.Header{}, event.Checkpoint{
				StartedAt: f.clock.Now(), Waits: []event.Wait{{Step: "pause", Execution: uuid.NewString(), Until: until}},
			})
		}, watch.Asleep, 2 * time.Minute},
		"waits for a slot": {func(t *testing.T, f *fixture) *script {
			s := f.accept(t).fund(t)
			until := f.clock.Now().Add(far)
			return s.append(t, event.Waiting, nats.Header{}, event.Checkpoint{
				StartedAt: f.clock.Now(), Waits: []event.Wait{{Slot: event.SlotRecipe, Until: until}},
			})
		}, watch.Asleep, 6 * time.Minute},
		"waits for credits": {func(t *testing.T, f *fixture) *script {
			return f.accept(t).short(t, 3*time.Hour)
		}, watch.Unfunded, 3*time.Hour + time.Minute},
		"not in the journal": {func(t *testing.T, f *fixture) *script { return f.project(t) }, watch.Lost, time.Minute},
	}
	f := setUp(t)
	f.says(t, query.ServiceBilling, true)
	begin := f.clock.Now()
	scripts := map[string]*script{}
	for name, test := range tests {
		scripts[name] = test.write(t, f)
	}
	found := func(at time.Duration) map[string]watch.Kind {
		f.clock.Set(begin.Add(at))
		findings, next, err := f.Look(t.Context(), nil, watch.MaxLook)
		require.NoError(t, err)
		require.Nil(t, next)
		kinds := map[string]watch.Kind{}
		for _, finding := range findings {
			kinds[finding.ExecutionID] = finding.Kind
		}
		return kinds
	}
	for name, test := range tests {
		id := scripts[name].execution.ID
		require.Empty(t, found(test.after - 5*time.Second)[id], name)
		require.Equal(t, test.kind, found(test.after + 5*time.Second)[id], name)
		require.Equal(t, watchedAtTheEnd(test.kind), found(far + 2*time.Minute)[id], name)
	}
}

// watchedAtTheEnd is what becomes of a kind when the deadline is over, too.
func watchedAtTheEnd(kind watch.Kind) watch.Kind {
	if kind == watch.Lost {
		return kind
	}
	return watch.Overdue
}

func TestNotStuck(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.says(t, query.ServiceBilling, false)
	f.accept(t) // billing is not there
	f.accept(t).fund(t).append(t, event.Completed, nats.Header{}, event.Response{})
	ended := f.accept(t)
	_, err := f.pool.Exec(t.Context(), `UPDATE ingest.executions SET completed_at = accepted_at, status = 'failed' WHERE execution_id = $1`,
		ended.execution.ID)
	require.NoError(t, err)
	f.clock.Advance(time.Hour)
	f.accept(t).fund(t) // just begun
	findings, next, err := f.Look(t.Context(), nil, watch.MaxLook)
	require.NoError(t, err)
	require.Empty(t, findings)
	require.Nil(t, next)
}

func TestLookGoesOn(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	var want, got []string
	for range 5 {
		want = append(want, f.project(t).execution.ID)
		f.clock.Advance(time.Millisecond)
	}
	f.clock.Advance(time.Hour)
	var place *watch.Place
	for range 3 {
		findings, next, err := f.Look(t.Context(), place, 2)
		require.NoError(t, err)
		for _, finding := range findings {
			got = append(got, finding.ExecutionID)
		}
		place = next
	}
	require.Equal(t, want, got)
	require.Nil(t, place)
}

// TestShortOfCreditsAtTheDeadline: nobody is there to say that credits did not come.
func TestShortOfCreditsAtTheDeadline(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	s := f.accept(t).short(t, time.Hour)
	f.clock.Advance(bus.MaxExecution + 2*time.Minute)
	f.run(t)
	require.Eventually(t, func() bool {
		last, err := f.journal.Last(t.Context(), s.execution)
		return err == nil && last.Kind == event.Completed && last.Header.Get(event.HeaderCode) == string(problem.InsufficientCredits)
	}, patience, time.Millisecond)
}

// run has the watch look again and again until the test ends.
func (f *fixture) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
}

const patience = 30 * time.Second

// TestOverdueIsEnded, once, and everybody is told.
func TestOverdueIsEnded(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	subscribe := func(name string) *nats.Subscription {
		subscription, err := f.bus.Conn.SubscribeSync(name)
		require.NoError(t, err)
		return subscription
	}
	reply := subscribe("test.reply")
	parent := subject.Execution{Customer: "alice", ID: uuid.NewString()}
	s := f.acceptWith(t, map[string]string{event.HeaderReply: "test.reply", event.HeaderParent: parent.Due()}).fund(t).checkpoint(t, event.Step)
	notice, woken := subscribe(s.execution.Notify()), subscribe(parent.Due())
	f.clock.Advance(bus.MaxExecution + 2*time.Minute)
	f.run(t)
	message, err := reply.NextMsg(patience)
	require.NoError(t, err)
	for _, subscription := range []*nats.Subscription{notice, woken} {
		_, err = subscription.NextMsg(patience)
		require.NoError(t, err)
	}
	last, err := f.journal.Last(t.Context(), s.execution)
	require.NoError(t, err)
	require.Equal(t, event.Completed, last.Kind)
	require.Equal(t, message.Data, last.Data)
	for name, want := range map[string]string{
		event.HeaderStatus: "failed", event.HeaderCode: "TIMEOUT", event.HeaderCredits: "0", event.HeaderSubject: "cook/soup/1",
		event.HeaderActor: "service:ingest",
	} {
		require.Equal(t, want, last.Header.Get(name), name)
	}
	var response event.Response
	require.NoError(t, json.Unmarshal(last.Data, &response))
	require.Equal(t, []event.StepSummary{{ID: "order", Status: event.StepSuccess, Attempts: 1}}, response.Metadata.Steps)
	require.Equal(t, problem.Timeout, response.Errors[0].Code)
	findings, _, err := f.Look(t.Context(), nil, watch.MaxLook)
	require.NoError(t, err)
	require.Empty(t, findings)
}

// TestAsleepIsWoken by the call that was lost.
func TestAsleepIsWoken(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.says(t, query.ServiceExecutor, true)
	s := f.accept(t).fund(t).checkpoint(t, event.Waiting, 10*time.Second)
	f.clock.Advance(time.Minute + 15*time.Second)
	f.run(t)
	stream, err := f.bus.JS.Stream(t.Context(), subject.StreamDelays)
	require.NoError(t, err)
	var call *jetstream.RawStreamMsg
	require.Eventually(t, func() bool {
		call, err = stream.GetLastMsgForSubject(t.Context(), s.execution.Due())
		return err == nil
	}, patience, 10*time.Millisecond)
	require.Empty(t, call.Data)
}
