package recipe

import (
	"cel.dev/cel-go/cel"
)

// Scope holds the values that the expressions of one execution read. Values are what encoding/json decodes into: map[string]any,
// []any, string, float64, bool and nil. One goroutine at a time; several may read it while nobody writes.
type Scope struct {
	// Input is the validated input of the execution.
	Input map[string]any
	// State is the shared state, which state.set writes.
	State map[string]any
	// Vars holds at least the settings that [Recipe.VarsUsed] names.
	Vars map[string]any
	// Secrets holds the secrets that the template to be evaluated next reads; only a step's With does.
	Secrets map[string]any
	// Execution and Customer are what execution.id and execution.customer read.
	Execution string
	Customer  string

	steps map[string]any
	// itemName is what the item of a foreach is called, "" outside.
	itemName string
	item     any
	index    int
}

// ForItem is a scope for one item of a foreach, with the values that s has now. Nothing is set through it.
func (s *Scope) ForItem(name string, item any, index int) *Scope {
	scope := *s
	scope.itemName, scope.item, scope.index = name, item, index
	return &scope
}

// SetStep makes the outcome of a step readable as steps.<id>.output, .status and .error. A step that failed has no output, one
// that was skipped neither output nor error: nil reads as null.
func (s *Scope) SetStep(id, status string, output, stepError any) {
	if s.steps == nil {
		s.steps = make(map[string]any)
	}
	s.steps[id] = map[string]any{"output": output, "status": status, "error": stepError}
}

// SetOutputs makes the outcome of a foreach readable as steps.<id>.outputs, .status and .error: a list with one output for each
// item, in the order of the items, null for one that failed.
func (s *Scope) SetOutputs(id, status string, outputs []any, stepError any) {
	if s.steps == nil {
		s.steps = make(map[string]any)
	}
	s.steps[id] = map[string]any{"outputs": outputs, "status": status, "error": stepError}
}

// activation shows a Scope to CEL without copying it, and keeps CEL's types out of the Scope's own methods.
type activation Scope

// ResolveName implements cel.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	switch name {
	case nameInput:
		return orEmpty(a.Input), true
	case nameState:
		return orEmpty(a.State), true
	case nameVars:
		return orEmpty(a.Vars), true
	case nameSteps:
		return orEmpty(a.steps), true
	case nameExecution:
		return map[string]any{"id": a.Execution, "customer": a.Customer}, true
	case nameSecrets:
		return orEmpty(a.Secrets), true
	case nameIndex:
		return float64(a.index), a.itemName != ""
	case a.itemName:
		return a.item, a.itemName != ""
	}
	return nil, false
}

// Parent implements cel.Activation.
func (a *activation) Parent() cel.Activation {
	return nil
}

func orEmpty(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}
