package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/galley-engine/galley/pkg/health"
	"github.com/galley-engine/galley/pkg/traceparent"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	queryTimeout     = 5 * time.Second
	concurrentAnswer = 32
)

// Answer serves one of a service's queries until ctx ends, sharing the load with the service's other processes. A *problem.Error
// that answer returns goes to the caller as it is; any other error is logged and the caller is told of an internal one.
func Answer[Request, Reply any](
	ctx context.Context, b *Bus, service, name string, answer func(ctx context.Context, request Request) (Reply, error),
) error {
	slots := make(chan struct{}, concurrentAnswer)
	subscription, err := b.Conn.QueueSubscribe(subject.Query(service, name), service, func(message *nats.Msg) {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			callContext, cancel := context.WithTimeout(traced(ctx, message), queryTimeout)
			defer cancel()
			if err := message.RespondMsg(reply(callContext, b, message, answer)); err != nil {
				b.log.Warn().Err(err).Str("query", message.Subject).Msg("query not answered")
			}
		}()
	})
	if err != nil {
		return fmt.Errorf("serve query %s: %w", name, err)
	}
	<-ctx.Done()
	_ = subscription.Unsubscribe()
	for range concurrentAnswer {
		slots <- struct{}{}
	}
	return nil
}

// traced gives what a query leads to the trace of who asks.
func traced(ctx context.Context, message *nats.Msg) context.Context {
	if parent := message.Header.Get(event.HeaderTraceParent); traceparent.Valid(parent) {
		return traceparent.With(ctx, parent)
	}
	return ctx
}

// AnswerReady serves a service's readiness until ctx ends.
func AnswerReady(ctx context.Context, b *Bus, service string, checks []health.Check) error {
	return Answer(ctx, b, service, query.Ready, func(ctx context.Context, _ struct{}) (query.Readiness, error) {
		return health.Ready(ctx, checks), nil
	})
}

func reply[Request, Reply any](
	ctx context.Context, b *Bus, message *nats.Msg, answer func(ctx context.Context, request Request) (Reply, error),
) *nats.Msg {
	out := nats.NewMsg(message.Reply)
	var request Request
	err := json.Unmarshal(message.Data, &request)
	if err != nil {
		err = &problem.Error{Code: problem.InvalidRequest, Message: "the query is not valid JSON"}
	}
	var value any
	if err == nil {
		value, err = answer(ctx, request)
	}
	if err != nil {
		refused := refusal(b, message, err)
		out.Header.Set(event.HeaderError, string(refused.Code))
		value = refused
	}
	if out.Data, err = json.Marshal(value); err != nil {
		b.log.Error().Err(err).Str("query", message.Subject).Msg("reply not encoded")
	}
	return out
}

func refusal(b *Bus, message *nats.Msg, err error) *problem.Error {
	if known, ok := errors.AsType[*problem.Error](err); ok {
		return known
	}
	b.log.Error().Err(err).Str("query", message.Subject).Msg("query failed")
	return &problem.Error{Code: problem.Unavailable, Message: "the service cannot answer at the moment", Retryable: true}
}

// Ask sends a query to a service, with the traceparent of ctx, and waits for its reply, at most five seconds. Every error is a *problem.Error: the service's
// own refusal, or UNAVAILABLE when nobody answers.
func Ask[Reply any](ctx context.Context, b *Bus, service, name string, request any) (Reply, error) {
	var value Reply
	data, err := json.Marshal(request)
	if err != nil {
		return value, fmt.Errorf("encode query %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	asked := &nats.Msg{Subject: subject.Query(service, name), Data: data}
	if parent := traceparent.From(ctx); parent != "" {
		asked.Header = nats.Header{event.HeaderTraceParent: {parent}}
	}
	message, err := b.Conn.RequestMsgWithContext(ctx, asked)
	if err != nil {
		return value, &problem.Error{Code: problem.Unavailable, Message: service + " does not answer", Retryable: true}
	}
	if message.Header.Get(event.HeaderError) != "" {
		refused := &problem.Error{}
		if err := json.Unmarshal(message.Data, refused); err != nil {
			return value, fmt.Errorf("decode refusal of %s: %w", name, err)
		}
		return value, refused
	}
	if err := json.Unmarshal(message.Data, &value); err != nil {
		return value, fmt.Errorf("decode reply to %s: %w", name, err)
	}
	return value, nil
}
