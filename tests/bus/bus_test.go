// Package bus_test tries pkg/bus on a real server: restarts, vanished consumers, poison messages, positions.
package bus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/pkg/traceparent"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	request  = "galley.run.request.cust_001"
	activity = "galley.activity.cust_001.bus.tested"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func open(t *testing.T, server *testkit.NATSServer) *bus.Bus {
	t.Helper()
	conn, err := bus.Connect(server.URL(), t.Name())
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	messages, err := bus.New(conn, bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	require.Eventually(t, func() bool { return messages.Provision(t.Context()) == nil }, 20*time.Second, 20*time.Millisecond)
	return messages
}

// collection gathers what handlers saw.
type collection struct {
	mu   sync.Mutex
	seen []string
}

func (c *collection) add(data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, string(data))
}

func (c *collection) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.seen...)
}

func publish(t *testing.T, messages *bus.Bus, name string, from, to int) (want []string) {
	t.Helper()
	for n := from; n < to; n++ {
		text := fmt.Sprintf("message-%d", n)
		require.Eventually(t, func() bool {
			_, err := messages.JS.Publish(t.Context(), name, []byte(text), jetstream.WithMsgID(text))
			return err == nil
		}, 20*time.Second, 20*time.Millisecond)
		want = append(want, text)
	}
	return want
}

func start(t *testing.T, run func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
}

func runs() bus.Consumer {
	return bus.Consumer{Stream: subject.StreamRuns, Durable: "worker", AckWait: 2 * time.Second, MaxAckPending: 100, Batch: 10}
}

func TestConsumeOutlivesServerAndConsumer(t *testing.T) {
	t.Parallel()
	server := testkit.NATS(t)
	messages := open(t, server)
	var got collection
	start(t, func(ctx context.Context) error {
		return messages.Consume(ctx, runs(), func(_ context.Context, batch []jetstream.Msg) {
			for _, message := range batch {
				if message.Ack() == nil {
					got.add(message.Data())
				}
			}
		})
	})
	want := publish(t, messages, request, 0, 20)
	require.Eventually(t, func() bool { return len(got.all()) == 20 }, 20*time.Second, 10*time.Millisecond)

	server.Restart(t)
	want = append(want, publish(t, messages, request, 20, 40)...)
	require.Eventually(t, func() bool { return len(got.all()) >= 40 }, 30*time.Second, 10*time.Millisecond)

	require.NoError(t, messages.JS.DeleteConsumer(t.Context(), subject.StreamRuns, "worker"))
	want = append(want, publish(t, messages, request, 40, 60)...)
	require.Eventually(t, func() bool { return len(got.all()) >= 60 }, 60*time.Second, 10*time.Millisecond)
	require.Subset(t, got.all(), want)
}

func TestDeadLetterKeepsTheMessageAndSaysWhy(t *testing.T) {
	t.Parallel()
	messages := open(t, testkit.NATS(t))
	start(t, func(ctx context.Context) error {
		return messages.Consume(ctx, runs(), func(ctx context.Context, batch []jetstream.Msg) {
			for _, message := range batch {
				messages.DeadLetter(ctx, message, errors.New("it is poison"))
			}
		})
	})
	publish(t, messages, request, 0, 1)
	letters, err := messages.JS.OrderedConsumer(t.Context(), subject.StreamDeadLetters, jetstream.OrderedConsumerConfig{})
	require.NoError(t, err)
	letter, err := letters.Next(jetstream.FetchMaxWait(20 * time.Second))
	require.NoError(t, err)
	require.Equal(t, "message-0", string(letter.Data()))
	require.Equal(t, "it is poison", letter.Headers().Get(bus.HeaderReason))
	require.Equal(t, request, letter.Headers().Get(bus.HeaderSubject))
	require.Eventually(t, func() bool {
		stream, err := messages.JS.Stream(t.Context(), subject.StreamRuns)
		return err == nil && stream.CachedInfo().State.Msgs == 0
	}, 20*time.Second, 10*time.Millisecond, "the poison message leaves the queue")
}

