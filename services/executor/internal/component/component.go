// Package component says what a component is: the code that runs the steps of one kind.
package component

import (
	"context"
	"strconv"
	"time"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
)

// Component runs the steps of one kind. It is used by many executions at the same time.
//
// Execute makes one attempt. It returns soon after ctx ends. A failure is a [*problem.Error] with code, message and whether
// another attempt may succeed, possibly inside a [*DelayError]; the engine adds step and attempt. The message is shown to the
// customer: it holds no internal address, no secret and no query string. Any other error is a defect of the component.
type Component interface {
	Execute(ctx context.Context, call *Call) (Result, error)
}

// Registry holds the components by the kind of step that they run.
type Registry map[recipe.Kind]Component

// Call is one attempt of a step. Its values may share memory with other steps: a component only reads them.
type Call struct {
	Execution subject.Execution
	Step      string
	// Item is the index in a foreach, nil without one.
	Item *int
	// Attempt counts from 1, and again from 1 when another worker takes the execution over.
	Attempt int
	// TraceParent is the W3C trace context of the execution, or "".
	TraceParent string
	// With is the step's input, filled in: what encoding/json would decode.
	With any
}

// IdempotencyKey is the same for all attempts of a step, or of one item of it, whichever worker makes them.
func (c *Call) IdempotencyKey() string {
	key := c.Execution.ID + "/" + c.Step
	if c.Item != nil {
		key += "/" + strconv.Itoa(*c.Item)
	}
	return key
}

// Result is what an attempt that succeeded gives.
type Result struct {
	// Output is what later steps read: map[string]any, []any, string, float64, bool or nil.
	Output any
	// Set are fields of the shared state, with their new values.
	Set map[string]any
}

// DelayError is a failure whose other side said when to try again.
type DelayError struct {
	Problem *problem.Error
	After   time.Duration
}

// Error is the text of the problem.
func (e *DelayError) Error() string { return e.Problem.Error() }

// Unwrap gives the problem.
func (e *DelayError) Unwrap() error { return e.Problem }
