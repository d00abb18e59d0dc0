package bus_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/subject"
)

// tells waits until the collector tells what is wanted of one metric, without its help.
func tells(t *testing.T, collector prometheus.Collector, name string, want ...string) {
	t.Helper()
	var got []string
	require.Eventually(t, func() bool {
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(collector)
		text, err := testutil.GatherAndFormat(registry, expfmt.TypeTextPlain, name)
		if err != nil {
			return false
		}
		got = got[:0]
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "#") {
				got = append(got, strings.TrimSpace(line))
			}
		}
		return strings.Join(got, "\n") == strings.Join(want, "\n")
	}, 20*time.Second, 20*time.Millisecond, "%s tells %s instead of %s", name, &got, want)
}

// TestConsumersTellHowFarBehindTheyAre: what they have not been given, what they have not settled, and what they gave up.
func TestConsumersTellHowFarBehindTheyAre(t *testing.T) {
	t.Parallel()
	server := testkit.NATS(t)
	messages := open(t, server)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	held := make(chan jetstream.Msg, 10)
	ended := make(chan error, 1)
	consumer := runs()
	consumer.MaxAckPending, consumer.AckWait = 2, time.Minute
	go func() {
		ended <- messages.Consume(ctx, consumer, func(_ context.Context, batch []jetstream.Msg) {
			for _, message := range batch {
				held <- message
			}
		})
	}()
	const labels = `{consumer="worker",stream="RUNS"}`
	tells(t, messages, "galley_dead_letters_total", `galley_dead_letters_total{stream="RUNS"} 0`)
	tells(t, messages, "galley_consumer_interruptions_total", "galley_consumer_interruptions_total"+labels+" 0")
	publish(t, messages, request, 0, 5)
	tells(t, messages, "galley_consumer_pending_messages", "galley_consumer_pending_messages"+labels+" 3")
	tells(t, messages, "galley_consumer_unsettled_messages", "galley_consumer_unsettled_messages"+labels+" 2")
	messages.DeadLetter(t.Context(), <-held, errors.New("it is poison"))
	require.NoError(t, (<-held).Ack())
	tells(t, messages, "galley_dead_letters_total", `galley_dead_letters_total{stream="RUNS"} 1`)
	tells(t, messages, "galley_consumer_pending_messages", "galley_consumer_pending_messages"+labels+" 1")

	problems, err := testutil.CollectAndLint(messages)
	require.NoError(t, err)
	require.Empty(t, problems)
	stop()
	require.NoError(t, <-ended)
	tells(t, messages, "galley_consumer_pending_messages")
}

// TestTailsTellHowFarBehindTheyAre also while what they write to is down.
func TestTailsTellHowFarBehindTheyAre(t *testing.T) {
	t.Parallel()
	messages := open(t, testkit.NATS(t))
	up := make(chan struct{})
	var stored uint64
	start(t, func(ctx context.Context) error {
		return messages.Follow(ctx, bus.Tail{
			Stream: subject.StreamActivity, Name: "test", Filter: ">", Batch: 7,
			Position: func(context.Context, string) (uint64, error) { return stored, nil },
			Apply: func(_ context.Context, _ bus.Place, batch []bus.Message) error {
				select {
				case <-up:
					stored = batch[len(batch)-1].Sequence
					return nil
				default:
					return errors.New("the database is down")
				}
			},
		})
	})
	publish(t, messages, activity, 0, 30)
	behind := func() float64 {
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(messages)
		families, err := registry.Gather()
		if err != nil {
			return -1
		}
		sum := 0.0
		for _, family := range families {
			if strings.HasSuffix(family.GetName(), "_messages") && family.GetMetric()[0].GetGauge() != nil {
				sum += family.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return sum
	}
	require.Eventually(t, func() bool { return behind() == 30 }, 20*time.Second, 20*time.Millisecond)
	require.Eventually(t, func() bool {
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(messages)
		text, _ := testutil.GatherAndFormat(registry, expfmt.TypeTextPlain, "galley_consumer_interruptions_total")
		return len(text) > 0 && !strings.HasSuffix(strings.TrimSpace(string(text)), " 0")
	}, 20*time.Second, 20*time.Millisecond)
	close(up)
	require.Eventually(t, func() bool { return behind() == 0 }, 20*time.Second, 20*time.Millisecond)
}

func TestStreamsAreMeasured(t *testing.T) {
	t.Parallel()
	server := testkit.NATS(t)
	messages := open(t, server)
	publish(t, messages, request, 0, 3)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(messages.Streams())
	text, err := testutil.GatherAndFormat(registry, expfmt.TypeTextPlain, "galley_stream_messages")
	require.NoError(t, err)
	require.Contains(t, string(text), `galley_stream_messages{stream="RUNS"} 3`)
	require.Contains(t, string(text), `galley_stream_messages{stream="DEAD_LETTERS"} 0`)
	problems, err := testutil.CollectAndLint(messages.Streams())
	require.NoError(t, err)
	require.Empty(t, problems)
}
