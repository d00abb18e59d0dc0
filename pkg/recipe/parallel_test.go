package recipe_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
)

// shape writes stages as [a (b | c d) e].
func shape(stages []recipe.Stage) string {
	parts := make([]string, len(stages))
	for i, stage := range stages {
		if stage.Step != nil {
			parts[i] = stage.Step.ID
			continue
		}
		branches := make([]string, len(stage.Branches))
		for j, branch := range stage.Branches {
			branches[j] = shape(branch)
		}
		parts[i] = "(" + strings.Join(branches, " | ") + ")"
	}
	return strings.Join(parts, " ")
}

func TestParallel(t *testing.T) {
	t.Parallel()
	r, err := newCompiler(t).Load(document(`
steps:
  - {id: a, uses: state.set, with: {x: 1}}
  - parallel:
      - {id: b, uses: state.set, with: {y: "${state.x}", b: 1}, price: "0.1"}
      - steps:
          - {id: c, uses: state.set, with: {z: "${state.x}"}, price: "0.01"}
          - parallel:
              - {id: d, uses: state.set, with: {d: "${steps.c.output}"}}
              - steps:
                  - {id: e, foreach: {in: "${[state.z, steps.c.output]}", as: i}, uses: state.set, with: {e: "${i}"}}
                  - {id: f, uses: state.set, with: {f: "${state.e}"}}
          - {id: g, uses: state.set, with: {g: "${[state.d, state.f, steps.e.outputs]}"}}
      - {id: h, uses: action.http, if: "${state.x == 1}", with: {url: "https://example.com"}}
  - {id: i, uses: state.set, with: {i: "${[steps.b.output, steps.d.status, steps.f.error, state.y, state.g]}"}}
result: "${[state.e, steps.h.output]}"`))
	require.NoError(t, err)
	assert.Equal(t, "a (b | c (d | e f) g | h) i", shape(r.Stages))
	ids := make([]string, len(r.Steps))
	for i, step := range r.Steps {
		ids[i] = step.ID
	}
	assert.Equal(t, "a b c d e f g h i", strings.Join(ids, " "), "the order of the document")
	assert.Equal(t, "0.11", r.Quote().String())
	assert.Same(t, r.Steps[1], r.Stages[1].Branches[0][0].Step)
}

