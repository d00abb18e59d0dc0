package catalogue_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
	"github.com/galley-engine/galley/services/ingest/migrations"
)

const patience = 30 * time.Second

// follow runs a process's copy of what plans allow until stop or the end of the test.
func (w *world) follow(t *testing.T, c *catalogue.Catalogue) (stop func()) {
	t.Helper()
	plans := catalogue.NewPlanLimits(catalogue.PlanLimitsDeps{
		Bus: w.bus(t), Pool: w.pool(t, migrations.Role), Catalogue: c, Log: zerolog.Nop(),
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- plans.Run(ctx); close(done) }()
	stop = func() { cancel(); assert.NoError(t, <-done) }
	t.Cleanup(stop)
	return stop
}

// tell publishes what billing would: a limit of 0 is none.
func tell(t *testing.T, messages *bus.Bus, customer string, revision int64, most int) {
	t.Helper()
	told := event.Limits{CustomerID: customer, Revision: revision}
	if most != 0 {
		told.MaxConcurrency = &most
	}
	data, err := json.Marshal(told)
	require.NoError(t, err)
	raw(t, messages, subject.Limits(customer), string(data))
}

func raw(t *testing.T, messages *bus.Bus, subject, data string) {
	t.Helper()
	message := nats.NewMsg(subject)
	message.Data = []byte(data)
	_, err := messages.JS.PublishMsg(t.Context(), message)
	require.NoError(t, err)
}

// plan is what the plan of a customer allows, 0 for no limit.
func plan(t *testing.T, c *catalogue.Catalogue, customer string) int {
	t.Helper()
	found, err := c.Limits(t.Context(), customer)
	require.NoError(t, err)
	if found.Plan.MaxConcurrency == nil {
		return 0
	}
	return *found.Plan.MaxConcurrency
}

func awaitPlan(t *testing.T, c *catalogue.Catalogue, customer string, most int) {
	t.Helper()
	require.Eventually(t, func() bool { return plan(t, c, customer) == most }, patience, 5*time.Millisecond)
}

// TestWhoseLimitHolds: the customer's own before the plan's, in either direction. What executions pin changes in every process without
// waiting for anything that is remembered to grow old: the clock stands still.
func TestWhoseLimitHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stands := clock.System()
	first, second := w.process(t, func() time.Time { return stands }), w.process(t, func() time.Time { return stands })
	w.follow(t, first)
	w.follow(t, second)
	customer(t, first, "alice")
	_, _, err := first.Publish(t.Context(), "alice", soup("a"), author())
	require.NoError(t, err)
	messages := w.bus(t)
	holds := func(most int, source catalogue.LimitSource) {
		t.Helper()
		found, err := first.Limits(t.Context(), "alice")
		require.NoError(t, err)
		require.Equal(t, source, found.Effective.Source)
		for _, process := range []*catalogue.Catalogue{first, second} {
			require.Eventually(t, func() bool {
				pinned, err := process.Resolve(t.Context(), "alice", "cook", "soup", 0)
				require.NoError(t, err)
				return pinned.MaxConcurrency == most
			}, patience, 5*time.Millisecond)
		}
	}
	set := func(most *int) {
		t.Helper()
		require.NoError(t, first.SetLimits(t.Context(), "alice", catalogue.Limits{MaxConcurrency: most}, author()))
	}
	holds(0, catalogue.LimitOfNobody)
	tell(t, messages, "alice", 10, 2)
	awaitPlan(t, first, "alice", 2)
	holds(2, catalogue.LimitOfPlan)
	set(new(5))
	holds(5, catalogue.LimitOfCustomer)
	set(new(1))
	holds(1, catalogue.LimitOfCustomer)
	tell(t, messages, "alice", 20, 0)
	awaitPlan(t, first, "alice", 0)
	holds(1, catalogue.LimitOfCustomer)
	set(nil)
	holds(0, catalogue.LimitOfNobody)
}

// TestNewestLimitHolds repeats pages of limits, as a relay does that dies before it can forget what it has published: no process ever goes back
// to an older one.
func TestNewestLimitHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, messages := w.process(t, clock.System), w.bus(t)
	w.follow(t, c)
	w.follow(t, c) // another process of the same database
	customer(t, c, "alice")
	customer(t, c, "bob")
	const last = 30
	highest := 0
	look := func() {
		t.Helper()
		now := plan(t, c, "alice")
		require.GreaterOrEqual(t, now, highest)
		highest = now
	}
	for newest := 1; newest <= last; newest++ {
		for range newest%3 + 1 {
			for revision := max(1, newest-newest%4); revision <= newest; revision++ {
				tell(t, messages, "alice", int64(revision), revision)
				look()
			}
		}
	}
	awaitPlan(t, c, "alice", last)
	tell(t, messages, "alice", last-1, last-1)
	tell(t, messages, "bob", 1, 3)
	awaitPlan(t, c, "bob", 3)
	look()
}

// TestLimitsFromBeforeTheStart: what was told before ingest was there, of customers that were not there either, holds; and so it does when the
// stream or the table is lost.
func TestLimitsFromBeforeTheStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, messages := w.process(t, clock.System), w.bus(t)
	for revision := range int64(20) { // so that the stream has dropped the first ones
		tell(t, messages, "alice", revision+1, int(revision)+1)
	}
	tell(t, messages, "bob", 1, 3)
	stop := w.follow(t, c)
	customer(t, c, "alice")
	customer(t, c, "bob")
	awaitPlan(t, c, "alice", 20)
	awaitPlan(t, c, "bob", 3)

	require.NoError(t, messages.JS.DeleteStream(t.Context(), subject.StreamLimits))
	require.NoError(t, messages.Provision(t.Context()))
	require.Equal(t, 20, plan(t, c, "alice"))
	tell(t, messages, "alice", 21, 7)
	stop()
	w.follow(t, c)
	awaitPlan(t, c, "alice", 7)
	require.Equal(t, 3, plan(t, c, "bob"))

	_, err := w.pool(t, migrations.Role).Exec(t.Context(), `UPDATE ingest.plan_limits SET max_concurrency = 20, revision = 20 WHERE customer_id = 'alice'`)
	require.NoError(t, err)
	w.follow(t, c)
	awaitPlan(t, c, "alice", 7)
}

func TestLimitsThatCannotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, messages := w.process(t, clock.System), w.bus(t)
	customer(t, c, "alice")
	w.follow(t, c)
	tell(t, messages, "alice", 5, 2)
	awaitPlan(t, c, "alice", 2)
	for _, data := range []string{
		``, `nonsense`, `{"customer_id":"bob","revision":9,"max_concurrency":1}`, `{"customer_id":"alice","revision":-1,"max_concurrency":1}`,
		`{"customer_id":"alice","revision":9,"max_concurrency":0}`, `{"customer_id":"alice","revision":9,"max_concurrency":1001}`,
	} {
		raw(t, messages, subject.Limits("alice"), data)
	}
	raw(t, messages, subject.Limits("a:b"), `{"customer_id":"a:b","revision":9}`)
	tell(t, messages, "alice", 6, 3)
	awaitPlan(t, c, "alice", 3)
}
