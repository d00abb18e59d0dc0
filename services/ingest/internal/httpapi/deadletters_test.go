package httpapi_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/httpapi"
)

// consumer gives messages up until it is mended; then it counts them.
type consumer struct {
	mended    atomic.Bool
	processed atomic.Int64
}

func (s *server) consumer(t *testing.T) *consumer {
	t.Helper()
	c := &consumer{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- s.bus.Consume(ctx, bus.Consumer{
			Stream: subject.StreamRuns, Durable: "test", AckWait: 10 * time.Second, MaxAckPending: 100, Batch: 10,
		}, func(ctx context.Context, messages []jetstream.Msg) {
			for _, message := range messages {
				if c.mended.Load() {
					assert.NoError(t, message.Ack())
					c.processed.Add(1)
				} else {
					s.bus.DeadLetter(ctx, message, errors.New("out of order"))
				}
			}
		})
	}()
	t.Cleanup(func() { cancel(); assert.NoError(t, <-done) })
	return c
}

// deadLetters makes n dead letters of alice's.
func (s *server) deadLetters(t *testing.T, n int) *consumer {
	t.Helper()
	c := s.consumer(t)
	for i := range n {
		_, err := s.bus.JS.Publish(t.Context(), subject.RunRequest("alice"), []byte(`{"n":`+strconv.Itoa(i)+`}`))
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		found, _, err := s.bus.Letters(t.Context(), 0, n+1)
		return err == nil && len(found) == n
	}, 20*time.Second, 5*time.Millisecond)
	return c
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	consumer := s.deadLetters(t, 3)
	const path = "/api/v1/dead-letters"
	sizes, all := pages[httpapi.DeadLetter](t, s, operatorKey, path+"?limit=2")
	require.Equal(t, []int{2, 1}, sizes)
	require.Equal(t, []uint64{3, 2, 1}, []uint64{all[0].Sequence, all[1].Sequence, all[2].Sequence})
	require.Equal(t, "out of order", all[0].Reason)
	require.Empty(t, all[0].Data)

	var letter httpapi.DeadLetter
	s.call(t, operatorKey, "GET", path+"/1", nil).into(t, &letter)
	require.Equal(t, []any{"RUNS", "galley.run.request.alice", uint64(1), "test", "text", `{"n":0}`, 7}, []any{
		letter.Stream, letter.Subject, letter.Original, letter.Consumer, letter.Encoding, letter.Data, letter.Size,
	})
	require.Equal(t, []string{"out of order"}, letter.Headers[bus.HeaderReason])

	consumer.mended.Store(true)
	require.Equal(t, 202, s.call(t, operatorKey, "POST", path+"/1/redrive", nil).status)
	require.Eventually(t, func() bool { return consumer.processed.Load() == 1 }, 20*time.Second, 5*time.Millisecond)
	require.Equal(t, 404, s.call(t, operatorKey, "POST", path+"/1/redrive", nil).status)
	require.Equal(t, 204, s.call(t, operatorKey, "DELETE", path+"/2", nil).status)
	require.Equal(t, 404, s.call(t, operatorKey, "DELETE", path+"/2", nil).status)
	require.Equal(t, 404, s.call(t, operatorKey, "GET", path+"/2", nil).status)
	require.Equal(t, 422, s.call(t, operatorKey, "GET", path+"/x", nil).status)
	_, all = pages[httpapi.DeadLetter](t, s, operatorKey, path+"?limit=2")
	require.Len(t, all, 1)
	require.Equal(t, int64(1), consumer.processed.Load(), "once")

	// One that came from elsewhere and is no text.
	_, err := s.bus.JS.Publish(t.Context(), subject.DeadLetter("RUNS"), []byte{0xff, 0})
	require.NoError(t, err)
	s.call(t, operatorKey, "GET", path+"/4", nil).into(t, &letter)
	require.Equal(t, []string{"base64", "/wA="}, []string{letter.Encoding, letter.Data})
	require.Equal(t, 409, s.call(t, operatorKey, "POST", path+"/4/redrive", nil).status)
	require.Equal(t, 204, s.call(t, operatorKey, "DELETE", path+"/4", nil).status)

	var subjects []string
	activities, err := s.bus.JS.OrderedConsumer(t.Context(), subject.StreamActivity, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject.Activity("*", "deadletter.*")},
	})
	require.NoError(t, err)
	for range 3 {
		message, err := activities.Next(jetstream.FetchMaxWait(20 * time.Second))
		require.NoError(t, err)
		subjects = append(subjects, message.Subject())
	}
	require.Equal(t, "galley.activity.alice.deadletter.redriven galley.activity.alice.deadletter.discarded galley.activity.-.deadletter.discarded",
		strings.Join(subjects, " "))
}
