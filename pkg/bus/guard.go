package bus

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

const (
	// maxPanics is how often the handler may panic with a message before the message becomes a dead letter.
	maxPanics = 5
	// panicDelay spaces the tries.
	panicDelay = 250 * time.Millisecond
	// maxSuspects bounds how many messages are remembered. More than that have a cause other than the messages.
	maxSuspects = 1000
)

// guard keeps a handler's panics from taking the process down, and a message that causes them from coming back for ever.
//
// Only panics are counted, and only in this process. The number of deliveries tells nothing: a message that is negatively acknowledged
// during an outage is delivered again and again, and must not be given up for that.
type guard struct {
	bus   *Bus
	log   zerolog.Logger
	inner func(ctx context.Context, messages []jetstream.Msg)
	// panics counts by identity of the message.
	panics map[string]int
}

// Guard gives a handler like handle that does not panic: it finds out with which messages handle panics, and has them delivered again, or
// moves them to DEAD_LETTERS when that goes on. It is for one call at a time, as handle is.
func (b *Bus) Guard(handle func(ctx context.Context, messages []jetstream.Msg)) func(ctx context.Context, messages []jetstream.Msg) {
	return (&guard{bus: b, log: b.log, inner: handle, panics: make(map[string]int)}).handle
}

// handle finds out with which messages of a batch the handler panics, by giving them to it one by one. Those that it had dealt with
// before it panicked come to it a second time, as after a lost acknowledgement.
func (g *guard) handle(ctx context.Context, messages []jetstream.Msg) {
	cause := g.try(ctx, messages)
	if cause == nil && len(g.panics) == 0 {
		return
	}
	for i, message := range messages {
		if cause != nil && len(messages) > 1 {
			g.settle(ctx, message, g.try(ctx, messages[i:i+1]))
		} else {
			g.settle(ctx, message, cause)
		}
	}
}

// try calls the handler; what it panics with becomes an error.
func (g *guard) try(ctx context.Context, messages []jetstream.Msg) (cause error) {
	defer func() {
		if value := recover(); value != nil {
			cause = fmt.Errorf("panic: %v", value)
			g.log.Error().Err(cause).Int("messages", len(messages)).Str("subject", messages[0].Subject()).Bytes("stack", debug.Stack()).
				Msg("handler panicked")
		}
	}()
	g.inner(ctx, messages)
	return nil
}

// settle counts the panics with a message.
func (g *guard) settle(ctx context.Context, message jetstream.Msg, cause error) {
	id, err := identity(message)
	if err != nil {
		return
	}
	if cause == nil {
		delete(g.panics, id)
		return
	}
	if g.panics[id]++; g.panics[id] >= maxPanics {
		delete(g.panics, id)
		g.bus.DeadLetter(ctx, message, fmt.Errorf("the handler failed %d times: %w", maxPanics, cause))
		return
	}
	if len(g.panics) > maxSuspects {
		clear(g.panics)
	}
	_ = message.NakWithDelay(panicDelay)
}
