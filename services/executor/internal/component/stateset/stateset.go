// Package stateset runs state.set: it writes each field of its input to the shared state.
package stateset

import (
	"context"
	"maps"

	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// Component is state.set. Its output is its input.
type Component struct{}

// Execute never changes the old state in place: outputs of earlier steps may share memory with it.
func (Component) Execute(_ context.Context, call *component.Call) (component.Result, error) {
	fields, ok := call.With.(map[string]any)
	if !ok {
		return component.Result{}, &problem.Error{Code: problem.ComponentError, Message: "state.set takes an object"}
	}
	state := make(map[string]any, len(call.State)+len(fields))
	maps.Copy(state, call.State)
	maps.Copy(state, fields)
	return component.Result{Output: fields, State: state}, nil
}
