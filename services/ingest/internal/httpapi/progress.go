package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/nats-io/nats.go"

	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/projection"
)

const (
	// lookAgain is after how long a watch looks by itself whether the execution has ended, in case that the hint was missed.
	lookAgain = 5 * time.Second
	// maxWatches bounds those of a process: each holds a connection and a subscription.
	maxWatches   = 1000
	watchBacklog = 256
	writeTimeout = 5 * time.Second
)

func (a *API) registerProgress(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "watch-execution", Method: http.MethodGet, Path: ofExecution + "/progress", Tags: []string{"executions"},
		Summary: "Watch an execution",
		Description: "Server-sent events: `progress` with what a step tells while it runs, such as the text that a language model has written so " +
			"far, and in the end one `completed` with the standard response. What was told before the watch began is not repeated.",
		Responses: map[string]*huma.Response{"200": {
			Description: "The events, until the execution has ended",
			Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
	}, nil, a.watchExecution)
}

type watchInput struct{ Target }

func (a *API) watchExecution(ctx context.Context, caller *caller, input *watchInput) (*huma.StreamResponse, error) {
	execution, err := input.execution(caller)
	if err != nil {
		return nil, err
	}
	if _, err := a.standing(ctx, execution); err != nil {
		return nil, err
	}
	select {
	case a.watches <- struct{}{}:
	default:
		return nil, &problem.Error{Code: problem.Unavailable, Message: "too many executions are watched at the moment", Retryable: true}
	}
	return &huma.StreamResponse{Body: func(c huma.Context) {
		c.SetHeader("Content-Type", "text/event-stream")
		c.SetStatus(http.StatusOK)
		stream := func(out io.Writer) {
			defer func() { <-a.watches }()
			if err := a.watchOn(ctx, execution, &eventStream{out: out, clock: a.clock}); err != nil {
				a.log.Debug().Err(err).Str("execution", execution.ID).Msg("watch ended early")
			}
		}
		// Fiber writes a body that is not there yet by itself, from another goroutine.
		if later, ok := c.(interface{ StreamBody(write func(io.Writer)) }); ok {
			later.StreamBody(stream)
			return
		}
		stream(c.BodyWriter())
	}}, nil
}

// standing is how the execution stands; NOT_FOUND when the customer has none of this id.
func (a *API) standing(ctx context.Context, execution subject.Execution) (projection.Execution, error) {
	found, known, err := a.executions.Get(ctx, execution)
	switch {
	case err != nil:
		return found, unavailable(executionsAway, err)
	case !known:
		return found, newProblem(problem.NotFound, "there is no execution "+execution.ID)
	}
	return found, nil
}

// watchOn tells what happens until the execution has ended, the client has gone, or ctx ends.
func (a *API) watchOn(ctx context.Context, execution subject.Execution, out *eventStream) error {
	heard := make(chan *nats.Msg, watchBacklog) // what a slow client has no room for is dropped
	for _, wanted := range []string{execution.Progress(">"), execution.All()} {
		subscription, err := a.bus.Conn.ChanSubscribe(wanted, heard)
		if err != nil {
			return fmt.Errorf("watch an execution: %w", err)
		}
		defer func() { _ = subscription.Unsubscribe() }()
	}
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		// An event that is heard is not stored yet, and may not be: it is only a reason to look.
		found, err := a.standing(ctx, execution)
		if err == nil && found.Status.Terminal() {
			body, err := found.Body()
			if err != nil {
				return err
			}
			return out.send("completed", body)
		}
		if err := a.listen(ctx, execution, heard, again.C, out); err != nil {
			return err
		}
	}
}

// listen passes on what steps tell until there is a reason to look how the execution stands.
func (a *API) listen(
	ctx context.Context, execution subject.Execution, heard <-chan *nats.Msg, again <-chan time.Time, out *eventStream,
) error {
	progress := execution.Progress("")
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again:
			return out.comment()
		case message := <-heard:
			if !strings.HasPrefix(message.Subject, progress) {
				return nil
			}
			if err := out.send("progress", message.Data); err != nil {
				return err
			}
		}
	}
}

// eventStream writes server-sent events (HTML Living Standard, section 9.2).
type eventStream struct {
	out   io.Writer
	clock func() time.Time
}

func (s *eventStream) send(name string, data []byte) error {
	// The data is JSON, whose strings hold no line breaks; around them they may be left out.
	data = bytes.ReplaceAll(bytes.ReplaceAll(data, []byte("\n"), nil), []byte("\r"), nil)
	return s.write(fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, data))
}

// comment keeps the connection, and finds out whether the client is still there.
func (s *eventStream) comment() error { return s.write([]byte(":\n\n")) }

func (s *eventStream) write(text []byte) error {
	if deadline, ok := s.out.(interface{ SetWriteDeadline(at time.Time) error }); ok {
		_ = deadline.SetWriteDeadline(s.clock().Add(writeTimeout))
	}
	if _, err := s.out.Write(text); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	if flusher, ok := s.out.(http.Flusher); ok {
		flusher.Flush()
	}
	return nil
}
