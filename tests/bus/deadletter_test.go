package bus_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/subject"
)

func letters(t *testing.T, messages *bus.Bus, want int) []bus.Letter {
	t.Helper()
	var found []bus.Letter
	require.Eventually(t, func() bool {
		var err error
		found, _, err = messages.Letters(t.Context(), 0, 100)
		return err == nil && len(found) == want
	}, 20*time.Second, 10*time.Millisecond)
	return found
}

func empty(t *testing.T, messages *bus.Bus, name string) {
	t.Helper()
	require.Eventually(t, func() bool {
		stream, err := messages.JS.Stream(t.Context(), name)
		return err == nil && stream.CachedInfo().State.Msgs == 0
	}, 20*time.Second, 10*time.Millisecond, name)
}

// TestRedrive: a poisoned message is processed once after the defect is gone, as the message that it was.
func TestRedrive(t *testing.T) {
	t.Parallel()
	messages := open(t, testkit.NATS(t))
	var mended atomic.Bool
	arrived := make(chan jetstream.Msg, 10)
	consumer := runs()
	consumer.Filters = []string{request, "galley.run.request.cust_002"} // of several, each is a consumer with a name of its own
	start(t, func(ctx context.Context) error {
		return messages.Consume(ctx, consumer, func(ctx context.Context, batch []jetstream.Msg) {
			for _, message := range batch {
				if !mended.Load() {
					messages.DeadLetter(ctx, message, errors.New("the defect\nis there"))
					continue
				}
				assert.NoError(t, message.Ack())
				arrived <- message
			}
		})
	})
	sent := nats.NewMsg(request)
	sent.Data = []byte("data")
	sent.Header.Set("Nats-Msg-Id", "order-7")
	sent.Header.Set("ce-type", "test")
	ack, err := messages.JS.PublishMsg(t.Context(), sent)
	require.NoError(t, err)

	// As long as the defect is there, a redriven message is another letter.
	first := letters(t, messages, 1)[0]
	require.Equal(t, "the defect is there", first.Header.Get(bus.HeaderReason))
	require.Equal(t, []string{subject.StreamRuns, "worker-cust_001"}, []string{first.Header.Get(bus.HeaderStream), first.Header.Get(bus.HeaderConsumer)})
	require.NoError(t, messages.Redrive(t.Context(), first))
	var second bus.Letter
	require.Eventually(t, func() bool {
		found, _, err := messages.Letters(t.Context(), 0, 100)
		if err != nil || len(found) != 1 || found[0].Sequence == first.Sequence {
			return false
		}
		second = found[0]
		return true
	}, 20*time.Second, 10*time.Millisecond)
	require.ErrorIs(t, messages.Redrive(t.Context(), first), bus.ErrNoLetter)
	empty(t, messages, subject.StreamRedrives)

	mended.Store(true)
	require.NoError(t, messages.Redrive(t.Context(), second))
	message := <-arrived
	require.Equal(t, request, message.Subject())
	require.Equal(t, "data", string(message.Data()))
	require.Equal(t, nats.Header{"Nats-Msg-Id": {"order-7"}, "ce-type": {"test"}}, message.Headers())
	meta, err := message.Metadata()
	require.NoError(t, err)
	require.Equal(t, ack.Sequence, meta.Sequence.Stream)
	require.Equal(t, []string{subject.StreamRuns, "worker-cust_001"}, []string{meta.Stream, meta.Consumer})
	require.WithinDuration(t, first.Died, meta.Timestamp, 10*time.Second)
	require.GreaterOrEqual(t, meta.NumDelivered, uint64(2))
	for _, stream := range []string{subject.StreamRuns, subject.StreamRedrives, subject.StreamDeadLetters} {
		empty(t, messages, stream)
	}
	require.Empty(t, arrived, "once")
}

// TestPanics: a message with which the handler panics becomes a dead letter after five tries; those beside it are processed, and so is
// one with which the handler panics only for a while.
func TestPanics(t *testing.T) {
	t.Parallel()
	messages := open(t, testkit.NATS(t))
	publish(t, messages, request, 0, 5)
	tries := map[string]int{}
	var got collection
	start(t, func(ctx context.Context) error {
		return messages.Consume(ctx, runs(), func(_ context.Context, batch []jetstream.Msg) {
			for _, message := range batch {
				text := string(message.Data())
				tries[text]++
				if text == "message-2" || text == "message-3" && tries[text] < 4 {
					panic("cannot stand " + text)
				}
				if message.Ack() == nil {
					got.add(message.Data())
				}
			}
		})
	})
	letter := letters(t, messages, 1)[0]
	require.Equal(t, "message-2", string(letter.Data))
	require.Equal(t, "the handler failed 5 times: panic: cannot stand message-2", letter.Header.Get(bus.HeaderReason))
	require.Eventually(t, func() bool { return len(got.all()) == 4 }, 20*time.Second, 10*time.Millisecond)
	all := got.all()
	slices.Sort(all)
	require.Equal(t, []string{"message-0", "message-1", "message-3", "message-4"}, all)
	empty(t, messages, subject.StreamRuns)
}

func TestLettersAreListedNewestFirst(t *testing.T) {
	t.Parallel()
	messages := open(t, testkit.NATS(t))
	for range 7 {
		_, err := messages.JS.Publish(t.Context(), subject.DeadLetter("RUNS"), []byte("x"))
		require.NoError(t, err)
	}
	sequences := func(found []bus.Letter) (list []uint64) {
		for _, letter := range found {
			list = append(list, letter.Sequence)
		}
		return list
	}
	third, err := messages.Letter(t.Context(), 3)
	require.NoError(t, err)
	require.NoError(t, messages.Discard(t.Context(), third))
	require.ErrorIs(t, messages.Discard(t.Context(), third), bus.ErrNoLetter)
	_, err = messages.Letter(t.Context(), 3)
	require.ErrorIs(t, err, bus.ErrNoLetter)
	require.ErrorIs(t, messages.Redrive(t.Context(), bus.Letter{Sequence: 1}), bus.ErrUnredrivable)

	found, more, err := messages.Letters(t.Context(), 0, 3)
	require.NoError(t, err)
	require.Equal(t, []any{[]uint64{7, 6, 5}, true}, []any{sequences(found), more})
	found, more, err = messages.Letters(t.Context(), 5, 3)
	require.NoError(t, err)
	require.Equal(t, []any{[]uint64{4, 2, 1}, false}, []any{sequences(found), more})
}

// TestForeignRedrives: what anybody may publish does not come to the handler, and does not stay.
func TestForeignRedrives(t *testing.T) {
	t.Parallel()
	messages := open(t, testkit.NATS(t))
	for _, header := range []nats.Header{
		{},
		{bus.HeaderSequence: {"x"}},
		{bus.HeaderSequence: {"1"}, bus.HeaderTime: {"yesterday"}},
		{bus.HeaderSequence: {"1"}, bus.HeaderTime: {"2026-01-02T03:04:05Z"}, bus.HeaderSubject: {request}},
	} {
		message := nats.NewMsg(subject.Redrive(subject.StreamRuns, "worker"))
		message.Header = header
		_, err := messages.JS.PublishMsg(t.Context(), message)
		require.NoError(t, err)
	}
	var got collection
	start(t, func(ctx context.Context) error {
		return messages.Consume(ctx, runs(), func(_ context.Context, batch []jetstream.Msg) {
			for _, message := range batch {
				got.add(message.Data())
			}
		})
	})
	empty(t, messages, subject.StreamRedrives)
	require.Empty(t, got.all())
}
