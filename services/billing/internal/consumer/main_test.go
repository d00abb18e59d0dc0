package consumer_test

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
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
	"github.com/galley-engine/galley/services/billing/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	customer = "cust_1"
	patience = 30 * time.Second
)

// site is a place where billing can run: NATS, Postgres, and what stands for the other services.
type site struct {
	server  *testkit.NATSServer
	bus     *bus.Bus
	journal *journal.Journal
	ledger  *ledger.Ledger
	reader  *ledger.Reader
	query   *pgxpool.Pool
}

func newSite(t *testing.T, url string) *site {
	t.Helper()
	require.NoError(t, postgres.Migrate(t.Context(), url, migrations.Schema()))
	open := func(role string) *pgxpool.Pool {
		pool, err := postgres.Open(t.Context(), postgres.PoolConfig{
			URL: url, Role: role, MaxConns: 4, Settings: ledger.PoolSettings(),
		})
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return pool
	}
	server := testkit.NATS(t)
	messages := newBus(t, server.Conn(t))
	require.NoError(t, messages.Provision(t.Context()))
	work, query := open(migrations.Role), open(migrations.Reader)
	return &site{
		server: server, bus: messages, journal: journal.New(messages.Conn, messages.JS), reader: ledger.NewReader(query, clock.System), query: query,
		ledger: ledger.New(work, outbox.New(work, messages.JS, "billing", zerolog.Nop()), clock.System),
	}
}

func newBus(t *testing.T, conn *nats.Conn) *bus.Bus {
	t.Helper()
	made, err := bus.New(conn, bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	return made
}

// run starts a consumer and returns what stops it and waits for its end.
func (s *site) run(t *testing.T, events consumer.Journal) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	follower := consumer.New(consumer.Deps{
		Bus: s.bus, Journal: events, Ledger: s.ledger, AckWait: 2 * time.Second, Clock: clock.System, Logger: zerolog.Nop(),
	})
	go func() { done <- follower.Run(ctx) }()
	go func() { done <- follower.Tell(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		assert.NoError(t, <-done)
		assert.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return stop
}

func (s *site) grant(t *testing.T, amount credit.Micro) {
	t.Helper()
	_, err := s.ledger.Grant(t.Context(), query.GrantRequest{ID: uuid.NewString(), CustomerID: customer, Amount: amount})
	require.NoError(t, err)
}

func newExecution(t *testing.T) subject.Execution {
	t.Helper()
	id, err := uuid.NewV7()
	require.NoError(t, err)
	return subject.Execution{Customer: customer, ID: id.String()}
}

func request(execution subject.Execution, quoted credit.Micro) event.Request {
	return event.Request{
		ExecutionID: execution.ID, CustomerID: execution.Customer, AgentID: "the-hunter", RecipeID: "discovery", RecipeVersion: 3,
		Input: json.RawMessage(`{"search_query":"dentists"}`), Quoted: quoted, Actor: event.Actor{Type: "key", ID: "k1"},
		AcceptedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Deadline: time.Date(2026, 1, 2, 4, 4, 5, 0, time.UTC),
	}
}

// accept does as ingest does. reply may be empty.
func (s *site) accept(t *testing.T, execution subject.Execution, quoted credit.Micro, reply string) uint64 {
	t.Helper()
	return s.acceptWaiting(t, execution, quoted, reply, 0)
}

// acceptWaiting accepts an execution that waits for credits for so long, if it is above 0.
func (s *site) acceptWaiting(
	t *testing.T, execution subject.Execution, quoted credit.Micro, reply string, wait time.Duration,
) uint64 {
	t.Helper()
	data, err := json.Marshal(request(execution, quoted))
	require.NoError(t, err)
	header := nats.Header{
		event.HeaderSubject: {"the-hunter/discovery/3"}, event.HeaderActor: {"key:k1"},
		event.HeaderTraceParent: {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
		event.HeaderCredits:     {strconv.FormatInt(int64(quoted), 10)},
	}
	if reply != "" {
		header.Set(event.HeaderReply, reply)
	}
	if wait > 0 {
		header.Set(event.HeaderCreditsUntil, clock.System().Add(wait).Format(time.RFC3339Nano))
	}
	return s.append(t, journal.Entry{Execution: execution, Kind: event.Accepted, Source: "ingest", Header: header, Data: data})
}

// complete does as the executor does, and as ingest does when it cancels.
func (s *site) complete(t *testing.T, execution subject.Execution, last uint64, charged credit.Micro) uint64 {
	t.Helper()
	header := nats.Header{event.HeaderCredits: {strconv.FormatInt(int64(charged), 10)}}
	return s.append(t, journal.Entry{
		Execution: execution, Kind: event.Completed, Expect: last, Source: "executor", Header: header, Data: []byte(`{"status":"success"}`),
	})
}

func (s *site) append(t *testing.T, entry journal.Entry) uint64 {
	t.Helper()
	entry.Time = clock.System()
	result := s.journal.Append(t.Context(), entry)[0]
	require.NoError(t, result.Err)
	return result.Sequence
}

// await waits until the execution's last event is of the kind.
func (s *site) await(t *testing.T, execution subject.Execution, kind event.Kind) journal.Record {
	t.Helper()
	var last journal.Record
	require.Eventually(t, func() bool {
		var err error
		last, err = s.journal.Last(t.Context(), execution)
		return err == nil && last.Kind == kind
	}, patience, 2*time.Millisecond, "execution %s: no event %s", execution.ID, kind)
	return last
}

func (s *site) awaitBalance(t *testing.T, want credit.Micro) {
	t.Helper()
	require.Eventually(t, func() bool {
		reply, err := s.reader.Balance(t.Context(), customer)
		return err == nil && reply.Posted == want
	}, patience, 2*time.Millisecond, "the balance does not become %s", want)
}

// awaitAcked waits until the consumer has acknowledged everything.
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

// comesToRest waits until everything is acknowledged and told and the customer has a balance, and checks that the money adds up.
func (s *site) comesToRest(t *testing.T, balance credit.Micro) {
	t.Helper()
	s.isTold(t)
	s.awaitAcked(t)
	s.awaitBalance(t, balance)
	s.reconciled(t)
}

func (s *site) reconciled(t *testing.T) {
	t.Helper()
	report, err := ledger.Reconcile(t.Context(), s.query)
	require.NoError(t, err)
	assert.Empty(t, report.Drifts)
}

func (s *site) deadLetters(t *testing.T) (letters []*jetstream.RawStreamMsg) {
	t.Helper()
	stream, err := s.bus.JS.Stream(t.Context(), subject.StreamDeadLetters)
	require.NoError(t, err)
	for sequence := range stream.CachedInfo().State.LastSeq {
		letter, err := stream.GetMsg(t.Context(), sequence+1)
		require.NoError(t, err)
		letters = append(letters, letter)
	}
	return letters
}
