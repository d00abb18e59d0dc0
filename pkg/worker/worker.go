// Package worker lets a Go program run steps of recipes: those of the kind worker.<name>. docs/workers.md says how galley and workers talk, for
// programs in other languages.
//
// A call may be made more than once: when the worker or galley died in the middle of it. Call.Key is the same each time, so a handler with
// effects outside can pass it on, or remember it.
package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/galley-engine/galley/schemas/call"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	defaultConcurrency = 16
	defaultDrain       = 10 * time.Second
)

// Causes of the end of a handler's context (context.Cause).
var (
	// ErrCancelled says that galley waits for the result no longer.
	ErrCancelled = errors.New("the call was cancelled")
	// ErrStopping says that the worker stops. Unless the handler succeeds all the same, another instance gets the call.
	ErrStopping = errors.New("the worker stops")
)

// Config says what a worker serves.
type Config struct {
	// Name is that of the kind worker.<name>.
	Name string
	// Customer is the one whose calls are served, empty for all.
	Customer string
	// Concurrency is how many calls run at the same time, 16 unless set. Those beyond go to other instances, or wait.
	Concurrency int
	// Drain is how long handlers may go on when the worker stops before their contexts end, 10 s unless set.
	Drain time.Duration
	// Log gets what went wrong, such as panics of the handler. Nil logs nothing.
	Log *slog.Logger
}

// Validate joins everything that is wrong.
func (c Config) Validate() error {
	var problems []error
	if !subject.ValidID(c.Name) {
		problems = append(problems, fmt.Errorf("name %.80q: %w", c.Name, subject.ErrInvalidID))
	}
	if c.Customer != "" && !subject.ValidID(c.Customer) {
		problems = append(problems, fmt.Errorf("customer %.80q: %w", c.Customer, subject.ErrInvalidID))
	}
	if c.Concurrency < 0 || c.Drain < 0 {
		problems = append(problems, errors.New("concurrency and drain cannot be negative"))
	}
	return errors.Join(problems...)
}

// Call is a step to run. It belongs to one handler, which may use it from several goroutines.
type Call struct {
	call.Request
	// Key is the same whenever this step, or this item of it, is called.
	Key string
	// TraceParent is the W3C trace context of the execution, or "".
	TraceParent string

	progress func(text string)
}

// Decode decodes the step's input.
func (c *Call) Decode(target any) error {
	if err := json.Unmarshal(c.Input, target); err != nil {
		return &Error{Message: "the input does not fit: " + err.Error()}
	}
	return nil
}

// Progress tells those who watch the execution how far the work is, in at most some 8,000 bytes, longer texts are not told. Tell it a few times a
// second at most: galley ends the call of a worker that sends more than a thousand messages in ten seconds.
func (c *Call) Progress(text string) {
	if c.progress != nil && text != "" {
		c.progress(text)
	}
}

// Handler runs one call. What it returns becomes the step's output, as JSON; a [Result] has usage as well.
//
// An [*Error] fails the step as it says. Any other error fails it with the error's text, which the customer sees, and may be tried again. ctx
// ends when nobody waits for the result any more, and when the worker stops; the handler should return soon after.
type Handler func(ctx context.Context, call *Call) (any, error)

// Result is an output together with what the call used, for steps with a price for that. It counts also when the handler returns an error with it.
type Result struct {
	Output any
	Usage  Usage
}

// Usage counts what a call used.
type Usage = event.Usage

// Error is a failure that the handler has judged.
type Error struct {
	// Code is one of call.Codes, or the worker's own, which is shown in front of the message.
	Code problem.Code
	// Message is what the customer sees, at most 1,000 characters of it.
	Message string
	// Retryable tells that another attempt may succeed.
	Retryable bool
}

// Error is the message.
func (e *Error) Error() string { return e.Message }

// Serve runs calls until ctx ends or the connection is closed for good; the latter is an error. When ctx ends it takes nothing more, waits
// until the handlers have returned, and answers what they were called for.
func Serve(ctx context.Context, conn *nats.Conn, config Config, handler Handler) error {
	if err := config.Validate(); err != nil {
		return fmt.Errorf("serve a worker: %w", err)
	}
	return newServer(ctx, conn, config, handler).serve(ctx)
}
