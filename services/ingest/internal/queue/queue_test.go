package queue

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/subject"
)

const patience = 30 * time.Second

// gate is a pipeline that is full until it is opened.
type gate struct {
	mu   sync.Mutex
	open bool
}

func (g *gate) Depth(context.Context) (Depth, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open {
		return Depth{}, nil
	}
	return Depth{Undelivered: 100_000, Under: 100_000}, nil
}

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = open
}

// kitchen is what a handler did: the requests in the order in which it got them, and how often it got each.
type kitchen struct {
	mu    sync.Mutex
	order []string
	times map[string]int
	// handle, if set, acknowledges instead; n is how many messages came before.
	handle func(n int, message jetstream.Msg)
}

func (k *kitchen) take(_ context.Context, messages []jetstream.Msg) {
	for _, message := range messages {
		k.mu.Lock()
		n := len(k.order)
		name := customerOf(message.Subject()) + " " + string(message.Data())
		k.order = append(k.order, name)
		k.times[name]++
		k.mu.Unlock()
		if k.handle != nil {
			k.handle(n, message)
		} else {
			_ = message.Ack()
		}
	}
}

func (k *kitchen) seen() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]string(nil), k.order...)
}

func (k *kitchen) different() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.times)
}

type world struct {
	server *testkit.NATSServer
	bus    *bus.Bus
	pool   *pgxpool.Pool
	gate   *gate
}

func newWorld(t *testing.T) *world {
	t.Helper()
	server := testkit.NATS(t)
	messages, err := bus.New(server.Conn(t), bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	require.NoError(t, messages.Provision(t.Context()))
	return &world{server: server, bus: messages, pool: newPool(t, testkit.Postgres(t)), gate: &gate{}}
}

func newPool(t *testing.T, address string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), address)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// run starts a queue; the function that it returns stops it.
func (w *world) run(t *testing.T, k *kitchen) (stop func()) {
	t.Helper()
	k.times = map[string]int{}
	requests := New(Deps{Bus: w.bus, Pool: w.pool, Pipeline: w.gate, Clock: clock.System, Log: zerolog.Nop()})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		assert.NoError(t, requests.Run(ctx, k.take))
	}()
	var once sync.Once
	stop = func() {
		once.Do(cancel)
		<-done
	}
	t.Cleanup(stop)
	return stop
}

func (w *world) publish(t *testing.T, customer string, n int) {
	t.Helper()
	futures := make([]jetstream.PubAckFuture, 0, n)
	for k := range n {
		future, err := w.bus.JS.PublishAsync(subject.RunRequest(customer), fmt.Append(nil, k))
		require.NoError(t, err)
		futures = append(futures, future)
	}
	for _, future := range futures {
		select {
		case <-future.Ok():
		case err := <-future.Err():
			require.NoError(t, err)
		}
	}
}

// left is how many requests the stream holds.
func (w *world) left(t *testing.T) uint64 {
	t.Helper()
	stream, err := w.bus.JS.Stream(t.Context(), subject.StreamRuns)
	if err != nil {
		return 1
	}
	return stream.CachedInfo().State.Msgs
}

func (w *world) awaitEmpty(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return w.left(t) == 0 }, patience, 10*time.Millisecond)
}

func awaitSeen(t *testing.T, k *kitchen, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return k.different() >= n }, patience, 5*time.Millisecond)
}

func TestWhoComesAfterAFloodIsNext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(t, "alice", 3000)
	rejected := "galley.run.request.not.valid"
	for range 1000 {
		_, err := w.bus.JS.Publish(t.Context(), rejected, []byte("{"))
		require.NoError(t, err)
	}
	k := &kitchen{}
	w.run(t, k)
	w.gate.set(true)
	awaitSeen(t, k, 100)
	w.gate.set(false)
	require.Eventually(t, func() bool { // what was admitted in one go is through
		before := len(k.seen())
		<-time.After(3 * pause)
		return before == len(k.seen())
	}, patience, time.Millisecond)
	passed := len(k.seen())
	require.Less(t, passed, 4000)
	w.publish(t, "bob", 1)
	require.Never(t, func() bool { return len(k.seen()) > passed+64 }, 200*time.Millisecond, 50*time.Millisecond)
	w.gate.set(true)
	w.awaitEmpty(t)
	place := -1
	for i, name := range k.seen() {
		if name == "bob 0" {
			place = i
		}
	}
	require.GreaterOrEqual(t, place, passed)
	require.Less(t, place, passed+70, "bob stood behind the flood")
}

