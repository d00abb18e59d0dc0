package subscription_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/internal/plan"
	"github.com/galley-engine/galley/services/billing/internal/subscription"
	"github.com/galley-engine/galley/services/billing/migrations"
)

// delays remembers when what is due for each subject.
type delays struct {
	mu sync.Mutex
	at map[string]time.Time
}

// Delay implements subscription.Delayer.
func (d *delays) Delay(_ context.Context, _, due string, at time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at[due] = at
	return nil
}

// world is a register over a database of its own.
type world struct {
	*subscription.Register
	work, read *pgxpool.Pool
	plans      *plan.Catalogue
	ledger     *ledger.Ledger
	clock      *testkit.Clock
	delays     *delays
}

func start() time.Time { return time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC) }

func newWorld(t *testing.T) *world {
	t.Helper()
	return openWorld(t, testkit.Postgres(t))
}

// openWorld makes a world over a database that is there.
func openWorld(t *testing.T, url string) *world {
	t.Helper()
	require.NoError(t, postgres.Migrate(t.Context(), url, migrations.Schema()))
	open := func(role string, settings map[string]string) *pgxpool.Pool {
		pool, err := postgres.Open(t.Context(), postgres.PoolConfig{URL: url, Role: role, MaxConns: 6, Settings: settings})
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return pool
	}
	w := &world{
		work: open(migrations.Role, ledger.PoolSettings()), read: open(migrations.Reader, nil), clock: testkit.NewClock(start()),
		delays: &delays{at: map[string]time.Time{}},
	}
	events := outbox.New(w.work, nil, query.ServiceBilling, zerolog.Nop())
	w.ledger = ledger.New(w.work, events, w.clock.Now)
	w.plans = plan.New(w.work, w.read, events, w.clock.Now)
	w.Register = subscription.New(subscription.RegisterDeps{
		Work: w.work, Read: w.read, Ledger: w.ledger, Outbox: events, Delays: w.delays, Clock: w.clock.Now,
	})
	return w
}

func operator() event.Actor { return event.Actor{Type: "operator", ID: "operator"} }

// offer publishes a plan.
func (w *world) offer(t *testing.T, id string, monthly credit.Micro, rollover query.Rollover, change func(*query.PlanTerms)) query.Plan {
	t.Helper()
	terms := query.PlanTerms{Name: id, MonthlyCredits: monthly, Rollover: rollover, Features: []string{"of-" + id}, Priority: 40}
	if change != nil {
		change(&terms)
	}
	require.Empty(t, terms.Violations())
	reply, err := w.plans.Publish(t.Context(), &query.PublishPlanRequest{PlanID: id, PlanTerms: terms, Actor: operator()})
	require.NoError(t, err)
	return reply.Plan
}

func none() query.Rollover { return query.Rollover{Rule: query.RolloverNone} }

func all() query.Rollover { return query.Rollover{Rule: query.RolloverAll} }

func capped(most credit.Micro) query.Rollover {
	return query.Rollover{Rule: query.RolloverCapped, Max: most}
}

func request(customer, name string, status query.SubscriptionStatus, features ...string) *query.SubscribeRequest {
	return &query.SubscribeRequest{CustomerID: customer, Plan: name, Status: status, Features: features, Actor: operator()}
}

// subscribe sets alice's subscription to a plan.
func (w *world) subscribe(t *testing.T, name string) query.SubscriptionReply {
	t.Helper()
	reply, err := w.Set(t.Context(), request("alice", name, query.SubscriptionActive))
	require.NoError(t, err)
	return reply
}

func (w *world) cancel(t *testing.T, atOnce bool) query.SubscriptionReply {
	t.Helper()
	reply, err := w.Cancel(t.Context(), &query.CancelSubscriptionRequest{CustomerID: "alice", AtOnce: atOnce, Actor: operator()})
	require.NoError(t, err)
	return reply
}

// refused checks what an operation was refused with.
func refused(t *testing.T, err error, code problem.Code, message string) {
	t.Helper()
	found, ok := errors.AsType[*problem.Error](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, code, found.Code)
	require.Contains(t, found.Message, message)
}

// on sets the clock to a time of RFC 3339.
func (w *world) on(t *testing.T, at string) {
	t.Helper()
	w.clock.Set(moment(t, at))
}

func moment(t require.TestingT, at string) time.Time {
	parsed, err := time.Parse(time.RFC3339Nano, at)
	require.NoError(t, err)
	return parsed.UTC()
}

// lots are what alice's grants have left, by their ids; those that have nothing are left out.
func (w *world) lots(t *testing.T) map[string]credit.Micro {
	t.Helper()
	rows, err := w.work.Query(t.Context(), `SELECT grant_id, remaining FROM billing.grants WHERE customer_id = 'alice' AND remaining > 0`)
	require.NoError(t, err)
	lots := map[string]credit.Micro{}
	var id string
	var left credit.Micro
	_, err = pgx.ForEachRow(rows, []any{&id, &left}, func() error {
		lots[id] = left
		return nil
	})
	require.NoError(t, err)
	return lots
}

// activities are those in the outbox, as "<subject> <actor> <changes>".
func (w *world) activities(t *testing.T) []string {
	t.Helper()
	rows, err := w.work.Query(t.Context(), `SELECT subject || ' ' || (header->>'ce-actor') || ' ' || (convert_from(data, 'UTF8')::json->>'changes')
		FROM billing.outbox WHERE subject LIKE '%.subscription.%' ORDER BY id`)
	require.NoError(t, err)
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return found
}

// told is the last activity: its action, and what it tells of what is afterwards.
func (w *world) told(t *testing.T) (action, actor string, after map[string]any) {
	t.Helper()
	var text string
	require.NoError(t, w.work.QueryRow(t.Context(), `SELECT replace(subject, 'galley.activity.alice.', ''), header->>'ce-actor',
		convert_from(data, 'UTF8')::json->>'changes' FROM billing.outbox WHERE subject LIKE '%.subscription.%' ORDER BY id DESC LIMIT 1`).
		Scan(&action, &actor, &text))
	var changes struct {
		After map[string]any `json:"after"`
	}
	require.NoError(t, json.Unmarshal([]byte(text), &changes))
	return action, actor, changes.After
}

func (w *world) reconciled(t *testing.T) {
	t.Helper()
	report, err := ledger.Reconcile(t.Context(), w.read)
	require.NoError(t, err)
	assert.Empty(t, report.Drifts)
}
