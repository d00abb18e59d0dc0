package subscription_test

import (
	"context"
	"encoding/json"
	"io/fs"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing/internal/subscription"
	"github.com/galley-engine/galley/services/billing/migrations"
)

// limited makes the terms of a plan those of one with a limit.
func limited(most int) func(*query.PlanTerms) {
	return func(terms *query.PlanTerms) { terms.Limits.MaxConcurrency = &most }
}

// limits are those of a customer in the outbox.
func (w *world) limits(t interface {
	require.TestingT
	Context() context.Context
}, customer string,
) []event.Limits {
	rows, err := w.work.Query(t.Context(), `SELECT header->>'ce-id', data FROM billing.outbox WHERE subject = $1 ORDER BY id`, subject.Limits(customer))
	require.NoError(t, err)
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (event.Limits, error) {
		var id string
		var data []byte
		var told event.Limits
		if err := row.Scan(&id, &data); err != nil {
			return told, err
		}
		err := json.Unmarshal(data, &told)
		require.Equal(t, told.ID(), id)
		return told, err
	})
	require.NoError(t, err)
	return found
}

// TestLimitsAreToldWhenTheyChange looks at the outbox after each change of a subscription: 0 stands for no limit.
func TestLimitsAreToldWhenTheyChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.offer(t, "open", 10, none(), nil)
	w.offer(t, "two", 20, none(), limited(2))
	w.offer(t, "also-two", 30, none(), limited(2))
	w.offer(t, "ten", 40, none(), limited(10))
	var told []int
	expect := func(most ...int) {
		t.Helper()
		told = append(told, most...)
		got, revision := []int{}, int64(0)
		for _, one := range w.limits(t, "alice") {
			require.Equal(t, "alice", one.CustomerID)
			require.Greater(t, one.Revision, revision)
			revision = one.Revision
			if one.MaxConcurrency == nil {
				got = append(got, 0)
				continue
			}
			got = append(got, *one.MaxConcurrency)
		}
		require.Equal(t, append([]int{}, told...), got)
	}
	end := func() {
		t.Helper()
		over, err := w.Get(t.Context(), "alice")
		require.NoError(t, err)
		w.clock.Set(over.Period.End)
		_, err = w.Advance(t.Context(), "alice")
		require.NoError(t, err)
	}
	w.subscribe(t, "unpublished")
	w.subscribe(t, "open")
	expect()
	w.subscribe(t, "two")
	expect(2)
	w.subscribe(t, "two")
	w.subscribe(t, "also-two")
	expect()
	w.subscribe(t, "ten")
	expect(10)
	w.subscribe(t, "two")
	expect()
	end()
	expect(2)
	end()
	expect()
	w.cancel(t, false)
	expect()
	end()
	expect(0)
	w.subscribe(t, "ten")
	expect(10)
	w.clock.Set(start()) // the clock is set back
	w.cancel(t, true)
	expect(0)
	w.subscribe(t, "unpublished")
	w.cancel(t, true)
	expect()

	// Periods that nobody ended on time are ended together, and what holds after the last one is told.
	w.subscribe(t, "ten")
	expect(10)
	w.subscribe(t, "open")
	w.on(t, "2027-12-24T00:00:00Z")
	w.subscribe(t, "two")
	expect(2)
}

// teller makes a Teller with the relay of what it tells.
func (w *world) teller(t *testing.T, messages *bus.Bus) *subscription.Teller {
	t.Helper()
	log := zerolog.New(zerolog.NewTestWriter(t))
	deps := w.RegisterDeps
	deps.Outbox = outbox.New(w.work, messages.JS, query.ServiceBilling, log)
	w.Register = subscription.New(deps)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- deps.Outbox.Run(ctx) }()
	t.Cleanup(func() { cancel(); assert.NoError(t, <-done) })
	return subscription.NewTeller(subscription.TellerDeps{Register: w.Register, Bus: messages, Log: log})
}

// held is what the stream has of each customer.
func held(t *testing.T, messages *bus.Bus) map[string]int {
	t.Helper()
	stream, err := messages.JS.Stream(t.Context(), subject.StreamLimits)
	require.NoError(t, err)
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(subject.AllLimits))
	require.NoError(t, err)
	found := map[string]int{}
	for name, count := range info.State.Subjects {
		require.EqualValues(t, 1, count)
		message, err := stream.GetLastMsgForSubject(t.Context(), name)
		require.NoError(t, err)
		var told event.Limits
		require.NoError(t, json.Unmarshal(message.Data, &told))
		require.Equal(t, subject.Limits(told.CustomerID), name)
		found[told.CustomerID] = 0
		if told.MaxConcurrency != nil {
			found[told.CustomerID] = *told.MaxConcurrency
		}
	}
	return found
}

