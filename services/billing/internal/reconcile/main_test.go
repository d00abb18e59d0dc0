package reconcile_test

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing/internal/consumer"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/internal/reconcile"
	"github.com/galley-engine/galley/services/billing/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	customer = "cust_1"
	patience = 30 * time.Second
)

// site is a place where billing works, with what stands for the other services. Its clock stands still until a test moves it.
type site struct {
	url     string
	bus     *bus.Bus
	journal *journal.Journal
	ledger  *ledger.Ledger
	outbox  *outbox.Outbox
	work    *pgxpool.Pool
	read    *pgxpool.Pool
	clock   *testkit.Clock
}

func newSite(t *testing.T) *site {
	t.Helper()
	url := testkit.Postgres(t)
	require.NoError(t, postgres.Migrate(t.Context(), url, migrations.Schema()))
	open := func(role string, settings map[string]string) *pgxpool.Pool {
		pool, err := postgres.Open(t.Context(), postgres.PoolConfig{URL: url, Role: role, MaxConns: 4, Settings: settings})
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return pool
	}
	conn := testkit.NATS(t).Conn(t)
	messages, err := bus.New(conn, bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	require.NoError(t, messages.Provision(t.Context()))
	s := &site{
		url: url, bus: messages, journal: journal.New(conn, messages.JS), work: open(migrations.Role, ledger.PoolSettings()),
		read: open(migrations.Reader, nil), clock: testkit.NewClock(time.Now().UTC().Truncate(time.Millisecond)),
	}
	s.outbox = outbox.New(s.work, messages.JS, query.ServiceBilling, zerolog.Nop())
	s.ledger = ledger.New(s.work, s.outbox, s.clock.Now)
	_, err = s.ledger.Grant(t.Context(), query.GrantRequest{ID: "g", CustomerID: customer, Amount: 1000})
	require.NoError(t, err)
	return s
}

// consume has billing follow the journal, and returns what stops it.
func (s *site) consume(t *testing.T) (stop func()) {
	t.Helper()
	follower := consumer.New(consumer.Deps{
		Bus: s.bus, Journal: s.journal, Ledger: s.ledger, AckWait: 2 * time.Second, Clock: s.clock.Now, Logger: zerolog.Nop(),
	})
	return run(t, follower.Run)
}

// run runs something until it is stopped, or the test ends.
func run(t *testing.T, something func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- something(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return stop
}

func (s *site) source() reconcile.Source {
	return reconcile.Source{Pool: s.read, Bus: s.bus, Journal: s.journal}
}

func (s *site) reconciler(interval time.Duration) *reconcile.Reconciler {
	return reconcile.New(reconcile.Deps{
		Source: s.source(), Work: s.work, Ledger: s.ledger, Outbox: s.outbox, Interval: interval, Clock: s.clock.Now, Log: zerolog.Nop(),
	})
}

func (s *site) compare(t *testing.T) reconcile.Report {
	t.Helper()
	report, err := reconcile.Compare(t.Context(), s.source(), s.clock.Now())
	require.NoError(t, err)
	require.Len(t, report.Drifts, int(report.Found))
	return report
}

// differences are the lines of a comparison.
func (s *site) differences(t *testing.T) []string {
	t.Helper()
	lines := []string{}
	for _, drift := range s.compare(t).Drifts {
		lines = append(lines, drift.String())
	}
	return lines
}

// about is how a difference about an execution begins.
func about(execution subject.Execution) string {
	return "customer " + execution.Customer + ", execution " + execution.ID + ": "
}

func newExecution(t *testing.T) subject.Execution {
	t.Helper()
	id, err := uuid.NewV7()
	require.NoError(t, err)
	return subject.Execution{Customer: customer, ID: id.String()}
}

func (s *site) append(t *testing.T, execution subject.Execution, kind event.Kind, last uint64, amount credit.Micro) uint64 {
	t.Helper()
	header := nats.Header{event.HeaderCredits: {strconv.FormatInt(int64(amount), 10)}, event.HeaderSubject: {"a/r/1"}}
	result := s.journal.Append(t.Context(), journal.Entry{
		Execution: execution, Kind: kind, Expect: last, Source: "test", Time: s.clock.Now(), Header: header, Data: []byte(`{"status":"success"}`),
	})[0]
	require.NoError(t, result.Err)
	return result.Sequence
}

// await waits until the execution's last event is of the kind, and returns its sequence.
func (s *site) await(t *testing.T, execution subject.Execution, kind event.Kind) uint64 {
	t.Helper()
	var last journal.Record
	require.Eventually(t, func() bool {
		var err error
		last, err = s.journal.Last(t.Context(), execution)
		return err == nil && last.Kind == kind
	}, patience, 2*time.Millisecond, "execution %s: no event %s", execution.ID, kind)
	return last.Sequence
}

// awaitAcked waits until billing has acknowledged all of the journal.
func (s *site) awaitAcked(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, name := range []string{"billing-accepted", "billing-completed"} {
			durable, err := s.bus.JS.Consumer(t.Context(), subject.StreamExecutions, name)
			if err != nil || durable.CachedInfo().NumPending > 0 || durable.CachedInfo().NumAckPending > 0 {
				return false
			}
		}
		return true
	}, patience, 2*time.Millisecond, "messages are not acknowledged")
}

