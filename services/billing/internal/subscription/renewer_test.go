package subscription_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/internal/subscription"
)

const patience = 30 * time.Second

// connect gives the world a NATS server and a bus of it.
func connect(t *testing.T, server *testkit.NATSServer) *bus.Bus {
	t.Helper()
	made, err := bus.New(server.Conn(t), bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	require.NoError(t, made.Provision(t.Context()))
	return made
}

// renewer makes a Renewer of a register that makes its delays in NATS.
func (w *world) renewer(t *testing.T, messages *bus.Bus) *subscription.Renewer {
	t.Helper()
	deps := w.RegisterDeps
	deps.Delays = messages
	return subscription.NewRenewer(subscription.RenewerDeps{
		Register: subscription.New(deps), Bus: messages, AckWait: 5 * time.Second, Log: zerolog.New(zerolog.NewTestWriter(t)),
	})
}

func run(t *testing.T, r *subscription.Renewer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx); close(done) }()
	stop = func() { cancel(); assert.NoError(t, <-done) }
	t.Cleanup(stop)
	return stop
}

// delayed is when the end of alice's period is to be called.
func delayed(t *testing.T, messages *bus.Bus) string {
	t.Helper()
	stream, err := messages.JS.Stream(t.Context(), subject.StreamDelays)
	require.NoError(t, err)
	message, err := stream.GetLastMsgForSubject(t.Context(), subject.PeriodDelay("alice"))
	require.NoError(t, err)
	return message.Header.Get(jetstream.ScheduleHeader)
}

func (w *world) awaitPeriod(t *testing.T, customer string, number int) {
	t.Helper()
	require.Eventually(t, func() bool {
		var found int
		err := w.work.QueryRow(t.Context(), `SELECT period FROM billing.subscriptions WHERE customer_id = $1`, customer).Scan(&found)
		return assert.NoError(t, err) && found == number
	}, patience, 5*time.Millisecond)
}

func TestCalls(t *testing.T) {
	t.Parallel()
	w, server := newWorld(t), testkit.NATS(t)
	messages := connect(t, server)
	w.offer(t, "plan", 100, none(), nil)
	register := w.renewer(t, messages).Register
	_, err := register.Set(t.Context(), request("alice", "plan", query.SubscriptionActive))
	require.NoError(t, err)
	require.Equal(t, "@at 2027-02-28T00:00:00Z", delayed(t, messages))

	for range 3 { // several processes
		run(t, w.renewer(t, connect(t, server)))
	}
	w.on(t, "2027-02-28T00:00:00Z")
	for range 20 {
		require.NoError(t, messages.Due(t.Context(), subject.PeriodDue("alice")))
	}
	require.NoError(t, messages.Due(t.Context(), subject.PeriodDue("nobody")))
	stream, err := messages.JS.Stream(t.Context(), subject.StreamDelays)
	require.NoError(t, err)
	require.Eventually(t, func() bool { // every call is handled
		info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(subject.AllDue))
		return assert.NoError(t, err) && len(info.State.Subjects) == 0
	}, patience, 5*time.Millisecond)
	require.Equal(t, map[string]credit.Micro{"subscription/1/2": 100}, w.lots(t))
	require.Equal(t, "@at 2027-03-31T00:00:00Z", delayed(t, messages), "the next end is called in its turn")
	w.reconciled(t)
}

func TestSweep(t *testing.T) {
	t.Parallel()
	w, server := newWorld(t), testkit.NATS(t)
	messages := connect(t, server)
	w.offer(t, "plan", 100, none(), nil)
	late := request("late", "plan", query.SubscriptionActive)
	late.Anchor = 15
	_, err := w.Set(t.Context(), late) // whose delay is lost, as is alice's
	require.NoError(t, err)
	w.subscribe(t, "plan")

	w.on(t, "2027-02-27T23:00:00Z")
	renewer := w.renewer(t, messages)
	require.NoError(t, renewer.Sweep(t.Context()))
	w.awaitPeriod(t, "late", 2)
	w.awaitPeriod(t, "alice", 1)
	stream, err := messages.JS.Stream(t.Context(), subject.StreamDelays)
	require.NoError(t, err)
	_, err = stream.GetLastMsgForSubject(t.Context(), subject.PeriodDelay("alice"))
	require.ErrorIs(t, err, jetstream.ErrMsgNotFound, "it is far away still")
	w.on(t, "2027-02-27T23:58:30Z")
	require.NoError(t, renewer.Sweep(t.Context()))
	require.Equal(t, "@at 2027-02-28T00:00:00Z", delayed(t, messages), "the call is made again before the end")

	w.on(t, "2027-02-28T00:00:01Z")
	server.Shutdown()
	err = renewer.Sweep(t.Context())
	require.Error(t, err)
	w.awaitPeriod(t, "alice", 2)
	require.Equal(t, map[string]credit.Micro{"subscription/1/2": 100}, w.lots(t), "without NATS, periods end all the same")
}

func TestSweepOfMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.offer(t, "plan", 0, none(), nil)
	_, err := w.work.Exec(t.Context(), `INSERT INTO billing.subscriptions (customer_id, plan, status, features, created_at, updated_at, version, number,
			period, period_start, period_end, anchor_day, time_zone)
		SELECT 'c' || n, 'plan', 'active', '{}', now(), now(), 1, 1, 1, '2027-01-01', '2027-01-31', 31, 'UTC' FROM generate_series(1, 600) AS n`)
	require.NoError(t, err)
	messages := connect(t, testkit.NATS(t))
	require.NoError(t, w.renewer(t, messages).Sweep(t.Context()))
	var renewed int
	require.NoError(t, w.work.QueryRow(t.Context(), `SELECT count(*) FROM billing.subscriptions WHERE period = 2`).Scan(&renewed))
	require.Equal(t, 600, renewed, "more than a page")
}

// Starting the processes is what finds a period whose end nobody called.
func TestRestart(t *testing.T) {
	t.Parallel()
	w, server := newWorld(t), testkit.NATS(t)
	messages := connect(t, server)
	w.offer(t, "plan", 100, capped(30), nil)
	w.subscribe(t, "plan")
	for period := 2; period <= 4; period++ {
		end, err := w.Advance(t.Context(), "alice")
		require.NoError(t, err)
		w.clock.Set(end)
		stop := run(t, w.renewer(t, messages))
		w.awaitPeriod(t, "alice", period)
		require.Equal(t, map[string]credit.Micro{
			fmt.Sprintf("subscription/1/%d", period): 100, fmt.Sprintf("subscription/1/%d/rollover", period): 30,
		}, w.lots(t))
		stop()
	}
	w.reconciled(t)
}

// ahead makes delays in NATS for a world whose clock is ahead of the server's.
type ahead struct {
	bus *bus.Bus
	by  time.Duration
}

// Delay implements subscription.Delayer.
func (a ahead) Delay(ctx context.Context, delay, due string, at time.Time) error {
	return a.bus.Delay(ctx, delay, due, at.Add(-a.by))
}

// TestScheduleEndsThePeriod has nobody but the NATS server call: a period ends a few seconds after it has begun.
func TestScheduleEndsThePeriod(t *testing.T) {
	t.Parallel()
	w, messages := newWorld(t), connect(t, testkit.NATS(t))
	w.offer(t, "plan", 100, none(), nil)
	end := moment(t, "2027-02-28T00:00:00Z")
	const rest = 3 * time.Second
	by, asked := end.Add(-rest).Sub(clock.System()), make(chan struct{}, 1)
	deps := w.RegisterDeps
	deps.Clock = func() time.Time {
		select {
		case asked <- struct{}{}:
		default:
		}
		return clock.System().Add(by)
	}
	deps.Delays = ahead{messages, by}
	deps.Ledger = ledger.New(w.work, deps.Outbox, deps.Clock)
	register := subscription.New(deps)
	run(t, subscription.NewRenewer(subscription.RenewerDeps{
		Register: register, Bus: messages, AckWait: 5 * time.Second, Log: zerolog.New(zerolog.NewTestWriter(t)),
	}))
	<-asked // The sweep that looks at the start has its time, which is before the end. The next one is later than this test has patience.
	monthly := request("alice", "plan", query.SubscriptionActive)
	monthly.Anchor = end.Day()
	begun, err := register.Set(t.Context(), monthly)
	require.NoError(t, err)
	require.Equal(t, end, begun.Period.End)
	w.awaitPeriod(t, "alice", 2)
	require.False(t, deps.Clock().Before(end))
	require.Equal(t, map[string]credit.Micro{"subscription/1/2": 100}, w.lots(t))
	require.Eventually(t, func() bool {
		at, err := time.Parse("@at "+time.RFC3339, delayed(t, messages))
		return assert.NoError(t, err) && at.Add(by).After(moment(t, "2027-03-27T23:59:59Z"))
	}, patience, 5*time.Millisecond, "the next end is called in its turn")
	w.reconciled(t)
}
