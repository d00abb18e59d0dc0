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
	// Name is for the log.
	Name    string
	Filters []string
	// Batch is the most messages that one call of apply gets.
	Batch int
	// Linger is how long a batch that is not full waits for more: fewer, larger transactions, for a projection that much later.
	Linger time.Duration
	// Position reads the sequence of the last message that took effect, 0 before the first.
	Position func(ctx context.Context) (uint64, error)
	// Apply stores the effect of the messages and, in the same transaction, the sequence of the last one as the new position. It
	// must fail when the stored position is no longer the one that it follows.
	Apply func(ctx context.Context, after uint64, messages []Message) error
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
	report := func(err error) { log.Warn().Err(err).Msg("tail interrupted, trying again") }
	err := lifecycle.Retry(ctx, report, func(ctx context.Context) error {
		stored, position, err := b.start(ctx, tail)
		if err != nil {
			return err
		}
		consumer, err := b.JS.OrderedConsumer(ctx, tail.Stream, jetstream.OrderedConsumerConfig{
			FilterSubjects: tail.Filters, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: position + 1,
		})
		if err != nil {
			return fmt.Errorf("create ordered consumer: %w", err)
		}
		batch := make([]Message, 0, tail.Batch)
		return follow(ctx, consumer, tail.Batch, tail.Linger, func(messages []jetstream.Msg) error {
			batch = batch[:0]
			for _, message := range messages {
				meta, err := message.Metadata()
				if err != nil {
					return fmt.Errorf("read metadata: %w", err)
				}
				if meta.Sequence.Stream > position {
					batch = append(batch, Message{Msg: message, Sequence: meta.Sequence.Stream, Stored: meta.Timestamp})
				}
			}
			if len(batch) == 0 {
				return nil
			}
			if err := tail.Apply(ctx, stored, batch); err != nil {
				return fmt.Errorf("apply messages after %d: %w", position, err)
			}
			position = batch[len(batch)-1].Sequence
			stored = position
			return nil
		})
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// start gives the stored position and the one to follow from. They differ when the stream ends before the stored position: then
// it was made anew and is read from its beginning, and the owner's own keys keep what it knows already from taking effect again.
func (b *Bus) start(ctx context.Context, tail Tail) (stored, position uint64, err error) {
	if err := b.Provision(ctx); err != nil {
		return 0, 0, err
	}
	stored, err = tail.Position(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("read position: %w", err)
	}
	stream, err := b.JS.Stream(ctx, tail.Stream)
	if err != nil {
		return 0, 0, fmt.Errorf("look up stream: %w", err)
	}
	state := stream.CachedInfo().State
	if stored > state.LastSeq {
		b.log.Error().Str("tail", tail.Name).Uint64("position", stored).Uint64("last", state.LastSeq).
			Msg("the stream was made anew, reading it from its beginning")
		return stored, 0, nil
	}
	if stored > 0 && stored+1 < state.FirstSeq {
		b.log.Error().Str("tail", tail.Name).Uint64("position", stored).Uint64("first", state.FirstSeq).
			Msg("the stream dropped messages that this tail had not read")
	}
	return stored, stored, nil
}
