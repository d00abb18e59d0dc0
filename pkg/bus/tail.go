package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/lifecycle"
)

// Tail describes how a projection follows a stream. Its position is stored by its owner in the transaction that stores the
// effect, so nothing is acknowledged and every message takes effect once.
type Tail struct {
	Stream string
	Name   string
	// Filter is the one wildcard wanted.
	Filter string
	// Compacted tells that only the last message of each subject counts: what the stream has dropped is not missed.
	Compacted bool
	// Batch is the most messages that one call of apply gets.
	Batch int
	// Linger is how long a batch that is not full waits for more: fewer, larger transactions, for a projection that much later.
	Linger time.Duration
	// Position reads the stored sequence of the last message that took effect, 0 before the first. The key is the tail's name with
	// the moment at which the stream was made: a stream that was made anew has no position yet.
	Position func(ctx context.Context, key string) (uint64, error)
	// Apply stores the effect of the messages and, in the same transaction, the sequence of the last one as the new position. It
	// must fail when the stored position is no longer the one that it follows.
	Apply func(ctx context.Context, after Place, messages []Message) error
}

// Place is a stored position.
type Place struct {
	Key      string
	Sequence uint64
}

// Message is a stored message with its place in the stream.
type Message struct {
	jetstream.Msg
	Sequence uint64
	Stored   time.Time
}

// Follow applies the stream's messages in order until ctx ends. After any failure it reads the position again and goes on from
// there. It returns only when ctx ends, and then nil.
func (b *Bus) Follow(ctx context.Context, tail Tail) error {
	log := b.log.With().Str("stream", tail.Stream).Str("tail", tail.Name).Logger()
	measured, forget := b.metrics.read(tail.Stream, tail.Name, true)
	defer forget()
	report := func(err error) {
		measured.interruptions.Inc()
		log.Warn().Err(err).Msg("tail interrupted, trying again")
	}
	_ = lifecycle.Retry(ctx, report, func(ctx context.Context) error {
		place, err := b.start(ctx, tail)
		if err != nil {
			return err
		}
		consumer, err := b.JS.OrderedConsumer(ctx, tail.Stream, jetstream.OrderedConsumerConfig{
			FilterSubjects: []string{tail.Filter}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: place.Sequence + 1,
		})
		if err != nil {
			return fmt.Errorf("create ordered consumer: %w", err)
		}
		measured.begin([]jetstream.Consumer{consumer})
		batch := make([]Message, 0, tail.Batch)
		return follow(ctx, []jetstream.Consumer{consumer}, tail.Batch, tail.Linger, func(messages []jetstream.Msg) error {
			batch = batch[:0]
			var delivered uint64
			for _, message := range messages {
				meta, err := message.Metadata()
				if err != nil {
					return fmt.Errorf("read metadata: %w", err)
				}
				delivered = meta.Sequence.Consumer
				if meta.Sequence.Stream > place.Sequence {
					batch = append(batch, Message{Msg: message, Sequence: meta.Sequence.Stream, Stored: meta.Timestamp})
				}
			}
			if len(batch) == 0 {
				measured.applied.Store(delivered)
				return nil
			}
			if err := tail.Apply(ctx, place, batch); err != nil {
				return fmt.Errorf("apply messages after %d: %w", place.Sequence, err)
			}
			place.Sequence = batch[len(batch)-1].Sequence
			measured.applied.Store(delivered)
			measured.batches.Observe(float64(len(batch)))
			return nil
		})
	})
	return nil // nothing but the end of ctx ends the retries
}

// start gives the stored position.
func (b *Bus) start(ctx context.Context, tail Tail) (Place, error) {
	if err := b.Provision(ctx); err != nil {
		return Place{}, err
	}
	stream, err := b.JS.Stream(ctx, tail.Stream)
	if err != nil {
		return Place{}, fmt.Errorf("look up stream: %w", err)
	}
	info := stream.CachedInfo()
	place := Place{Key: tail.Name + "@" + info.Created.UTC().Format(time.RFC3339Nano)}
	if place.Sequence, err = tail.Position(ctx, place.Key); err != nil {
		return Place{}, fmt.Errorf("read position: %w", err)
	}
	if !tail.Compacted && place.Sequence+1 < info.State.FirstSeq {
		b.log.Error().Str("tail", tail.Name).Uint64("position", place.Sequence).Uint64("first", info.State.FirstSeq).
			Msg("the stream dropped messages that this tail had not read")
	}
	return place, nil
}
