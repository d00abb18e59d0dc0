// Package stateset runs state.set: it writes each field of its input to the shared state.
package stateset

import (
	"context"

	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// Component is state.set. Its output is its input.
type Component struct{}

// Execute implements component.Component.
func (Component) Execute(_ context.Context, call *component.Call) (component.Result, error) {
	fields, ok := call.With.(map[string]any)
	if !ok {
		return component.Result{}, &problem.Error{Code: problem.ComponentError, Message: "state.set takes an object"}
	}
	return component.Result{Output: fields, Set: fields}, nil
}