func TestTellerMakesUpForWhatTheStreamLost(t *testing.T) {
	t.Parallel()
	w, server := newWorld(t), testkit.NATS(t)
	messages := connect(t, server)
	teller := w.teller(t, messages)
	w.offer(t, "two", 20, none(), limited(2))
	w.offer(t, "ten", 40, none(), limited(10))
	for customer, plans := range map[string][]string{"alice": {"two", "ten"}, "bob": {"two"}, "carol": {"note"}} {
		for _, plan := range plans {
			_, err := w.Set(t.Context(), request(customer, plan, query.SubscriptionActive))
			require.NoError(t, err)
		}
	}
	holds := func(want map[string]int) {
		t.Helper()
		require.Eventually(t, func() bool { return assert.ObjectsAreEqual(want, held(t, messages)) }, patience, 5*time.Millisecond)
	}
	all := map[string]int{"alice": 10, "bob": 2}
	holds(all)
	stream, err := messages.JS.Stream(t.Context(), subject.StreamLimits)
	require.NoError(t, err)
	last := func() uint64 {
		info, err := stream.Info(t.Context())
		require.NoError(t, err)
		return info.State.LastSeq
	}
	before := last()
	require.NoError(t, teller.Compare(t.Context()))
	require.Equal(t, before, last(), "nothing is told twice without need")

	// The stream is lost, and an old copy of an event comes late.
	late := nats.NewMsg(subject.Limits("alice"))
	late.Data, err = json.Marshal(event.Limits{CustomerID: "alice", Revision: 1})
	require.NoError(t, err)
	require.NoError(t, messages.JS.DeleteStream(t.Context(), subject.StreamLimits))
	require.NoError(t, messages.Provision(t.Context()))
	_, err = messages.JS.PublishMsg(t.Context(), late)
	require.NoError(t, err)
	holds(map[string]int{"alice": 0})
	require.NoError(t, teller.Compare(t.Context()))
	holds(all)
}

// A stream that is not there, or is not the one that it was, is noticed.
func TestTellerRun(t *testing.T) {
	t.Parallel()
	w, server := newWorld(t), testkit.NATS(t)
	messages := connect(t, server)
	teller := w.teller(t, messages)
	w.offer(t, "two", 20, none(), limited(2))
	w.subscribe(t, "two")
	require.Eventually(t, func() bool { return len(held(t, messages)) == 1 }, patience, 5*time.Millisecond)
	require.NoError(t, messages.JS.DeleteStream(t.Context(), subject.StreamLimits))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- teller.Run(ctx) }()
	require.Eventually(t, func() bool {
		_, err := messages.JS.Stream(t.Context(), subject.StreamLimits)
		return err == nil && len(held(t, messages)) == 1
	}, patience, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}

// Subscriptions of before the limits were told allow what their plans say.
func TestLimitsOfBefore(t *testing.T) {
	t.Parallel()
	url := testkit.Postgres(t)
	earlier := migrations.Schema()
	files := fstest.MapFS{}
	names, err := fs.Glob(earlier.Migrations, "000[1-6]_*.sql")
	require.NoError(t, err)
	for _, name := range names {
		text, err := fs.ReadFile(earlier.Migrations, name)
		require.NoError(t, err)
		files[name] = &fstest.MapFile{Data: text}
	}
	earlier.Migrations = files
	require.NoError(t, postgres.Migrate(t.Context(), url, earlier))
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context()) //nolint:errcheck // nothing hangs on it
	for _, statement := range []string{
		`INSERT INTO billing.plans VALUES ('two', 1, '{"limits": {"max_concurrency": 2}}', 'a', now()), ('open', 1, '{"limits": {}}', 'b', now())`,
		`INSERT INTO billing.subscriptions (customer_id, plan, status, features, created_at, updated_at, version, number, period, period_start, period_end,
			anchor_day, time_zone)
		SELECT customer, plan, status, '{}', now(), now(), 1, 1, 1, '2027-01-01', '2027-02-01', 1, 'UTC'
		FROM (VALUES ('alice', 'two', 'active'), ('bob', 'open', 'active'), ('carol', 'two', 'cancelled')) AS there (customer, plan, status)`,
		`INSERT INTO billing.subscriptions (customer_id, plan, status, features, created_at, updated_at) VALUES ('dave', 'two', 'active', '{}', now(), now())`,
	} {
		_, err = conn.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	w, messages := openWorld(t, url), connect(t, testkit.NATS(t))
	require.NoError(t, w.teller(t, messages).Compare(t.Context()))
	require.Eventually(t, func() bool {
		return assert.ObjectsAreEqual(map[string]int{"alice": 2}, held(t, messages))
	}, patience, 5*time.Millisecond)
}
