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
		for _, step := range r.Steps {
			_, _ = step.With.Eval(t.Context(), &recipe.Scope{})
		}
	})
}
