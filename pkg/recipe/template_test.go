package recipe_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/problem"
)

func TestTemplate(t *testing.T) {
	t.Parallel()
	r, err := newCompiler(t).Load(document(`
steps:
  - id: a
    uses: state.set
    with:
      fixed: {list: [1, two, ~, true, {}], text: "costs $${5}"}
      typed: "${input.count}"
      block: |
        ${input.list}
      text: "${input.query}: ${input.count} of ${input.price} (${input.yes}) ${input.list} ${input.object}"
      nested: [{deep: ["${input.count + 1}", plain]}, "a${input.query}b"]
      no: "${input.no}"
      "${key}": stays`))
	require.NoError(t, err)
	scope := exampleScope(t)
	got, err := r.Steps[0].With.Eval(t.Context(), scope)
	require.NoError(t, err)
	encoded, err := json.Marshal(got)
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"fixed": {"list": [1, "two", null, true, {}], "text": "costs ${5}"},
		"typed": 3,
		"block": [1, 2.5, 2],
		"text": "dentists: 3 of 1234567.5 (true) [1,2.5,2] {\"a\":{\"b\":[10,20]}}",
		"nested": [{"deep": [4, "plain"]}, "adentistsb"],
		"no": null,
		"${key}": "stays"}`, string(encoded))
	assert.NotContains(t, string(encoded), ".0", "whole numbers stay whole")
}

func TestNullHasNoPlaceInText(t *testing.T) {
	t.Parallel()
	r, err := newCompiler(t).Load(document(`steps: [{id: a, uses: state.set, with: {x: ["about ${input.no}"]}}]`))
	require.NoError(t, err)
	_, err = r.Steps[0].With.Eval(t.Context(), exampleScope(t))
	var failed *recipe.EvalError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, problem.ExpressionError, failed.Code)
	assert.Equal(t, "/spec/steps/0/with/x/0", failed.Path)
	assert.Contains(t, failed.Message, "is null")
}

func TestTextIsBounded(t *testing.T) {
	t.Parallel()
	r, err := newCompiler(t).Load(document(`steps: [{id: a, uses: state.set, with: {x: "` + strings.Repeat("${input.text} ", 10) + `"}}]`))
	require.NoError(t, err)
	_, err = r.Steps[0].With.Eval(t.Context(), &recipe.Scope{Input: map[string]any{"text": strings.Repeat("a", 200_000)}})
	var failed *recipe.EvalError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, problem.ExpressionLimit, failed.Code)
}

// TestSkippedStepReadsAsNull says what later steps see of a step that did not run.
func TestSkippedStepReadsAsNull(t *testing.T) {
	t.Parallel()
	scope := &recipe.Scope{}
	scope.SetStep("find", "skipped", nil, nil)
	got, err := evaluate(t, newCompiler(t), "steps.find.status == 'skipped' && steps.find.output == null && steps.find.error == null", scope)
	require.NoError(t, err)
	assert.Equal(t, true, got)
}

// TestEmptyScope says that a scope without its parts reads as empty objects, not as an error of the engine.
func TestEmptyScope(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	got, err := evaluate(t, compiler, "[has(input.x), has(vars.x), has(state.earlier), execution.id == '']", &recipe.Scope{})
	require.NoError(t, err)
	assert.Equal(t, []any{false, false, false, true}, got)
}

// TestRecipeIsSafeForConcurrentUse is for the race detector.
func TestRecipeIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	r, err := compiler.Load(document(`
input: {type: object, properties: {n: {type: number}}}
steps:
  - id: a
    uses: state.set
    if: "${input.n >= 0}"
    with:
      list: "${lists.range(10).map(i, i * input.n).filter(i, string(i).matches('^[0-9]+$')).sortBy(i, -i)}"
      text: "n is ${input.n}"`))
	require.NoError(t, err)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for range 50 {
				n := float64(worker)
				scope := &recipe.Scope{Input: map[string]any{"n": n}}
				assert.NoError(t, r.ValidateInput(scope.Input))
				runs, err := r.Steps[0].ShouldRun(t.Context(), scope)
				assert.NoError(t, err)
				assert.True(t, runs)
				got, err := r.Steps[0].With.Eval(t.Context(), scope)
				if assert.NoError(t, err) {
					assert.Equal(t, fmt.Sprintf("n is %v", n), field(t, got, "text"))
					assert.Contains(t, field(t, got, "list"), 9*n)
				}
			}
			_, err := compiler.Load(document("steps: [{id: a, foreach: {in: '${[1]}', as: item}, uses: state.set, with: {x: '${item + index}'}}]"))
			assert.NoError(t, err)
			_, err = compiler.Load(oneExpression("input.n + 1"))
			assert.NoError(t, err)
		})
	}
	group.Wait()
}
