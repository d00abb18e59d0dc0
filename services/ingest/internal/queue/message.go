package queue

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/schemas/subject"
)

// message is a request as its handler gets it. To acknowledge it is to have it removed from the stream, a little later.
type message struct {
	turn
	settled func(*turn, time.Duration)
	done    bool
}

var _ jetstream.Msg = (*message)(nil)

// Data implements jetstream.Msg.
func (m *message) Data() []byte { return m.content.data }

// Headers implements jetstream.Msg.
func (m *message) Headers() nats.Header { return m.content.header }

// Subject implements jetstream.Msg.
func (m *message) Subject() string { return m.content.subject }

// Reply implements jetstream.Msg.
func (m *message) Reply() string { return "" }

// Metadata implements jetstream.Msg. The consumer is the one under whose name dead letters are redriven.
func (m *message) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{
		Stream: subject.StreamRuns, Consumer: Name, Timestamp: m.content.stored, NumDelivered: 1,
		Sequence: jetstream.SequencePair{Stream: m.sequence},
	}, nil
}

// Ack implements jetstream.Msg.
func (m *message) Ack() error { return m.settle(0) }

// DoubleAck implements jetstream.Msg.
func (m *message) DoubleAck(context.Context) error { return m.settle(0) }

// Nak implements jetstream.Msg.
func (m *message) Nak() error { return m.settle(retryDelay) }

// NakWithDelay implements jetstream.Msg.
func (m *message) NakWithDelay(delay time.Duration) error { return m.settle(max(delay, 1)) }

// InProgress implements jetstream.Msg. There is no deadline to put off.
func (m *message) InProgress() error { return nil }

// Term implements jetstream.Msg.
func (m *message) Term() error { return m.settle(0) }

// TermWithReason implements jetstream.Msg.
func (m *message) TermWithReason(string) error { return m.settle(0) }

var errSettled = errors.New("the request was acknowledged before")

// settle ends the request, or has it tried again after the delay.
func (m *message) settle(again time.Duration) error {
	if m.done {
		return errSettled
	}
	m.done = true
	m.settled(&m.turn, again)
	return nil
}
