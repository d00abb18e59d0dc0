package recipe_test

import (
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
)

// FuzzParse says that whatever comes in, loading ends with problems or with a recipe whose canonical form is the same recipe.
func FuzzParse(f *testing.F) {
	discovery, err := os.ReadFile("../../recipes/discovery.yaml")
	require.NoError(f, err)
	f.Add(discovery)
	f.Add(document(`steps: [{id: a, uses: state.set, with: {x: "${input.a + 1}", y: "$${"}, price: 0.5, retry: {on: [TIMEOUT]}}]`))
	f.Add([]byte(`{"apiVersion": "galley/v1", "kind": "Recipe", "metadata": {"agent": "a", "id": "b"},
		"spec": {"input": {"type": "object"}, "steps": [{"id": "a", "uses": "action.http", "with": {"url": "https://a.b"}}]}}`))
	f.Add(document(`
steps:
  - {id: a, foreach: {in: "${[1, 2]}", as: n, max_items: 3, max_parallel: 2}, uses: action.http, with: {url: "https://a.b/${n + index}", body: "${secrets.key}"}}
  - parallel:
      - {id: b, uses: state.set, if: "${size(steps.a.outputs) > 1}", with: {x: 1}}
      - steps:
          - {id: c, uses: recipe.run, with: {agent: a, recipe: b, input: {y: "${vars.z}"}}, timeout: 1m}
          - parallel: [{id: d, uses: wait.for, with: {duration: 1s}}, {id: e, uses: approval, with: {title: Go, timeout: 1m}, on_error: continue}]
  - {id: f, uses: wait.event, with: {name: "n-${state.x}", timeout: "${input.t}"}, price: 1}
  - {id: g, uses: wait.until, with: {time: 2026-12-01T08:00:00Z}}
result: "${steps.c.output}"`))
	f.Add([]byte("a: &x [*x]\n---\n<<: *x"))
	compiler := newCompiler(f)
	f.Fuzz(func(t *testing.T, doc []byte) {
		r, err := compiler.Load(doc)
		if err != nil {
			var problems recipe.Problems
			require.True(t, errors.As(err, &problems))
			require.NotEmpty(t, problems)
			for _, p := range problems {
				assert.Positive(t, p.Line)
				assert.Positive(t, p.Column)
				assert.NotEmpty(t, p.Message)
			}
			return
		}
		require.True(t, json.Valid(r.Canonical()))
		again, err := compiler.Load(r.Canonical())
		require.NoError(t, err)
		assert.Equal(t, string(r.Canonical()), string(again.Canonical()))
		_ = r.ValidateInput(map[string]any{})
		assert.Equal(t, len(r.Steps), countSteps(r.Stages))
		for _, step := range r.Steps {
			scope := &recipe.Scope{}
			_, _ = step.ShouldRun(t.Context(), scope)
			if step.ForEach != nil {
				_, _ = step.ForEach.Items(t.Context(), scope)
				scope = scope.ForItem(step.ForEach.Name, 1.0, 0)
			}
			_, _ = step.With.Eval(t.Context(), scope)
		}
	})
}

func countSteps(stages []recipe.Stage) int {
	steps := 0
	for _, stage := range stages {
		if stage.Step != nil {
			steps++
		}
		for _, branch := range stage.Branches {
			steps += countSteps(branch)
		}
	}
	return steps
}