func TestNothingIsLostWhenTheLeaderDies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gate.set(true)
	w.publish(t, "alice", 2000)
	w.publish(t, "bob", 10)

	// The first process dies after it has dealt with a batch and a half.
	dead := make(chan struct{})
	first := &kitchen{}
	first.handle = func(n int, message jetstream.Msg) {
		if n < 300 {
			_ = message.Ack()
		}
		if n == 300 {
			close(dead)
		}
	}
	stopFirst := w.run(t, first)
	awaitSeen(t, first, 1)
	second := &kitchen{}
	w.run(t, second) // stands by
	<-dead
	require.Zero(t, second.different())
	stopFirst()
	w.awaitEmpty(t)
	all := map[string]bool{}
	for _, k := range []*kitchen{first, second} {
		for _, name := range k.seen() {
			all[name] = true
		}
	}
	require.Len(t, all, 2010)
	require.GreaterOrEqual(t, second.different(), 2010-300)
	for name, times := range second.times {
		require.Equal(t, 1, times, name)
	}
}

func TestNATSRestarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(t, "alice", 2000)
	k := &kitchen{}
	restart := make(chan struct{})
	var once sync.Once
	k.handle = func(n int, message jetstream.Msg) {
		if n == 500 {
			once.Do(func() { close(restart) })
		}
		_ = message.Ack()
	}
	w.run(t, k)
	w.gate.set(true)
	<-restart
	w.server.Restart(t)
	require.Eventually(t, func() bool {
		_, err := w.bus.JS.Publish(t.Context(), subject.RunRequest("bob"), []byte("0"), jetstream.WithMsgID("bob"))
		return err == nil
	}, patience, 50*time.Millisecond)
	awaitSeen(t, k, 2001)
	w.awaitEmpty(t)
}

func TestStreamIsMadeAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gate.set(true)
	k := &kitchen{}
	w.run(t, k)
	w.publish(t, "alice", 20)
	w.awaitEmpty(t)
	require.NoError(t, w.bus.JS.DeleteStream(t.Context(), subject.StreamRuns))
	require.NoError(t, w.bus.Provision(t.Context()))
	w.publish(t, "bob", 3)
	awaitSeen(t, k, 23)
	w.awaitEmpty(t)
}

func TestDeepQueueKeepsOnlyPlaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(t, "alice", 1000)
	source := stream{conn: w.bus.Conn, js: w.bus.JS}
	waiting := newLines(10 * (overhead + 100))
	requests := New(Deps{Bus: w.bus, Pool: w.pool, Pipeline: w.gate, Clock: clock.System, Log: zerolog.Nop()})
	for next := uint64(1); ; {
		found, err := source.from(t.Context(), next, batch)
		require.NoError(t, err)
		if len(found) == 0 {
			break
		}
		for i := range found {
			waiting.add("alice", found[i].sequence, &found[i].content)
			next = found[i].sequence + 1
		}
	}
	require.Equal(t, 1000, waiting.size())
	runs, err := w.bus.JS.Stream(t.Context(), subject.StreamRuns)
	require.NoError(t, err)
	require.NoError(t, runs.DeleteMsg(t.Context(), 500))

	k := &kitchen{times: map[string]int{}}
	for waiting.size() > 0 {
		turns := waiting.take(batch, time.Now())
		require.NoError(t, requests.hand(t.Context(), waiting, turns, k.take))
	}
	require.Equal(t, 999, k.different(), "one is gone from the stream")
	for i, name := range k.seen() {
		if i >= 499 {
			i++
		}
		require.Equal(t, fmt.Sprintf("alice %d", i), name)
	}
}

