package recipe

import (
	"maps"
	"slices"

	"cel.dev/cel-go/cel"
)

// names is what an expression can read at its place in the document, and collects the vars and secrets that are read.
type names struct {
	// env declares the names.
	env *cel.Env
	// inputFields are the properties that the input schema declares; nil when every name is possible.
	inputFields map[string]bool
	// allSteps are all steps of the document; steps and state hold what earlier ones have provided.
	allSteps     map[string]*stepSpec
	steps, state map[string]bool
	// racing holds the fields of the state that branches write at the same time.
	racing map[string]bool
	// incomplete says that steps and state can hold more than is known.
	incomplete bool
	// item is what the item of a foreach is called, "" outside. hidden are the names that are only there for its items.
	item           string
	hidden         []string
	secretsAllowed bool
	vars, secrets  map[string]bool
}

func newNames(env *cel.Env, document *document) *names {
	n := &names{
		env:         env,
		inputFields: declaredProperties(document.input),
		allSteps:    make(map[string]*stepSpec),
		steps:       make(map[string]bool),
		state:       make(map[string]bool),
		incomplete:  document.incomplete,
		vars:        make(map[string]bool),
	}
	eachStep(document.steps, func(step *stepSpec) { n.allSteps[step.id] = step })
	return n
}

// taken reports whether a loop variable of this name would hide something.
func (n *names) taken(name string) bool {
	return slices.Contains(scopeNames(), name) || n.item != "" && (name == n.item || name == nameIndex)
}

// provide adds what later steps can read of this one.
func (n *names) provide(step *stepSpec) {
	n.steps[step.id] = true
	n.incomplete = n.incomplete || step.uses == ""
	for _, f := range step.writes() {
		if step.uses == KindStateDelete {
			delete(n.state, f.key)
		} else {
			n.state[f.key] = true
		}
	}
}

// ofBranch is for a branch while others write these fields of the state.
func (n *names) ofBranch(others map[string]bool) *names {
	branch := *n
	branch.steps, branch.state, branch.racing = maps.Clone(n.steps), maps.Clone(n.state), maps.Clone(n.racing)
	if branch.racing == nil {
		branch.racing = make(map[string]bool)
	}
	maps.Copy(branch.racing, others)
	return &branch
}

// join adds what a branch has provided.
func (n *names) join(branch *names) {
	maps.Copy(n.steps, branch.steps)
	maps.Copy(n.state, branch.state)
	n.incomplete = n.incomplete || branch.incomplete
}

// beforeItems is for what a step with a foreach evaluates once.
func (n *names) beforeItems(forEach *forEachSpec) *names {
	place := *n
	place.hidden = []string{forEach.name, nameIndex}
	return &place
}

// ofWith is for the input of a step of this kind, nil for one that does not exist.
func (n *names) ofWith(component *Component) *names {
	place := *n
	place.secrets = make(map[string]bool)
	// That a kind does not exist has been reported.
	place.secretsAllowed = component == nil || component.Secrets
	return &place
}
