// Package queue gives customers turns: it reads the run requests that wait in the stream RUNS, as far as they go, and hands them on one
// of each customer after the other, no more than the pipeline behind can take within a moment. A customer with a hundred thousand
// requests delays another one's single request by that moment, not by the hundred thousand.
//
// One process does so at a time. What was read is not acknowledged to NATS, and NATS keeps no account of it: a request is removed from the
// stream after it was dealt with, so whoever takes over reads what is left, from the beginning. Those that were dealt with and not
// removed yet are handed out once more; handlers know a request that they have dealt with.
package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/subject"
)

// Name is the name under which dead letters of the queue are redriven.
const Name = "ingest"

const (
	lockID = 7312

	batch = 256
	// readBatch is large because a flood has to be read before whoever comes after it is found, on a machine that is busy with it.
	readBatch = 2048
	// maxWaiting bounds how far the queue reads ahead. Requests beyond it wait unread, and customers have turns only among those read.
	maxWaiting = 1_000_000
	fullPause  = 100 * time.Millisecond

	retryDelay = time.Second
	// removeEvery is how long what has ended stays in the stream, and so how much is handed out once more after a crash.
	removeEvery = 200 * time.Millisecond
	// maxRemovals is how many customers' requests are removed at a time while an older one of somebody else waits.
	maxRemovals = 16
	stopTime    = 2 * time.Second

	// A queue that has nothing to read looks again after firstPause, then twice that, up to maxPause, or when a request is published.
	firstPause, maxPause = 2 * time.Millisecond, 250 * time.Millisecond
	// lookAfter is how many times it finds nothing before it makes sure that the stream is still the same.
	lookAfter = 8
)

// Deps is what a Queue works with.
type Deps struct {
	Bus  *bus.Bus
	Pool *pgxpool.Pool
	// Pipeline is what executions go through; nil for the real one.
	Pipeline Pipeline
	Clock    clock.Clock
	Log      zerolog.Logger
}

// Queue hands on run requests.
type Queue struct {
	Deps
	stream stream
}

// New makes a Queue.
func New(deps Deps) *Queue {
	if deps.Pipeline == nil {
		deps.Pipeline = consumers{js: deps.Bus.JS}
	}
	return &Queue{Deps: deps, stream: stream{conn: deps.Bus.Conn, js: deps.Bus.JS}}
}

// Run calls handle with batches of requests whose turn it is, one call at a time, until ctx ends, in one process at a time. handle
// acknowledges each after its effect is stored. While Postgres is away, which says whose turn it is to do so, the process goes on.
func (q *Queue) Run(ctx context.Context, handle func(ctx context.Context, messages []jetstream.Msg)) error {
	guarded := q.Bus.Guard(handle)
	report := func(err error) { q.Log.Warn().Err(err).Msg("queue of run requests interrupted, trying again") }
	return postgres.LeadLoosely(ctx, q.Pool, lockID, report, func(ctx context.Context) {
		_ = lifecycle.Retry(ctx, report, func(ctx context.Context) error { return q.session(ctx, guarded) })
	})
}

// session starts from what the stream holds, and returns when that can no longer be trusted, or when ctx ends.
func (q *Queue) session(ctx context.Context, handle func(ctx context.Context, messages []jetstream.Msg)) error {
	if err := q.Bus.Provision(ctx); err != nil {
		return err
	}
	begin, err := q.stream.info(ctx)
	if err != nil {
		return err
	}
	waiting := newLines(maxBytes)
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		_ = q.stream.remove(ctx, waiting.removable(maxRemovals)) // otherwise they are handed out once more
	}()
	return lifecycle.Run(ctx,
		func(ctx context.Context) error { return q.read(ctx, waiting, begin) },
		func(ctx context.Context) error { return q.admit(ctx, waiting, handle) },
		func(ctx context.Context) error { return q.remove(ctx, waiting) },
	)
}

// read puts the requests of the stream into their lines, as they come.
func (q *Queue) read(ctx context.Context, waiting *lines, begin *jetstream.StreamInfo) error {
	bell := &bell{conn: q.Bus.Conn}
	defer bell.stop()
	next, misses, nap := max(1, begin.State.FirstSeq), 0, firstPause
	for ctx.Err() == nil {
		if waiting.size() >= maxWaiting {
			lifecycle.Sleep(ctx, fullPause)
			continue
		}
		if err := bell.arm(); err != nil {
			return err
		}
		found, err := q.stream.from(ctx, next, readBatch)
		if err != nil {
			return err
		}
		for i := range found {
			waiting.add(customerOf(found[i].content.subject), found[i].sequence, &found[i].content)
			next = found[i].sequence + 1
		}
		if len(found) > 0 {
			misses, nap = 0, firstPause
			continue
		}
		if misses++; misses%lookAfter == 0 {
			if err := q.same(ctx, begin, next); err != nil {
				return err
			}
		}
		if bell.wait(ctx, nap) {
			nap = firstPause
		} else {
			nap = min(2*nap, maxPause)
		}
	}
	return ctx.Err()
}

