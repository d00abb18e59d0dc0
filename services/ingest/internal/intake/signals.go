package intake

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/traceparent"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
	"github.com/galley-engine/galley/services/ingest/internal/control"
)

// signalBatch is small: events are handled one after the other, so that the first one of a name is the one that counts.
const signalBatch = 32

// Signals consumes events for executions.
type Signals struct {
	desk
	control *control.Controller
	ackWait time.Duration
}

// NewSignals makes Signals.
func NewSignals(messages *bus.Bus, controller *control.Controller, ackWait time.Duration, now clock.Clock, log zerolog.Logger) *Signals {
	return &Signals{desk: desk{bus: messages, clock: now, log: log}, control: controller, ackWait: ackWait}
}

// Run consumes until ctx ends.
func (s *Signals) Run(ctx context.Context) error {
	return s.bus.Consume(ctx, bus.Consumer{
		Stream: subject.StreamSignals, Durable: "ingest", AckWait: s.ackWait, MaxAckPending: maxAckPending, Batch: signalBatch,
	}, func(ctx context.Context, messages []jetstream.Msg) {
		for _, message := range messages {
			customer, err := s.take(ctx, message)
			s.settle(ctx, message, customer, err)
		}
	})
}

func (s *Signals) take(ctx context.Context, message jetstream.Msg) (customer string, err error) {
	execution, name, err := subject.ParseSignal(message.Subject())
	if err != nil {
		return execution.Customer, accept.Malformed("", err.Error())
	}
	author := control.Author{Actor: event.Actor{Type: "producer", ID: execution.Customer}}
	if trace := message.Headers().Get(event.HeaderTraceParent); traceparent.Valid(trace) {
		author.Trace = trace
	}
	return execution.Customer, s.control.Signal(ctx, execution, name, message.Data(), author)
}