// fund has an execution of 10 micro-credits funded by billing.
func (s *site) fund(t *testing.T) (execution subject.Execution, last uint64) {
	t.Helper()
	execution = newExecution(t)
	s.append(t, execution, event.Accepted, 0, 10)
	return execution, s.await(t, execution, event.Funded)
}

// finish has an execution run and settled by billing, for 4 of 10.
func (s *site) finish(t *testing.T) subject.Execution {
	t.Helper()
	execution, last := s.fund(t)
	s.append(t, execution, event.Completed, last, 4)
	s.awaitAcked(t)
	return execution
}

func instruction(execution subject.Execution, action ledger.Action, amount credit.Micro) ledger.Instruction {
	return ledger.Instruction{
		Key: ledger.Key{Customer: execution.Customer, Execution: uuid.MustParse(execution.ID)}, Action: action, Amount: amount,
	}
}

func (s *site) apply(t *testing.T, execution subject.Execution, action ledger.Action, amount credit.Micro) {
	t.Helper()
	_, err := s.ledger.Apply(t.Context(), []ledger.Instruction{instruction(execution, action, amount)})
	require.NoError(t, err)
}

// tamper changes the database as only its owner can.
func (s *site) tamper(t *testing.T, statement string, arguments ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.url)
	require.NoError(t, err)
	tag, err := conn.Exec(t.Context(), statement, arguments...)
	require.NoError(t, err)
	require.EqualValues(t, 1, tag.RowsAffected())
	require.NoError(t, conn.Close(t.Context()))
}

func (s *site) balance(t *testing.T) credit.Micro {
	t.Helper()
	reply, err := ledger.NewReader(s.read, s.clock.Now).Balance(t.Context(), customer)
	require.NoError(t, err)
	return reply.Posted
}

// activities are those that wait in the outbox.
func (s *site) activities(t *testing.T, name string) []event.Activity {
	t.Helper()
	rows, err := s.work.Query(t.Context(), `SELECT data FROM billing.outbox WHERE subject = $1 ORDER BY id`, name)
	require.NoError(t, err)
	stored, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	require.NoError(t, err)
	activities := make([]event.Activity, len(stored))
	for i, data := range stored {
		require.NoError(t, json.Unmarshal(data, &activities[i]))
	}
	return activities
}

// ingest stands for it: it knows these outcomes.
func (s *site) ingest(t *testing.T, outcomes ...query.Outcome) {
	t.Helper()
	data, err := json.Marshal(query.OutcomesReply{Outcomes: outcomes})
	require.NoError(t, err)
	subscription, err := s.bus.Conn.Subscribe(subject.Query(query.ServiceIngest, query.Outcomes), func(message *nats.Msg) {
		_ = message.Respond(data)
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = subscription.Unsubscribe() })
}
