package bus

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/galley-engine/galley/pkg/metric"
)

const (
	labelStream   = "stream"
	labelConsumer = "consumer"
)

// metrics are what a Bus counts of its own consumers and tails. Their names come from the program, so they are few.
type metrics struct {
	batches       *prometheus.HistogramVec
	interruptions *prometheus.CounterVec
	deadLetters   *prometheus.CounterVec
	pending       *prometheus.Desc
	unsettled     *prometheus.Desc

	mu      sync.Mutex
	readers map[*reader]struct{}
}

func newMetrics() *metrics {
	labels := []string{labelStream, labelConsumer}
	return &metrics{
		batches: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "galley_consumer_batch_messages", Help: "Messages that were handled together; its sum counts all messages handled.",
			Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000},
		}, labels),
		interruptions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "galley_consumer_interruptions_total", Help: "How often a consumer failed and began again where it was.",
		}, labels),
		deadLetters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "galley_dead_letters_total", Help: "Messages given up by this service, by the stream that they were in.",
		}, []string{labelStream}),
		pending: prometheus.NewDesc("galley_consumer_pending_messages",
			"Messages in the stream that the consumer has not been given yet, over all processes.", labels, nil),
		unsettled: prometheus.NewDesc("galley_consumer_unsettled_messages",
			"Messages that the consumer was given and has not settled yet, over all processes.", labels, nil),
		readers: make(map[*reader]struct{}),
	}
}

// reader is a consumer or a tail while this process runs it.
type reader struct {
	stream, name  string
	batches       prometheus.Observer
	interruptions prometheus.Counter
	// consumers are those of JetStream, nil before the first were made. After a failure the old ones answer until there are new ones.
	consumers atomic.Pointer[[]jetstream.Consumer]
	// applied is the place, among its consumer's deliveries, of the last message that took effect; for a tail, which acknowledges nothing.
	applied atomic.Uint64
	tail    bool
}

// read has the consumer measured until forget is called.
func (m *metrics) read(stream, name string, tail bool) (r *reader, forget func()) {
	r = &reader{
		stream: stream, name: name, tail: tail,
		batches: m.batches.WithLabelValues(stream, name), interruptions: m.interruptions.WithLabelValues(stream, name),
	}
	if !tail {
		m.deadLetters.WithLabelValues(stream) // a counter that begins with its first letter has not risen
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.readers[r] = struct{}{}
	return r, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.readers, r)
	}
}

// begin is called with consumers that have given nothing yet.
func (r *reader) begin(consumers []jetstream.Consumer) {
	r.applied.Store(0)
	r.consumers.Store(&consumers)
}

// Describe implements prometheus.Collector.
func (b *Bus) Describe(descriptions chan<- *prometheus.Desc) {
	b.metrics.batches.Describe(descriptions)
	b.metrics.interruptions.Describe(descriptions)
	b.metrics.deadLetters.Describe(descriptions)
	descriptions <- b.metrics.pending
	descriptions <- b.metrics.unsettled
}

// Collect implements prometheus.Collector. How far behind the consumers are it asks the server, all at the same time.
func (b *Bus) Collect(found chan<- prometheus.Metric) {
	b.metrics.batches.Collect(found)
	b.metrics.interruptions.Collect(found)
	b.metrics.deadLetters.Collect(found)
	ctx, cancel := context.WithTimeout(context.Background(), metric.Timeout)
	defer cancel()
	b.metrics.mu.Lock()
	readers := make([]*reader, 0, len(b.metrics.readers))
	for r := range b.metrics.readers {
		readers = append(readers, r)
	}
	b.metrics.mu.Unlock()
	var group sync.WaitGroup
	for _, r := range readers {
		group.Go(func() { b.collect(ctx, r, found) })
	}
	group.Wait()
}

func (b *Bus) collect(ctx context.Context, r *reader, found chan<- prometheus.Metric) {
	consumers := r.consumers.Load()
	if consumers == nil {
		return // there is nothing to ask yet, which its interruptions tell
	}
	pending, unsettled, err := b.behind(ctx, r, *consumers)
	if err != nil {
		found <- prometheus.NewInvalidMetric(b.metrics.pending, err)
		return
	}
	found <- prometheus.MustNewConstMetric(b.metrics.pending, prometheus.GaugeValue, float64(pending), r.stream, r.name)
	found <- prometheus.MustNewConstMetric(b.metrics.unsettled, prometheus.GaugeValue, float64(unsettled), r.stream, r.name)
}

// behind adds up the reader's consumers.
func (b *Bus) behind(ctx context.Context, r *reader, consumers []jetstream.Consumer) (pending, unsettled uint64, err error) {
	for _, consumer := range consumers {
		known := consumer.CachedInfo()
		if known == nil {
			continue
		}
		// Not with its own Info: that of a tail's holds up what it delivers meanwhile.
		now, err := b.JS.Consumer(ctx, known.Stream, known.Name)
		if err != nil {
			return 0, 0, fmt.Errorf("look up %s of %s: %w", r.name, r.stream, err)
		}
		info := now.CachedInfo()
		pending += info.NumPending
		if !r.tail {
			unsettled += uint64(info.NumAckPending) //nolint:gosec // the server counts up from 0
		} else if applied := r.applied.Load(); applied < info.Delivered.Consumer {
			unsettled += info.Delivered.Consumer - applied
		}
	}
	return pending, unsettled, nil
}

// Streams measures the streams themselves; one service of an installation is enough for that.
func (b *Bus) Streams() prometheus.Collector {
	labels := []string{labelStream}
	return &streams{
		bus:      b,
		messages: prometheus.NewDesc("galley_stream_messages", "Messages that the stream holds.", labels, nil),
		bytes:    prometheus.NewDesc("galley_stream_bytes", "What they take on disk.", labels, nil),
	}
}

type streams struct {
	bus             *Bus
	messages, bytes *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (s *streams) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- s.messages
	descriptions <- s.bytes
}

// Collect implements prometheus.Collector.
func (s *streams) Collect(found chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), metric.Timeout)
	defer cancel()
	var group sync.WaitGroup
	for _, config := range s.bus.streams() {
		group.Go(func() {
			stream, err := s.bus.JS.Stream(ctx, config.Name)
			if err != nil {
				found <- prometheus.NewInvalidMetric(s.messages, fmt.Errorf("look up stream %s: %w", config.Name, err))
				return
			}
			state := stream.CachedInfo().State
			found <- prometheus.MustNewConstMetric(s.messages, prometheus.GaugeValue, float64(state.Msgs), config.Name)
			found <- prometheus.MustNewConstMetric(s.bytes, prometheus.GaugeValue, float64(state.Bytes), config.Name)
		})
	}
	group.Wait()
}
