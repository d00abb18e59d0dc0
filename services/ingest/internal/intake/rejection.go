package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
)

const (
	retryDelay = time.Second
	// nobody stands for a customer in the subject of a rejection when the message named none that is valid. It is itself no valid id.
	nobody = "-"
)

// desk takes messages from their queues.
type desk struct {
	bus   *bus.Bus
	clock clock.Clock
	log   zerolog.Logger
}

// settle acknowledges what was taken in, rejects what was refused, and has anything else delivered again. customer is whose subject the
// message was published to.
func (d *desk) settle(ctx context.Context, message jetstream.Msg, customer string, err error) {
	var refused *problem.Error
	switch {
	case err == nil:
		if err := message.Ack(); err != nil {
			d.log.Warn().Err(err).Str("subject", message.Subject()).Msg("message not acknowledged, it will be delivered again")
		}
	case errors.As(err, &refused) && !refused.Retryable:
		d.reject(ctx, message, customer, err)
	default:
		d.log.Warn().Err(err).Str("subject", message.Subject()).Msg("message not taken in, trying again")
		_ = message.NakWithDelay(retryDelay)
	}
}

// reject reports a refused message, and only then takes it from the queue.
func (d *desk) reject(ctx context.Context, message jetstream.Msg, customer string, cause error) {
	rejection, err := d.rejection(message, customer, cause)
	if err == nil {
		_, err = d.bus.JS.PublishMsg(ctx, rejection)
	}
	if err != nil {
		d.log.Warn().Err(err).Str("subject", message.Subject()).Msg("rejection not reported, trying again")
		_ = message.NakWithDelay(retryDelay)
		return
	}
	if err := message.TermWithReason("rejected"); err != nil {
		d.log.Warn().Err(err).Msg("rejected message not taken from the queue, it will be delivered again")
	}
}

func (d *desk) rejection(message jetstream.Msg, customer string, cause error) (*nats.Msg, error) {
	meta, err := message.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	token := customer
	if !subject.ValidID(customer) {
		customer, token = "", nobody
	}
	now := d.clock()
	body := event.Rejection{
		CustomerID: customer, Subject: message.Subject(), MessageID: messageID(message.Headers()), Sequence: meta.Sequence.Stream,
		Code: problem.InvalidRequest, Message: cause.Error(), RejectedAt: now,
	}
	if refused, ok := errors.AsType[*problem.Error](cause); ok {
		body.Code, body.Message = refused.Code, refused.Message
	}
	if invalid, ok := errors.AsType[*accept.InvalidInput](cause); ok {
		body.Violations = invalid.Violations
	}
	data, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode rejection: %w", err)
	}
	id := place(meta) + "/rejected"
	out := nats.NewMsg(subject.RunRejected(token))
	out.Data = data
	for name, value := range map[string]string{
		event.HeaderSpecVersion: "1.0", event.HeaderID: id, event.HeaderType: event.TypeRunRejected,
		event.HeaderSource: "/galley/ingest", event.HeaderTime: now.Format(time.RFC3339Nano),
		jetstream.MsgIDHeader: id,
	} {
		out.Header.Set(name, value)
	}
	return out, nil
}

// place names a message by where it stands in its stream, the same at every delivery. The time tells the places of a stream that was
// made anew apart from the old ones.
func place(meta *jetstream.MsgMetadata) string {
	return fmt.Sprintf("%s/%d/%d", meta.Stream, meta.Sequence.Stream, meta.Timestamp.UnixNano())
}

// messageID is what the producer calls its message: the CloudEvent's id, else the NATS message id.
func messageID(header nats.Header) string {
	if id := header.Get(event.HeaderID); id != "" {
		return id
	}
	return header.Get(jetstream.MsgIDHeader)
}
