package recipe

import (
	"maps"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
)

func (k *compilation) stages(entries []entrySpec) []Stage {
	stages := make([]Stage, len(entries))
	for i, entry := range entries {
		if entry.step != nil {
			stages[i].Step = k.step(entry.step)
		} else {
			stages[i].Branches = k.branches(entry.branches)
		}
	}
	return stages
}

// branches compiles each branch as if it were alone, because it cannot know what the others have done already.
func (k *compilation) branches(specs [][]entrySpec) [][]Stage {
	writes := k.writes(specs)
	before := k.names
	after := before.ofBranch(nil)
	branches := make([][]Stage, len(specs))
	for i, spec := range specs {
		others := make(map[string]bool)
		for j := range writes {
			if j != i {
				maps.Copy(others, writes[j])
			}
		}
		k.names = before.ofBranch(others)
		branches[i] = k.stages(spec)
		after.join(k.names)
	}
	k.names = after
	return branches
}

// writes are the fields of the state that each branch writes. Two branches that write the same one are refused: which value stays
// would be a matter of chance.
func (k *compilation) writes(specs [][]entrySpec) []map[string]bool {
	type writer struct {
		branch int
		step   string
	}
	first := make(map[string]writer)
	writes := make([]map[string]bool, len(specs))
	for i, spec := range specs {
		writes[i] = make(map[string]bool)
		eachStep(spec, func(step *stepSpec) {
			for _, f := range step.writes() {
				writes[i][f.key] = true
				other, ok := first[f.key]
				switch {
				case !ok:
					first[f.key] = writer{i, step.id}
				case other.branch != i:
					k.reportAt(CodeInvalidValue, f.value.path(), f.line, f.col,
						"state.%s is written by the step %q too, which runs at the same time in another branch", f.key, other.step)
				}
			}
		})
	}
	return writes
}

func (k *compilation) step(spec *stepSpec) *Step {
	step := &Step{
		ID: spec.id, Kind: spec.uses, Timeout: spec.timeout, Retry: spec.retry, OnError: spec.onError, Price: spec.price,
		component: k.component(spec.uses),
	}
	step.Checkpoint = spec.checkpoint || step.Effect() || step.Waits()
	k.steps = append(k.steps, step)
	place := k.names
	if spec.forEach != nil {
		place = k.names.beforeItems(spec.forEach)
	}
	k.at(place, func() {
		if spec.condition != nil {
			step.condition = k.sole(spec.condition, cel.BoolType, "a condition is one expression, such as \"${has(input.notify)}\"")
		}
		if spec.forEach != nil {
			step.ForEach = k.forEach(spec.forEach)
		}
	})
	if spec.with != nil {
		k.checkWith(spec.uses, spec.with)
		k.with(step, spec)
	}
	k.names.provide(spec)
	return step
}

// at compiles with the names of another place.
func (k *compilation) at(place *names, compile func()) {
	outer := k.names
	k.names = place
	compile()
	k.names = outer
}

func (k *compilation) forEach(spec *forEachSpec) *ForEach {
	compiled := &ForEach{Name: spec.name, MaxItems: spec.maxItems, MaxParallel: spec.maxParallel}
	if spec.in != nil {
		compiled.in = k.sole(spec.in, cel.ListType(cel.DynType),
			"a foreach goes over one expression, such as \"${steps.find.output.body.results}\"")
	}
	return compiled
}

func (k *compilation) with(step *Step, spec *stepSpec) {
	place := k.names.ofWith(step.component)
	if spec.forEach != nil {
		env := k.itemEnv(spec.forEach)
		if env == nil {
			return // Nothing can be said about expressions over an item that has no name.
		}
		place.env, place.item = env, spec.forEach.name
	}
	k.at(place, func() { step.With = &Template{root: k.template(spec.with)} })
	step.SecretsUsed = slices.Sorted(maps.Keys(place.secrets))
}

// itemEnv is the environment with the item of a foreach, nil when its name will not do, which is reported.
func (k *compilation) itemEnv(spec *forEachSpec) *cel.Env {
	if spec.name == "" {
		return nil
	}
	if env := k.itemEnvs[spec.name]; env != nil {
		return env
	}
	if !k.isFree(spec.name) {
		k.report(CodeInvalidValue, spec.nameAt, "%q has a meaning already: give the item another name", spec.name)
		return nil
	}
	env, err := withItem(k.env, spec.name)
	if err != nil {
		k.report(CodeInvalidValue, spec.nameAt, "%q cannot be the name of an item", spec.name)
		return nil
	}
	k.itemEnvs[spec.name] = env
	return env
}

// isFree tells a name from a word of CEL, which does not parse as a name, and from a name that can be read everywhere.
func (k *compilation) isFree(name string) bool {
	parsed, issues := k.env.Parse(name)
	if issues.Err() != nil || parsed.NativeRep().Expr().Kind() != ast.IdentKind || name == nameIndex {
		return false
	}
	_, issues = k.env.Check(parsed)
	return issues.Err() != nil
}
