// Package workercall runs worker.<name>: steps that a program outside of galley does, a worker, asked over NATS by request and reply.
// docs/workers.md is the protocol.
//
// One subscription hears the replies to all calls of the process. Nothing of a call is kept that grows with what a worker sends.
package workercall

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/schemas/call"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// Patience is how long the component waits for a worker before it gives the worker up. The step's time-out bounds everything.
type Patience struct {
	// First is for the first sign of life after a call, Silence for the next one after each.
	First   time.Duration
	Silence time.Duration
	// Attach is for an answer to the question whether somebody works on a call.
	Attach time.Duration
	// Absent is for a worker that nobody serves: after a restart of NATS, or of galley with it, workers need some time to come back.
	Absent time.Duration
	// Again is the pause before a call is made again that nobody took, or that a worker gave back.
	Again time.Duration
}

// DefaultPatience is what docs/workers.md promises to workers: three heartbeats may be missed.
func DefaultPatience() Patience {
	return Patience{
		First: 10 * time.Second, Silence: 3 * call.Heartbeat, Attach: 2 * time.Second, Absent: 5 * time.Second, Again: 100 * time.Millisecond,
	}
}

// Component is worker.<name>, for all names.
type Component struct {
	conn     *nats.Conn
	patience Patience
	clock    clock.Clock
	replies  *replies
}

// New makes the component. It uses the connection from the first call on.
func New(conn *nats.Conn, patience Patience, now clock.Clock) *Component {
	return &Component{conn: conn, patience: patience, clock: now, replies: newReplies(conn, now)}
}

// Close ends the subscription. Calls that are under way hear nothing more.
func (c *Component) Close() error { return c.replies.close() }

// Execute makes the call, unless a worker still works on it from an earlier attempt, and waits for the outcome.
func (c *Component) Execute(ctx context.Context, asked *component.Call) (component.Result, error) {
	waiting, err := c.replies.expect(asked.Execution.Customer)
	if err != nil {
		return component.Result{}, away()
	}
	defer c.replies.forget(waiting)
	place := asked.Place()
	t := &talk{Component: c, call: asked, waiter: waiting, control: asked.Execution.WorkerCall(place), progress: asked.Execution.Progress(place)}
	return t.run(ctx)
}

// request is the message that makes the call.
func (t *talk) request(ctx context.Context) (*nats.Msg, error) {
	input, err := json.Marshal(t.call.With)
	if err != nil {
		return nil, component.Failure(problem.ComponentError, "the input cannot be written as JSON")
	}
	timeout := t.timeout(ctx)
	data, err := json.Marshal(call.Request{
		ExecutionID: t.call.Execution.ID, CustomerID: t.call.Execution.Customer, Step: t.call.Step, Item: t.call.Item, Attempt: t.call.Attempt,
		Deadline: t.clock().Add(timeout), TimeoutMS: timeout.Milliseconds(), Input: input,
	})
	if err != nil {
		return nil, component.Failure(problem.ComponentError, "the input cannot be written as JSON")
	}
	message := nats.NewMsg(t.worker())
	message.Reply, message.Data = t.waiter.call, data
	message.Header = nats.Header{call.HeaderKey: {t.call.IdempotencyKey()}, call.HeaderControl: {t.control}}
	if t.call.TraceParent != "" {
		message.Header[event.HeaderTraceParent] = []string{t.call.TraceParent}
	}
	return message, nil
}

func (t *talk) worker() string {
	return subject.Worker(t.call.Execution.Customer, t.call.Kind.Worker())
}

// timeout is how much time the step has left, 0 when it is not bounded.
func (t *talk) timeout(ctx context.Context) time.Duration {
	deadline, bounded := ctx.Deadline()
	if !bounded {
		return 0
	}
	return max(time.Millisecond, deadline.Sub(t.clock()))
}

// publish sends to workers.
func (t *talk) publish(message *nats.Msg) error {
	err := t.conn.PublishMsg(message)
	if errors.Is(err, nats.ErrMaxPayload) {
		return component.Failure(problem.StateTooLarge, "the input is larger than a worker can be sent")
	}
	if err != nil {
		return away()
	}
	return nil
}

func (t *talk) tell(control call.Control, reply string) error {
	data, err := json.Marshal(control)
	if err != nil {
		return err
	}
	return t.publish(&nats.Msg{Subject: t.control, Reply: reply, Data: data})
}

func away() *problem.Error {
	return component.Retryable(problem.Unavailable, "there is no connection to NATS at the moment")
}

// secretText cannot be guessed, so that nobody can answer a call that did not get it.
func secretText() string { return rand.Text() }