// A tail applies each message once and in order although its writes fail now and then and the server restarts.
func TestFollowAppliesOnceInOrder(t *testing.T) {
	t.Parallel()
	server := testkit.NATS(t)
	messages := open(t, server)
	var got collection
	var stored uint64
	calls := 0
	start(t, func(ctx context.Context) error {
		return messages.Follow(ctx, bus.Tail{
			Stream: subject.StreamActivity, Name: "test", Filter: ">", Batch: 7,
			Position: func(context.Context, string) (uint64, error) { return stored, nil },
			Apply: func(_ context.Context, after bus.Place, batch []bus.Message) error {
				if calls++; calls%3 == 0 {
					return errors.New("the database is down")
				}
				if after.Sequence != stored {
					return fmt.Errorf("after %d, stored %d", after.Sequence, stored)
				}
				for _, message := range batch {
					got.add(message.Data())
				}
				stored = batch[len(batch)-1].Sequence
				return nil
			},
		})
	})
	want := publish(t, messages, activity, 0, 30)
	require.Eventually(t, func() bool { return len(got.all()) == 30 }, 30*time.Second, 10*time.Millisecond)
	server.Restart(t)
	want = append(want, publish(t, messages, activity, 30, 60)...)
	require.Eventually(t, func() bool { return len(got.all()) == 60 }, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, want, got.all())
}

func TestQueries(t *testing.T) {
	t.Parallel()
	messages := open(t, testkit.NATS(t))
	_, err := bus.Ask[query.BalanceReply](t.Context(), messages, query.ServiceBilling, query.Balance, query.BalanceRequest{})
	var refused *problem.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, problem.Unavailable, refused.Code)
	require.True(t, refused.Retryable)

	start(t, func(ctx context.Context) error {
		return bus.Answer(ctx, messages, query.ServiceBilling, query.Balance,
			func(_ context.Context, request query.BalanceRequest) (query.BalanceReply, error) {
				switch request.CustomerID {
				case "unknown":
					return query.BalanceReply{}, &problem.Error{Code: problem.NotFound, Message: "no such customer"}
				case "broken":
					return query.BalanceReply{}, errors.New("relation does not exist")
				}
				return query.BalanceReply{CustomerID: request.CustomerID, Posted: 5}, nil
			})
	})
	ask := func(customer string) (query.BalanceReply, error) {
		return bus.Ask[query.BalanceReply](t.Context(), messages, query.ServiceBilling, query.Balance,
			query.BalanceRequest{CustomerID: customer})
	}
	require.Eventually(t, func() bool { _, err := ask("cust_001"); return err == nil }, 10*time.Second, 10*time.Millisecond)
	reply, err := ask("cust_001")
	require.NoError(t, err)
	require.Equal(t, query.BalanceReply{CustomerID: "cust_001", Posted: 5}, reply)
	_, err = ask("unknown")
	require.ErrorAs(t, err, &refused)
	require.Equal(t, problem.NotFound, refused.Code)
	_, err = ask("broken")
	require.ErrorAs(t, err, &refused)
	require.Equal(t, problem.Unavailable, refused.Code)
	require.NotContains(t, refused.Message, "relation")
}

func TestQueriesHandOnTheTrace(t *testing.T) {
	t.Parallel()
	messages := open(t, testkit.NATS(t))
	start(t, func(ctx context.Context) error {
		return bus.Answer(ctx, messages, query.ServiceBilling, query.Balance,
			func(ctx context.Context, _ query.BalanceRequest) (query.BalanceReply, error) {
				return query.BalanceReply{CustomerID: traceparent.From(ctx)}, nil
			})
	})
	ask := func(trace string) (string, error) {
		reply, err := bus.Ask[query.BalanceReply](traceparent.With(t.Context(), trace), messages, query.ServiceBilling, query.Balance,
			query.BalanceRequest{})
		return reply.CustomerID, err
	}
	require.Eventually(t, func() bool { _, err := ask(""); return err == nil }, 10*time.Second, 10*time.Millisecond)
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for sent, want := range map[string]string{trace: trace, "": "", "nonsense": ""} {
		got, err := ask(sent)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestSettingsRefuseARetentionShorterThanAnExecution(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, bus.Settings{Replicas: 2, JournalRetention: time.Hour}.Validate(), "must be longer")
	_, err := bus.New(&nats.Conn{}, bus.Settings{}, zerolog.Nop())
	require.Error(t, err)
}
