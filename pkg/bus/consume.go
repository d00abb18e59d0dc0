package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/subject"
)

// Consumer describes a durable consumer whose messages several processes may share.
type Consumer struct {
	Stream  string
	Durable string
	// Filters are the subjects wanted; none means all. Each of several is a JetStream consumer of its own, named after the durable
	// and its last token: one consumer with several filters has the server search its index of all subjects again and again.
	Filters []string
	// AckWait is after how long an unacknowledged message is delivered again.
	AckWait time.Duration
	// MaxAckPending bounds the messages delivered and not yet acknowledged, over all processes, for each filter.
	MaxAckPending int
	// Batch is the most messages that one call of the handler gets.
	Batch int
}

const (
	missedHeartbeats = 3
	// maxPullBytes bounds what waits in this process, far above the largest message.
	maxPullBytes = 32 << 20
)

// Consume calls handle with batches of messages, one call at a time, until ctx ends: whatever has arrived, up to Batch, without
// waiting for more. The handler acknowledges each message itself, after its effect is committed. A lost connection, stream or
// consumer is waited for and made again; Consume returns only when ctx ends, and then nil.
//
// Dead letters of this consumer that are redriven come to the handler as the messages that they were. A panic of the handler is caught;
// a message with which it panics again and again becomes a dead letter.
func (b *Bus) Consume(ctx context.Context, consumer Consumer, handle func(ctx context.Context, messages []jetstream.Msg)) error {
	return b.consume(ctx, consumer, b.durables, handle)
}

// ConsumeRedriven is Consume for the redriven dead letters alone, of a consumer that reads its stream in another way.
func (b *Bus) ConsumeRedriven(ctx context.Context, consumer Consumer, handle func(ctx context.Context, messages []jetstream.Msg)) error {
	return b.consume(ctx, consumer, func(ctx context.Context, consumer Consumer) ([]jetstream.Consumer, error) {
		again, err := b.redriven(ctx, consumer, subject.Redrive(consumer.Stream, consumer.Durable))
		return []jetstream.Consumer{again}, err
	}, handle)
}

func (b *Bus) consume(
	ctx context.Context, consumer Consumer, find func(ctx context.Context, consumer Consumer) ([]jetstream.Consumer, error),
	handle func(ctx context.Context, messages []jetstream.Msg),
) error {
	log := b.log.With().Str("stream", consumer.Stream).Str("consumer", consumer.Durable).Logger()
	measured, forget := b.metrics.read(consumer.Stream, consumer.Durable, false)
	defer forget()
	report := func(err error) {
		measured.interruptions.Inc()
		log.Warn().Err(err).Msg("consumer interrupted, trying again")
	}
	guarded := b.Guard(handle)
	_ = lifecycle.Retry(ctx, report, func(ctx context.Context) error {
		if err := b.Provision(ctx); err != nil {
			return err
		}
		consumers, err := find(ctx, consumer)
		if err != nil {
			return err
		}
		measured.begin(consumers)
		return follow(ctx, consumers, consumer.Batch, 0, func(messages []jetstream.Msg) error {
			measured.batches.Observe(float64(len(messages)))
			guarded(ctx, messages)
			return nil
		})
	})
	return nil // nothing but the end of ctx ends the retries
}

func (b *Bus) durables(ctx context.Context, consumer Consumer) ([]jetstream.Consumer, error) {
	names := map[string][]string{consumer.Durable: consumer.Filters}
	if len(consumer.Filters) > 1 {
		names = make(map[string][]string, len(consumer.Filters))
		for _, filter := range consumer.Filters {
			names[consumer.Durable+"-"+filter[strings.LastIndexByte(filter, '.')+1:]] = []string{filter}
		}
	}
	durables := make([]jetstream.Consumer, 0, len(names)+1)
	redriven := make([]string, 0, len(names))
	for name, filters := range names {
		durable, err := b.JS.CreateOrUpdateConsumer(ctx, consumer.Stream, jetstream.ConsumerConfig{
			Durable: name, FilterSubjects: filters, AckPolicy: jetstream.AckExplicitPolicy,
			AckWait: consumer.AckWait, MaxAckPending: consumer.MaxAckPending, MaxDeliver: -1,
		})
		if err != nil {
			return nil, fmt.Errorf("create consumer %s: %w", name, err)
		}
		durables = append(durables, durable)
		redriven = append(redriven, subject.Redrive(consumer.Stream, name))
	}
	again, err := b.redriven(ctx, consumer, redriven...)
	if err != nil {
		return nil, err
	}
	return append(durables, again), nil
}