// customerOf is whose line a request stands in. Those of nobody share one.
func customerOf(name string) string {
	if customer := subject.RunRequestCustomer(name); subject.ValidID(customer) {
		return customer
	}
	return ""
}

var errAnother = errors.New("the stream of run requests was made anew")

// same fails when the stream is not the one that was read so far: its sequences mean other requests.
func (q *Queue) same(ctx context.Context, begin *jetstream.StreamInfo, next uint64) error {
	now, err := q.stream.info(ctx)
	if err == nil && (!now.Created.Equal(begin.Created) || now.State.LastSeq+1 < next) {
		err = errAnother
	}
	return err
}

// admit hands on those whose turn it is.
func (q *Queue) admit(ctx context.Context, waiting *lines, handle func(ctx context.Context, messages []jetstream.Msg)) error {
	limit := window{pipeline: q.Pipeline, clock: q.Clock}
	for ctx.Err() == nil {
		if waiting.size() == 0 {
			waiting.wait(ctx, maxPause)
			continue
		}
		room, err := limit.open(ctx)
		if err != nil {
			return err
		}
		if room < minRoom {
			lifecycle.Sleep(ctx, pause)
			continue
		}
		turns := waiting.take(min(room, batch), q.Clock())
		if len(turns) == 0 { // what is left is under way, or to be tried again later
			waiting.wait(ctx, pause)
			continue
		}
		limit.admit(len(turns))
		if err := q.hand(ctx, waiting, turns, handle); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (q *Queue) hand(ctx context.Context, waiting *lines, turns []turn, handle func(ctx context.Context, messages []jetstream.Msg)) error {
	missing := make([]uint64, 0, len(turns))
	for i := range turns {
		if turns[i].content == nil {
			missing = append(missing, turns[i].sequence)
		}
	}
	if len(missing) > 0 {
		found, err := q.stream.at(ctx, missing)
		if err != nil {
			return err
		}
		for i := range turns {
			if turns[i].content == nil {
				turns[i].content = found[turns[i].sequence]
			}
		}
	}
	settled := func(one *turn, again time.Duration) {
		if again == 0 {
			waiting.end(*one)
		} else {
			waiting.again(*one, q.Clock().Add(again))
		}
	}
	messages := make([]jetstream.Msg, 0, len(turns))
	for i := range turns {
		if turns[i].content == nil {
			waiting.end(turns[i]) // somebody removed it from the stream
			continue
		}
		messages = append(messages, &message{turn: turns[i], settled: settled})
	}
	if len(messages) > 0 {
		handle(ctx, messages)
	}
	for _, one := range messages {
		if left, ok := one.(*message); ok && !left.done {
			_ = left.Nak()
		}
	}
	return nil
}

// remove takes from the stream what has ended.
func (q *Queue) remove(ctx context.Context, waiting *lines) error {
	for lifecycle.Sleep(ctx, removeEvery) {
		ended := waiting.removable(maxRemovals)
		if ended.floor == 0 {
			continue
		}
		if err := q.stream.remove(ctx, ended); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// bell rings when a request is published. It rings once; then it must be armed again, so that under load it costs nothing.
type bell struct {
	conn *nats.Conn
	rope *nats.Subscription
}

func (b *bell) arm() error {
	if b.rope != nil {
		return nil
	}
	rope, err := b.conn.SubscribeSync(subject.AllRuns)
	if err == nil {
		b.rope, err = rope, rope.AutoUnsubscribe(1)
	}
	if err != nil {
		return fmt.Errorf("subscribe to run requests: %w", err)
	}
	return nil
}

// wait tells whether the bell rang within d.
func (b *bell) wait(ctx context.Context, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	_, err := b.rope.NextMsgWithContext(ctx)
	rang := err == nil || ctx.Err() == nil
	if rang {
		b.stop()
	}
	return rang
}

func (b *bell) stop() {
	if b.rope != nil {
		_ = b.rope.Unsubscribe()
		b.rope = nil
	}
}
