// Package component says what a component is: the code that runs the steps of one kind.
package component

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
)

// Component runs the steps of one kind. It is used by many executions at the same time.
//
// Execute makes one attempt, with an input that fits the JSON Schema of the kind (pkg/recipe/component). It returns soon after ctx ends.
// A failure is a [*problem.Error] with code, message and whether another attempt may succeed, possibly inside a [*DelayError]; the engine
// adds step and attempt. The message is shown to the customer: it holds no internal address, no secret and no query string. Any other
// error is a defect of the component. What was used before a failure is in the result all the same.
type Component interface {
	Execute(ctx context.Context, call *Call) (Result, error)
}

// Func is a component that is one function.
type Func func(ctx context.Context, call *Call) (Result, error)

// Execute implements Component.
func (f Func) Execute(ctx context.Context, call *Call) (Result, error) { return f(ctx, call) }

// Registry holds the components by the kind of step that they run.
type Registry map[recipe.Kind]Component

// Find is the component for a kind. All kinds worker.<name> have the same.
func (r Registry) Find(kind recipe.Kind) (Component, bool) {
	if kind.Worker() != "" {
		kind = recipe.KindWorker
	}
	found, ok := r[kind]
	return found, ok
}

// Call is one attempt of a step. Its values may share memory with other steps: a component only reads them.
type Call struct {
	Execution subject.Execution
	Step      string
	Kind      recipe.Kind
	// Item is the index in a foreach, nil without one.
	Item *int
	// Attempt counts from 1, and again from 1 when another worker takes the execution over.
	Attempt int
	// Actor is who asked for the execution.
	Actor event.Actor
	// TraceParent is the W3C trace context of the execution, or "".
	TraceParent string
	// With is the step's input, filled in: what encoding/json would decode.
	With any
	// State is the shared state, nil until a step has written it.
	State map[string]any
	// Redact takes the texts of the secrets that With holds out of text, nil where it holds none; see [Call.Public].
	Redact func(text string) string
}

// Public is text without the secrets of With, for what a component tells somebody before it has ended.
func (c *Call) Public(text string) string {
	if c.Redact == nil {
		return text
	}
	return c.Redact(text)
}

// IdempotencyKey is the same for all attempts of a step, or of one item of it, whichever worker makes them.
func (c *Call) IdempotencyKey() string {
	key := c.Execution.ID + "/" + c.Step
	if c.Item != nil {
		key += "/" + strconv.Itoa(*c.Item)
	}
	return key
}

// Outbound is the call as the network knows it.
func (c *Call) Outbound() *outbound.Call {
	return &outbound.Call{Customer: c.Execution.Customer, IdempotencyKey: c.IdempotencyKey(), TraceParent: c.TraceParent}
}

// Place is the step, or the item of it, as a subject names it: "<step>" or "<step>.<index>".
func (c *Call) Place() string {
	if c.Item == nil {
		return c.Step
	}
	return c.Step + "." + strconv.Itoa(*c.Item)
}

// Input decodes the call's With into a struct with json tags.
func Input[T any](call *Call) (T, error) {
	var input T
	data, err := json.Marshal(call.With)
	if err == nil {
		err = json.Unmarshal(data, &input)
	}
	if err != nil {
		return input, fmt.Errorf("decode the input of %s: %w", call.Kind, err)
	}
	return input, nil
}

// Result is what an attempt gives.
type Result struct {
	// Output is what later steps read: map[string]any, []any, string, float64, bool or nil.
	Output any
	// Set are fields of the shared state, with their new values; Delete are fields that it has no longer.
	Set    map[string]any
	Delete []string
	// Usage is what the attempt used, nil where nothing is counted. It counts also when the attempt failed.
	Usage *event.Usage
}

// Failure is a failure that another attempt would meet again.
func Failure(code problem.Code, format string, args ...any) *problem.Error {
	return problem.Failure(code, format, args...)
}

// Retryable is a failure after which another attempt may succeed.
func Retryable(code problem.Code, format string, args ...any) *problem.Error {
	return problem.Retryable(code, format, args...)
}

// DelayError is a failure whose other side said when to try again.
type DelayError = outbound.DelayError
