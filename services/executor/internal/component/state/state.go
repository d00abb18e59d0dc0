// Package state runs state.set, state.merge, state.delete and state.get: what steps do to the shared state of their execution. Nothing
// outside the process changes, so the steps need no checkpoint of their own and are simply run again after a crash.
package state

import (
	"context"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// KindGet reads a field whose name is known only when the step runs.
const KindGet recipe.Kind = "state.get"

// Components are the components of this package by their kinds.
func Components() component.Registry {
	return component.Registry{
		recipe.KindStateSet:    component.Func(Set),
		recipe.KindStateMerge:  component.Func(Merge),
		recipe.KindStateDelete: component.Func(Delete),
		KindGet:                component.Func(Get),
	}
}

// Set runs state.set: it writes each field of its input. Its output is its input.
func Set(_ context.Context, call *component.Call) (component.Result, error) {
	fields, err := object(call)
	if err != nil {
		return component.Result{}, err
	}
	return component.Result{Output: fields, Set: fields}, nil
}

// Merge runs state.merge: its input is a merge patch (RFC 7396) of the whole state. Its output has the fields that the patch names, as
// they are afterwards, without those that it removes.
func Merge(_ context.Context, call *component.Call) (component.Result, error) {
	patch, err := object(call)
	if err != nil {
		return component.Result{}, err
	}
	changed := make(map[string]any, len(patch))
	var result component.Result
	for name, value := range patch {
		if value != nil {
			changed[name] = merged(call.State[name], value)
		} else if _, there := call.State[name]; there {
			result.Delete = append(result.Delete, name)
		}
	}
	result.Output, result.Set = changed, changed
	return result, nil
}

// merged is what a merge patch makes of a value. Neither is changed: others may hold them.
func merged(value, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	old, _ := value.(map[string]any)
	made := make(map[string]any, len(old)+len(changes))
	for name, kept := range old {
		if _, touched := changes[name]; !touched {
			made[name] = kept
		}
	}
	for name, change := range changes {
		if change != nil {
			made[name] = merged(old[name], change)
		}
	}
	return made
}

// Delete runs state.delete. Its output tells which of the fields were there.
func Delete(_ context.Context, call *component.Call) (component.Result, error) {
	input, err := component.Input[struct {
		Fields []string `json:"fields"`
	}](call)
	if err != nil {
		return component.Result{}, err
	}
	deleted := []any{}
	var result component.Result
	seen := make(map[string]bool, len(input.Fields))
	for _, name := range input.Fields {
		if _, there := call.State[name]; there && !seen[name] {
			seen[name] = true
			deleted = append(deleted, name)
			result.Delete = append(result.Delete, name)
		}
	}
	result.Output = map[string]any{"deleted": deleted}
	return result, nil
}

// Get runs state.get. Its output is the field, or the default.
func Get(_ context.Context, call *component.Call) (component.Result, error) {
	fields, err := object(call)
	if err != nil {
		return component.Result{}, err
	}
	name, ok := fields["field"].(string)
	if !ok {
		return component.Result{}, component.Failure(problem.ComponentError, "field must be a string")
	}
	if value, there := call.State[name]; there {
		return component.Result{Output: value}, nil
	}
	return component.Result{Output: fields["default"]}, nil
}

func object(call *component.Call) (map[string]any, error) {
	fields, ok := call.With.(map[string]any)
	if !ok {
		return nil, component.Failure(problem.ComponentError, "%s takes an object", call.Kind)
	}
	return fields, nil
}