func (b *Bus) redriven(ctx context.Context, consumer Consumer, subjects ...string) (jetstream.Consumer, error) {
	again, err := b.JS.CreateOrUpdateConsumer(ctx, subject.StreamRedrives, jetstream.ConsumerConfig{
		Durable: consumer.Stream + "-" + consumer.Durable, FilterSubjects: subjects, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: consumer.AckWait, MaxAckPending: consumer.MaxAckPending, MaxDeliver: -1,
	})
	if err != nil {
		return nil, fmt.Errorf("create consumer of redriven messages: %w", err)
	}
	return redrives{Consumer: again, log: b.log}, nil
}

// follow hands on the consumers' messages in batches until ctx ends, the handler fails or the subscription is beyond repair. A
// batch that is not full waits linger for more. It returns an error in every case.
func follow(
	ctx context.Context, consumers []jetstream.Consumer, batch int, linger time.Duration, handle func([]jetstream.Msg) error,
) error {
	arrived := make(chan jetstream.Msg, batch)
	broken := make(chan error, len(consumers))
	done := make(chan struct{})
	defer release(arrived)
	defer close(done)
	for _, consumer := range consumers {
		subscription, err := subscribe(consumer, batch, arrived, broken, done)
		if err != nil {
			return err
		}
		defer subscription.Stop()
	}
	messages := make([]jetstream.Msg, 0, batch)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-broken:
			return err
		case message := <-arrived:
			messages = drain(ctx, append(messages[:0], message), arrived, linger)
			if err := handle(messages); err != nil {
				return err
			}
		}
	}
}

// subscribe has the consumer's messages arrive until done is closed; broken is told when that is beyond repair.
func subscribe(
	consumer jetstream.Consumer, batch int, arrived chan<- jetstream.Msg, broken chan<- error, done <-chan struct{},
) (jetstream.ConsumeContext, error) {
	missed := 0
	subscription, err := consumer.Consume(func(message jetstream.Msg) {
		select {
		case arrived <- message:
		case <-done:
		}
	}, jetstream.PullMaxMessagesWithBytesLimit(batch, maxPullBytes), jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		// The client repairs a lost connection by itself. A consumer that stays silent may be gone: look again from the start.
		if errors.Is(err, nats.ErrNoHeartbeat) || errors.Is(err, jetstream.ErrNoHeartbeat) {
			if missed++; missed < missedHeartbeats {
				return
			}
		} else if !errors.Is(err, jetstream.ErrConsumerDeleted) && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return
		}
		select {
		case broken <- err:
		default:
		}
	}))
	if err != nil {
		return nil, fmt.Errorf("subscribe to consumer: %w", err)
	}
	go func() {
		select {
		case <-subscription.Closed():
			select {
			case broken <- errors.New("the subscription was closed"):
			default:
			}
		case <-done:
		}
	}()
	return subscription, nil
}

func drain(ctx context.Context, messages []jetstream.Msg, arrived <-chan jetstream.Msg, linger time.Duration) []jetstream.Msg {
	var timeout <-chan time.Time
	if linger > 0 {
		timer := time.NewTimer(linger)
		defer timer.Stop()
		timeout = timer.C
	}
	for len(messages) < cap(messages) {
		select {
		case message := <-arrived:
			messages = append(messages, message)
			continue
		default:
		}
		if linger == 0 {
			return messages
		}
		select {
		case message := <-arrived:
			messages = append(messages, message)
		case <-timeout:
			return messages
		case <-ctx.Done():
			return messages
		}
	}
	return messages
}

// release gives back what was delivered and not handled, so that another process need not wait for AckWait.
func release(arrived <-chan jetstream.Msg) {
	for {
		select {
		case message := <-arrived:
			_ = message.Nak()
		default:
			return
		}
	}
}
