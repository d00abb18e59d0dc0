package bus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	callBatch      = 64
	callAckPending = 1024
	callRetry      = time.Second

	// clockSkew is how much earlier than this process's the server's clock may call. Only more than that looks like a message that somebody else
	// sent.
	clockSkew = 5 * time.Second

	// SweepInterval is the time between two sweeps of Calls.
	SweepInterval = time.Minute
)

// ErrUnreadable says that a message can never be handled.
var ErrUnreadable = errors.New("the message cannot be read")

// Calls describes work that is done at times. A message that was delayed until then is a call to look what is due, and does not say what: one
// too many does no harm, and one that was lost is made up for by the sweep. Any number of processes may share the work.
type Calls struct {
	// Durable names the consumer of the stream DELAYS, Filter what calls.
	Durable, Filter string
	// AckWait is after how long a call is given to another process.
	AckWait time.Duration
	// Look does what is due. It returns how long the call has to wait, see [Early]. A call whose error is ErrUnreadable becomes a dead letter, with
	// any other error it is made again in a second.
	Look func(ctx context.Context, call jetstream.Msg) (wait time.Duration, err error)
	// Sweep is called at the start and every SweepInterval.
	Sweep func(ctx context.Context) error
}

// Early is how long a call has to wait that came before its time because this process's clock is behind the server's: 0 for one in time, and
// for one that is so early that nobody who knows the time has sent it.
func Early(at, now time.Time) time.Duration {
	if early := at.Sub(now); early > 0 && early < clockSkew {
		return early
	}
	return 0
}

// Answer answers calls until ctx ends.
func (c Calls) Answer(ctx context.Context, b *Bus) error {
	log := b.log.With().Str("consumer", c.Durable).Logger()
	return lifecycle.Run(ctx,
		func(ctx context.Context) error {
			return b.Consume(ctx, Consumer{
				Stream: subject.StreamDelays, Durable: c.Durable, Filters: []string{c.Filter}, AckWait: c.AckWait,
				MaxAckPending: callAckPending, Batch: callBatch,
			}, func(ctx context.Context, calls []jetstream.Msg) {
				for _, call := range calls {
					c.answer(ctx, b, call)
				}
			})
		},
		func(ctx context.Context) error {
			report := func(err error) { log.Warn().Err(err).Msg("not swept, trying again") }
			for lifecycle.Retry(ctx, report, c.Sweep) == nil && lifecycle.Sleep(ctx, SweepInterval) {
			}
			return nil
		},
	)
}

func (c Calls) answer(ctx context.Context, b *Bus, call jetstream.Msg) {
	wait, err := c.Look(ctx, call)
	switch {
	case errors.Is(err, ErrUnreadable):
		b.DeadLetter(ctx, call, err)
	case err != nil:
		b.log.Warn().Err(err).Str("call", call.Subject()).Msg("call not answered, trying again")
		_ = call.NakWithDelay(callRetry)
	case wait > 0:
		_ = call.NakWithDelay(wait)
	default:
		if err := call.Ack(); err != nil {
			b.log.Warn().Err(err).Str("call", call.Subject()).Msg("call not acknowledged, it will be made again")
		}
	}
}