func TestHeadersCannotDeceive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gate.set(true)
	headers := []nats.Header{
		{"Status": {"503"}},
		{"Status": {"204"}, "Description": {"EOB"}},
		{"Status": {"404"}, "Nats-Sequence": {"1"}},
		{"Nats-Subject": {subject.RunRequest("bob")}, "Nats-Sequence": {"99"}, "Nats-Time-Stamp": {"x"}, "mine": {"kept"}},
	}
	for _, header := range headers {
		message := nats.NewMsg(subject.RunRequest("alice"))
		message.Header = header
		_, err := w.bus.JS.PublishMsg(t.Context(), message)
		require.NoError(t, err)
	}
	type got struct {
		name     string
		sequence uint64
		header   string
	}
	var mu sync.Mutex
	var all []got
	k := &kitchen{handle: func(_ int, message jetstream.Msg) {
		meta, err := message.Metadata()
		assert.NoError(t, err)
		mu.Lock()
		all = append(all, got{message.Subject(), meta.Sequence.Stream, message.Headers().Get("mine")})
		mu.Unlock()
		_ = message.Ack()
	}}
	w.run(t, k)
	w.awaitEmpty(t)
	mu.Lock()
	defer mu.Unlock()
	alice := subject.RunRequest("alice")
	require.Equal(t, []got{{alice, 1, ""}, {alice, 2, ""}, {alice, 3, ""}, {alice, 4, "kept"}}, all)
}

// What names a request without an id must be the same however it is read.
func TestPlaceIsThatOfAConsumer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(t, "alice", 1)
	source := stream{conn: w.bus.Conn, js: w.bus.JS}
	found, err := source.from(t.Context(), 1, 10)
	require.NoError(t, err)
	require.Len(t, found, 1)
	again, err := source.at(t.Context(), []uint64{1, 7})
	require.NoError(t, err)
	require.Len(t, again, 1)
	led, err := source.leader(t.Context(), 1)
	require.NoError(t, err)
	consumer, err := w.bus.JS.CreateConsumer(t.Context(), subject.StreamRuns, jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy})
	require.NoError(t, err)
	delivered, err := consumer.Next()
	require.NoError(t, err)
	meta, err := delivered.Metadata()
	require.NoError(t, err)
	require.Equal(t, meta.Sequence.Stream, found[0].sequence)
	for _, read := range []*content{&found[0].content, again[1], led} {
		require.Equal(t, meta.Timestamp.UnixNano(), read.stored.UnixNano())
		require.Equal(t, delivered.Subject(), read.subject)
		require.Equal(t, delivered.Data(), read.data)
	}
}

func TestDoneBehindAFloodIsRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(t, "alice", 1)
	w.publish(t, "bob", 50)
	k := &kitchen{handle: func(_ int, message jetstream.Msg) {
		if customerOf(message.Subject()) == "alice" {
			_ = message.NakWithDelay(time.Hour)
			return
		}
		_ = message.Ack()
	}}
	w.run(t, k)
	w.gate.set(true)
	require.Eventually(t, func() bool { return w.left(t) == 1 }, patience, 10*time.Millisecond)
}

func TestPanicsBecomeDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gate.set(true)
	w.publish(t, "alice", 3)
	k := &kitchen{handle: func(_ int, message jetstream.Msg) {
		if string(message.Data()) == "1" {
			panic("poison")
		}
		_ = message.Ack()
	}}
	w.run(t, k)
	w.awaitEmpty(t)
	letters, _, err := w.bus.Letters(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	require.Equal(t, Name, letters[0].Header.Get(bus.HeaderConsumer))
}

// Today's promise: what is cached goes on while Postgres is away.
func TestPostgresGoesAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gate.set(true)
	server := testkit.PostgresServer(t)
	w.pool = newPool(t, server.URL())
	k := &kitchen{}
	w.run(t, k)
	w.publish(t, "alice", 1)
	awaitSeen(t, k, 1)
	server.Kill(t)
	w.publish(t, "bob", 100)
	awaitSeen(t, k, 101)
	server.Start(t)
	w.publish(t, "carol", 1)
	awaitSeen(t, k, 102)
}