func TestParallelProblems(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	set := func(id, field string) string { return "{id: " + id + ", uses: state.set, with: {" + field + "}}" }
	group := func(branches ...string) string { return "{parallel: [" + strings.Join(branches, ", ") + "]}" }
	list := func(steps ...string) string { return "{steps: [" + strings.Join(steps, ", ") + "]}" }
	many := make([]string, 17)
	for i := range many {
		many[i] = set(string(rune('a'+i)), string(rune('a'+i))+": 1")
	}
	for name, test := range map[string]struct {
		steps string
		want  []string
	}{
		"another type":        {"{parallel: 1}", []string{"5:22 /spec/steps/0/parallel WRONG_TYPE"}},
		"no branch":           {"{parallel: []}", []string{"5:22 /spec/steps/0/parallel INVALID_VALUE"}},
		"one branch":          {group(set("a", "x: 1")), []string{"5:22 /spec/steps/0/parallel INVALID_VALUE"}},
		"too many branches":   {group(many...), []string{"5:22 /spec/steps/0/parallel INVALID_VALUE"}},
		"an empty branch":     {group(set("a", "x: 1"), list()), []string{"5:71 /spec/steps/0/parallel/1/steps INVALID_VALUE"}},
		"a branch is no list": {group(set("a", "x: 1"), "{steps: 1}"), []string{"5:71 /spec/steps/0/parallel/1/steps WRONG_TYPE"}},
		"a branch is no step": {group(set("a", "x: 1"), "1"), []string{"5:63 /spec/steps/0/parallel/1 WRONG_TYPE"}},
		"another field":       {"{parallel: [" + set("a", "x: 1") + ", " + set("b", "y: 1") + "], id: p}", []string{"5:104 /spec/steps/0/id UNKNOWN_FIELD"}},
		"a field of a branch": {
			group(set("a", "x: 1"), "{if: '${true}', steps: ["+set("b", "y: 1")+"]}"),
			[]string{"5:64 /spec/steps/0/parallel/1/if UNKNOWN_FIELD"},
		},
		"a group as a branch": {
			group(set("a", "x: 1"), group(set("b", "y: 1"), set("c", "z: 1"))), []string{"5:63 /spec/steps/0/parallel/1 INVALID_VALUE"},
		},
		"three deep": {
			group(set("a", "x: 1"), list(group(set("b", "y: 1"), list(group(set("c", "z: 1"), set("d", "q: 1")))))),
			[]string{"5:144 /spec/steps/0/parallel/1/steps/0/parallel/1/steps/0/parallel LIMIT_EXCEEDED"},
		},
		"a step of a sibling":   {group(set("a", "x: 1"), set("b", "y: '${steps.a.output}'")), []string{"5:98 /spec/steps/0/parallel/1/with/y UNKNOWN_REFERENCE"}},
		"a step of a later one": {group(set("a", "x: '${steps.b.output}'"), set("b", "y: 1")), []string{"5:58 /spec/steps/0/parallel/0/with/x UNKNOWN_REFERENCE"}},
		"state of a sibling":    {group(set("a", "x: 1"), set("b", "y: '${state.x}'")), []string{"5:98 /spec/steps/0/parallel/1/with/y UNKNOWN_REFERENCE"}},
		"state that a sibling changes": {
			set("z", "x: 0") + ", " + group(set("a", "y: '${state.x}'"), list(set("b", "x: 2"))),
			[]string{"5:98 /spec/steps/1/parallel/0/with/y UNKNOWN_REFERENCE"},
		},
		"state of an uncle": {
			group(list(group(set("a", "x: '${state.z}'"), set("b", "y: 1"))), set("c", "z: 1")),
			[]string{"5:79 /spec/steps/0/parallel/0/steps/0/parallel/0/with/x UNKNOWN_REFERENCE"},
		},
		"the same field": {group(set("a", "x: 1"), set("b", "y: 1, x: 2")), []string{"5:101 /spec/steps/0/parallel/1/with/x INVALID_VALUE"}},
		"the same field deep inside": {
			group(list(group(set("a", "x: 1"), set("b", "y: 1"))), set("c", "y: 2")),
			[]string{"5:160 /spec/steps/0/parallel/1/with/y INVALID_VALUE"},
		},
		"the same field in one branch": {group(list(set("a", "x: 1"), set("b", "x: 2")), set("c", "y: '${state.z}'")), []string{
			"5:149 /spec/steps/0/parallel/1/with/y UNKNOWN_REFERENCE",
		}},
		"an id twice": {group(set("a", "x: 1"), set("a", "y: 1")), []string{"5:68 /spec/steps/0/parallel/1/id DUPLICATE_ID"}},
		"an id of elsewhere": {
			group(set("a", "x: 1"), list(set("b", "y: 1"))) + ", " + set("b", "z: 1"), []string{"5:121 /spec/steps/1/id DUPLICATE_ID"},
		},
		"a broken group hides what is in it": {
			"{parallel: 1}, " + set("a", "x: '${[steps.b.output, state.y]}'"), []string{"5:22 /spec/steps/0/parallel WRONG_TYPE"},
		},
		"an unknown kind may write anything": {
			group("{id: a, uses: ai.think, with: {}}", set("b", "x: 1")) + ", " + set("c", "z: '${state.y}'"),
			[]string{"5:37 /spec/steps/0/parallel/0/uses UNKNOWN_KIND"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, problemsOf(t, compiler, document("steps: ["+test.steps+"]")))
		})
	}
	branch := list(many[:10]...)
	branches := []string{}
	for i := range 10 {
		branches = append(branches, strings.ReplaceAll(strings.ReplaceAll(branch, "id: ", "id: s"+string(rune('a'+i))), "with: {", "with: {f"+string(rune('a'+i))))
	}
	r, err := compiler.Load(document("steps: [" + group(branches...) + "]"))
	require.NoError(t, err)
	assert.Len(t, r.Steps, recipe.MaxSteps)
	assert.Equal(t, []string{"5:10 /spec/steps LIMIT_EXCEEDED"}, problemsOf(t, compiler, document("steps: ["+group(branches...)+", "+set("z", "z: 1")+"]")))
}
