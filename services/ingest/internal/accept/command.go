// Package accept turns a command to run a recipe into the first event of an execution's journal. Everything that could change
// later (recipe version, prices, settings) is pinned there.
package accept

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

const (
	// MaxInput is the most bytes of input that one execution may have.
	MaxInput = 512 << 10
	// maxRequest leaves room in a NATS message (1 MiB) for what billing adds to the accepted request.
	maxRequest = 1000 << 10
)

// Command asks for one execution.
type Command struct {
	Customer string
	Agent    string
	Recipe   string
	// Version is 0 for the newest.
	Version int
	// Input is a JSON value; empty means {}.
	Input json.RawMessage
	// IdempotencyKey makes every command of the customer with the same key the same execution; empty for none.
	IdempotencyKey string
	Actor          event.Actor
	// Trace is a W3C traceparent; empty for a new trace.
	Trace string
	// Wait is how long the caller waits for the end; 0 for not at all.
	Wait time.Duration
	// Origin is the execution that this one goes on from or repeats, and Parent the step of another one that runs it; nil for none.
	Origin *event.Origin
	Parent *event.Parent
	// Accepted is called by Execute when the execution begins to exist, and not when it has existed before; it may be nil.
	Accepted func(execution subject.Execution)
}

// Outcome tells what became of a command.
type Outcome struct {
	ExecutionID string
	// Done tells that the execution has ended; then Response, Status and Code say how.
	Done bool
	// Response is the standard response as it stands in the journal.
	Response []byte
	Status   event.Status
	Code     problem.Code
}

// InvalidInput says where the input breaks the recipe's schema, or where a command is malformed. It unwraps to a *problem.Error.
type InvalidInput struct {
	Code       problem.Code
	Violations []problem.Violation
}

// Error joins the violations.
func (e *InvalidInput) Error() string {
	texts := make([]string, 0, len(e.Violations))
	for _, violation := range e.Violations {
		texts = append(texts, violation.Path+": "+violation.Message)
	}
	return strings.Join(texts, "; ")
}

// Malformed is the refusal of what has one thing wrong with its form. path is a JSON pointer, "" for the whole.
func Malformed(path, message string) error {
	return &InvalidInput{Code: problem.InvalidRequest, Violations: []problem.Violation{{Path: path, Message: message}}}
}

// Unwrap gives the error without its paths.
func (e *InvalidInput) Unwrap() error {
	message := "the input does not fit the recipe's input schema"
	if e.Code == problem.InvalidRequest {
		message = "the request is malformed"
	}
	return &problem.Error{Code: e.Code, Message: message}
}

// Catalogue finds what an execution pins. Errors are *problem.Error.
type Catalogue interface {
	Resolve(ctx context.Context, customer, agent, recipe string, version int) (*catalogue.Pinned, error)
}

// History tells the ends of executions whose journal may have expired.
type History interface {
	// Completed gives those of the executions that have ended, by id.
	Completed(ctx context.Context, executions []subject.Execution) (map[string]Outcome, error)
}

func (c *Command) validate() error {
	var violations []problem.Violation
	for path, id := range map[string]string{"/agent_id": c.Agent, "/customer_id": c.Customer, "/recipe_id": c.Recipe} {
		if !subject.ValidID(id) {
			violations = append(violations, problem.Violation{Path: path, Message: subject.ErrInvalidID.Error()})
		}
	}
	if c.Version < 0 {
		violations = append(violations, problem.Violation{Path: "/version", Message: "must not be negative"})
	}
	if len(violations) > 0 {
		return &InvalidInput{Code: problem.InvalidRequest, Violations: violations}
	}
	if len(c.Input) > MaxInput {
		return &problem.Error{Code: problem.PayloadTooLarge, Message: "the input is over the limit of 512 KiB"}
	}
	return nil
}
