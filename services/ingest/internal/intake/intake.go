// Package intake takes what any NATS client may publish: run requests from the stream RUNS, as bare JSON or as a CloudEvent, and events
// that executions wait for from the stream SIGNALS. A message is taken in or reported as rejected; nothing is dropped silently and
// nothing blocks the queue.
package intake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
	"github.com/galley-engine/galley/services/ingest/internal/queue"
)

const (
	batch         = 256
	maxAckPending = 2048
)

// Intake consumes run requests.
type Intake struct {
	desk
	requests *queue.Queue
	acceptor *accept.Acceptor
	ackWait  time.Duration
}

// New makes an Intake of the requests whose turn it is.
func New(
	messages *bus.Bus, requests *queue.Queue, acceptor *accept.Acceptor, ackWait time.Duration, now clock.Clock, log zerolog.Logger,
) *Intake {
	return &Intake{desk: desk{bus: messages, clock: now, log: log}, requests: requests, acceptor: acceptor, ackWait: ackWait}
}

// Run consumes until ctx ends.
func (i *Intake) Run(ctx context.Context) error {
	return lifecycle.Run(ctx,
		func(ctx context.Context) error { return i.requests.Run(ctx, i.handle) },
		func(ctx context.Context) error {
			return i.bus.ConsumeRedriven(ctx, bus.Consumer{
				Stream: subject.StreamRuns, Durable: queue.Name, AckWait: i.ackWait, MaxAckPending: maxAckPending, Batch: batch,
			}, i.handle)
		},
	)
}

func (i *Intake) handle(ctx context.Context, messages []jetstream.Msg) {
	commands := make([]accept.Command, 0, len(messages))
	accepted := make([]jetstream.Msg, 0, len(messages))
	for _, message := range messages {
		command, err := decode(message)
		if err != nil {
			i.reject(ctx, message, subject.RunRequestCustomer(message.Subject()), err)
			continue
		}
		commands, accepted = append(commands, command), append(accepted, message)
	}
	for k, result := range i.acceptor.Accept(ctx, commands) {
		i.settle(ctx, accepted[k], subject.RunRequestCustomer(accepted[k].Subject()), result.Err)
	}
}

// structured is a CloudEvent in JSON format (structured content mode).
type structured struct {
	ID          string          `json:"id"`
	SpecVersion string          `json:"specversion"`
	TraceParent string          `json:"traceparent"`
	Data        json.RawMessage `json:"data"`
}

const structuredType = "application/cloudevents+json"

func decode(message jetstream.Msg) (accept.Command, error) {
	customer := subject.RunRequestCustomer(message.Subject())
	if !subject.ValidID(customer) {
		return accept.Command{}, accept.Malformed("", "the customer in the subject "+subject.ErrInvalidID.Error())
	}
	header, data := message.Headers(), message.Data()
	meta, err := message.Metadata()
	if err != nil {
		return accept.Command{}, fmt.Errorf("read metadata: %w", err)
	}
	command := accept.Command{
		Customer: customer, IdempotencyKey: messageID(header), Trace: header.Get(event.HeaderTraceParent),
		Actor: event.Actor{Type: "producer", ID: customer},
	}
	if command.IdempotencyKey == "" {
		// A request without an id of its own is still accepted once when it is delivered again: its place names it. No client can send
		// the leading zero byte.
		command.IdempotencyKey = "\x00" + place(meta)
	}
	if contentType := first(header, "Content-Type", "content-type"); strings.HasPrefix(contentType, structuredType) {
		var envelope structured
		if err := json.Unmarshal(data, &envelope); err != nil {
			return accept.Command{}, accept.Malformed("", "is not a CloudEvent in JSON format: "+err.Error())
		}
		if envelope.ID == "" || envelope.SpecVersion != "1.0" {
			return accept.Command{}, accept.Malformed("/specversion", "a CloudEvent has specversion 1.0 and an id")
		}
		data, command.IdempotencyKey = envelope.Data, envelope.ID
		if envelope.TraceParent != "" {
			command.Trace = envelope.TraceParent
		}
	}
	request, err := decodeRequest(data)
	if err != nil {
		return accept.Command{}, err
	}
	command.Agent, command.Recipe, command.Version, command.Input = request.AgentID, request.RecipeID, request.Version, request.Input
	return command, nil
}

func decodeRequest(data []byte) (event.RunRequest, error) {
	var request event.RunRequest
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&request)
	if err == nil && decoder.More() {
		err = errors.New("more than one JSON value")
	}
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType):
		return request, accept.Malformed("/"+strings.ReplaceAll(wrongType.Field, ".", "/"), "must not be a "+wrongType.Value)
	case err != nil && strings.HasPrefix(err.Error(), "json: unknown field "):
		name := strings.Trim(strings.TrimPrefix(err.Error(), "json: unknown field "), `"`)
		return request, accept.Malformed("/"+name, "is not a field of a run request")
	case err != nil:
		return request, accept.Malformed("", "is not valid JSON: "+err.Error())
	}
	return request, nil
}

func first(header nats.Header, names ...string) string {
	for _, name := range names {
		if value := header.Get(name); value != "" {
			return value
		}
	}
	return ""
}
