package projection_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
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
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/projection"
	"github.com/galley-engine/galley/services/ingest/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type fixture struct {
	*projection.Reader
	bus     *bus.Bus
	journal *journal.Journal
	pool    *pgxpool.Pool
	ids     []string
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
		pool, err := postgres.Open(t.Context(), postgres.PoolConfig{URL: url, Role: role, MaxConns: 4})
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return pool
	}
	f := &fixture{bus: messages, journal: journal.New(conn, messages.JS), pool: open(migrations.Role)}
	f.Reader = projection.NewReader(open(migrations.Reader), f.journal)
	return f
}

func (f *fixture) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- projection.New(f.bus, f.pool, zerolog.Nop()).Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-ended)
		}
	}
	t.Cleanup(stop)
	return stop
}

// write appends an execution's events: accepted, and completed when it has a status.
func (f *fixture) write(t *testing.T, customer string, status event.Status) subject.Execution {
	t.Helper()
	execution := subject.Execution{Customer: customer, ID: uuid.NewString()}
	f.ids = append(f.ids, execution.ID)
	accepted := f.journal.Append(t.Context(), journal.Entry{
		Execution: execution, Kind: event.Accepted, Source: "test", Time: time.Now(), Header: header(), Data: []byte(`{}`),
	})[0]
	require.NoError(t, accepted.Err)
	if status.Terminal() {
		f.end(t, execution, status)
	}
	return execution
}

func header() nats.Header {
	return nats.Header{
		event.HeaderSubject: {"cook/soup/3"}, event.HeaderActor: {"api_key:k1"},
		event.HeaderCredits: {"250000"},
	}
}

// waitForCredits appends what billing does when credits are short.
func (f *fixture) waitForCredits(t *testing.T, execution subject.Execution, until time.Time) {
	t.Helper()
	last, err := f.journal.Last(t.Context(), execution)
	require.NoError(t, err)
	data, err := json.Marshal(event.Checkpoint{Steps: []event.StepOutcome{}, Waits: []event.Wait{{Until: until, Credits: 250_000}}})
	require.NoError(t, err)
	waiting := f.journal.Append(t.Context(), journal.Entry{
		Execution: execution, Kind: event.Waiting, Qualifier: event.WaitingForCredits, Expect: last.Sequence, Source: "test", Time: time.Now(),
		Data: data,
	})[0]
	require.NoError(t, waiting.Err)
}

// end appends the completed event.
func (f *fixture) end(t *testing.T, execution subject.Execution, status event.Status) {
	t.Helper()
	last, err := f.journal.Last(t.Context(), execution)
	require.NoError(t, err)
	ended := header()
	ended[event.HeaderStatus], ended[event.HeaderDuration] = []string{string(status)}, []string{strconv.Itoa(12)}
	completed := f.journal.Append(t.Context(), journal.Entry{
		Execution: execution, Kind: event.Completed, Expect: last.Sequence, Source: "test", Time: time.Now(), Header: ended,
		Data: fmt.Appendf(nil, `{"execution_id":%q}`, execution.ID),
	})[0]
	require.NoError(t, completed.Err)
}

func (f *fixture) stored(t *testing.T) (accepted, ended int) {
	t.Helper()
	require.NoError(t, f.pool.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE status = 'accepted'),
		count(*) FILTER (WHERE status <> 'accepted') FROM ingest.executions`).Scan(&accepted, &ended))
	return accepted, ended
}

func (f *fixture) eventually(t *testing.T, accepted, ended int) {
	t.Helper()
	require.Eventually(t, func() bool {
		a, e := f.stored(t)
		return a == accepted && e == ended
	}, 20*time.Second, 20*time.Millisecond)
}

func TestProjectionFollowsTheJournalAndCanBeRebuilt(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	stop := f.run(t)
	f.write(t, "cust_001", event.StatusSuccess)
	f.write(t, "cust_001", event.StatusAccepted)
	f.eventually(t, 1, 1)
	stop()
	f.write(t, "cust_001", event.StatusFailed)
	f.run(t)
	f.eventually(t, 1, 2)

	forgotten, err := projection.Rebuild(t.Context(), f.pool, f.bus)
	require.NoError(t, err)
	require.Equal(t, int64(3), forgotten)
	f.write(t, "cust_001", event.StatusPartial)
	f.eventually(t, 1, 3)
}

// Reading the journal again from its beginning changes nothing: a row that has ended never goes back.
func TestProjectionIsMonotonic(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	stop := f.run(t)
	execution := f.write(t, "cust_001", event.StatusSuccess)
	f.eventually(t, 0, 1)
	stop()
	_, err := f.pool.Exec(t.Context(), `UPDATE ingest.positions SET sequence = 0`)
	require.NoError(t, err)
	f.run(t)
	f.write(t, "cust_001", event.StatusSuccess)
	f.eventually(t, 0, 2)
	found, known, err := f.Get(t.Context(), execution)
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, event.StatusSuccess, found.Status)
}

func TestGetFindsWhatIsNotProjectedYet(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	accepted := f.write(t, "cust_001", event.StatusAccepted)
	found, known, err := f.Get(t.Context(), accepted)
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, event.StatusAccepted, found.Status)
	body, err := found.Body()
	require.NoError(t, err)
	require.Contains(t, string(body), `"status":"accepted"`)

	until := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.waitForCredits(t, accepted, until)
	found, known, err = f.Get(t.Context(), accepted)
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, event.StatusWaiting, found.Status)
	require.Equal(t, event.Receipt{Quoted: 250_000}, found.Receipt, "nothing is debited yet")
	require.Equal(t, []event.Wait{{Until: until, Credits: 250_000}}, found.Links.Waits)

	ended := f.write(t, "cust_001", event.StatusPartial)
	found, known, err = f.Get(t.Context(), ended)
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, event.StatusPartial, found.Status)
	require.Equal(t, "0.25", found.Charged.String())

	for _, id := range []string{uuid.NewString(), "nonsense", "../x", "*"} {
		_, known, err = f.Get(t.Context(), subject.Execution{Customer: "cust_001", ID: id})
		require.NoError(t, err)
		require.False(t, known, id)
	}
}

func TestCustomersSeeTheirOwn(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.run(t)
	mine := f.write(t, "cust_001", event.StatusSuccess)
	f.write(t, "cust_002", event.StatusSuccess)
	f.eventually(t, 0, 2)
	_, known, err := f.Get(t.Context(), subject.Execution{Customer: "cust_002", ID: mine.ID})
	require.NoError(t, err)
	require.False(t, known)
	page, next, err := f.List(t.Context(), projection.Filter{Customer: "cust_002", Limit: 10})
	require.NoError(t, err)
	require.Nil(t, next)
	require.Len(t, page, 1)
	outcomes, err := f.Completed(t.Context(), []subject.Execution{mine, {Customer: "cust_002", ID: mine.ID}})
	require.NoError(t, err)
	require.Len(t, outcomes, 1)
}

// move appends an event of an executor behind the last one.
func (f *fixture) move(t *testing.T, execution subject.Execution, kind event.Kind) {
	t.Helper()
	last, err := f.journal.Last(t.Context(), execution)
	require.NoError(t, err)
	entry := journal.Entry{Execution: execution, Kind: kind, Expect: last.Sequence, Source: "test", Time: time.Now(), Data: []byte(`{}`)}
	if kind != event.Funded {
		entry.Qualifier = strconv.FormatUint(last.Sequence, 10)
	}
	require.NoError(t, f.journal.Append(t.Context(), entry)[0].Err)
}

// TestListTellsHowTheyStand that have not ended, as each by its id does; and selects by it.
func TestListTellsHowTheyStand(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	stop := f.run(t)
	kinds := map[event.Status][]event.Kind{
		event.StatusAccepted: {}, event.StatusRunning: {event.Funded, event.Waiting, event.Started}, event.StatusWaiting: {event.Funded, event.Waiting},
	}
	want := map[string]event.Status{}
	for range 3 {
		for status, moves := range kinds {
			execution := f.write(t, "cust_001", status)
			for _, kind := range moves {
				f.move(t, execution, kind)
			}
			want[execution.ID] = status
		}
	}
	short := f.write(t, "cust_001", event.StatusAccepted)
	f.waitForCredits(t, short, time.Now().Add(time.Hour))
	want[short.ID] = event.StatusWaiting
	want[f.write(t, "cust_001", event.StatusFailed).ID] = event.StatusFailed
	f.write(t, "cust_002", event.StatusAccepted)
	f.eventually(t, 11, 1)
	stop()
	late := f.write(t, "cust_003", event.StatusAccepted)

	list := func(status event.Status, limit int) map[string]event.Status {
		t.Helper()
		found := map[string]event.Status{}
		filter := projection.Filter{Customer: "cust_001", Status: status, Limit: limit}
		for more := true; more; more = filter.After != nil {
			page, next, err := f.List(t.Context(), filter)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page), limit)
			for _, execution := range page {
				require.NotContains(t, found, execution.ExecutionID)
				found[execution.ExecutionID] = execution.Status
				one, _, err := f.Get(t.Context(), subject.Execution{Customer: "cust_001", ID: execution.ExecutionID})
				require.NoError(t, err)
				require.Equal(t, one.Status, execution.Status)
			}
			filter.After = next
		}
		return found
	}
	for _, limit := range []int{1, 2, 200} {
		require.Equal(t, want, list("", limit))
		for _, status := range []event.Status{event.StatusAccepted, event.StatusRunning, event.StatusWaiting, event.StatusFailed} {
			of := maps.Clone(want)
			maps.DeleteFunc(of, func(_ string, other event.Status) bool { return other != status })
			require.Equal(t, of, list(status, limit), status)
		}
	}

	// What the journal has of an end, and the table not yet.
	f.move(t, short, event.Funded)
	f.end(t, short, event.StatusPartial)
	want[short.ID] = event.StatusPartial
	require.Equal(t, want, list("", 3))
	require.NotContains(t, list(event.StatusWaiting, 3), short.ID)
	page, _, err := f.List(t.Context(), projection.Filter{Customer: "cust_003", Limit: 10})
	require.NoError(t, err)
	require.Empty(t, page, "%s is not projected", late.ID)

	// What the journal has lost.
	require.NoError(t, f.bus.JS.DeleteStream(t.Context(), subject.StreamExecutions))
	require.NoError(t, f.bus.Provision(t.Context()))
	for id, status := range want {
		if !status.Terminal() || id == short.ID {
			want[id] = event.StatusAccepted
		}
	}
	listed, _, err := f.List(t.Context(), projection.Filter{Customer: "cust_001", Limit: 100})
	require.NoError(t, err)
	for _, execution := range listed {
		require.Equal(t, want[execution.ExecutionID], execution.Status)
	}
}

// TestSeekingIsBounded: among many that do not wait, a page may be empty and yet not be the last.
func TestSeekingIsBounded(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	_, err := f.pool.Exec(t.Context(), `INSERT INTO ingest.executions
		(execution_id, customer_id, agent_id, recipe_id, recipe_version, status, accepted_at)
		SELECT gen_random_uuid(), 'cust_001', 'cook', 'soup', 1, 'accepted', now() - i * interval '1 second' FROM generate_series(1, 501) AS i`)
	require.NoError(t, err)
	filter := projection.Filter{Customer: "cust_001", Status: event.StatusWaiting, Limit: 10}
	page, next, err := f.List(t.Context(), filter)
	require.NoError(t, err)
	require.Empty(t, page)
	require.NotNil(t, next)
	filter.After = next
	page, next, err = f.List(t.Context(), filter)
	require.NoError(t, err)
	require.Empty(t, page)
	require.Nil(t, next)
	filter = projection.Filter{Customer: "cust_001", Status: event.StatusAccepted, Limit: 200}
	var sizes []int
	for more := true; more; more = filter.After != nil {
		page, filter.After, err = f.List(t.Context(), filter)
		require.NoError(t, err)
		sizes = append(sizes, len(page))
	}
	require.Equal(t, []int{200, 200, 101}, sizes)
}

func TestListPages(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.run(t)
	for range 5 {
		f.write(t, "cust_001", event.StatusSuccess)
	}
	f.write(t, "cust_001", event.StatusFailed)
	f.eventually(t, 0, 6)
	filter := projection.Filter{Customer: "cust_001", Recipe: "soup", Status: event.StatusSuccess, Limit: 2}
	var seen []string
	for range 5 {
		page, next, err := f.List(t.Context(), filter)
		require.NoError(t, err)
		for _, execution := range page {
			seen = append([]string{execution.ExecutionID}, seen...)
		}
		if filter.After = next; next == nil {
			break
		}
	}
	require.Equal(t, f.ids[:5], seen)
}
