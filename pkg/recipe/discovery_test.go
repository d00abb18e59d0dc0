package recipe_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
)

// TestDiscovery runs the expressions of the example recipe over an answer of the directory.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../recipes/discovery.yaml")
	require.NoError(t, err)
	r, err := newCompiler(t).Load(doc)
	require.NoError(t, err)
	assert.Equal(t, "0.08", r.Quote().String())
	assert.Equal(t, []string{"directory_url"}, r.VarsUsed)

	input := map[string]any{"search_query": "dentists in california"}
	require.NoError(t, r.ValidateInput(input))
	scope := &recipe.Scope{
		Input: input, State: map[string]any{}, Vars: map[string]any{"directory_url": "http://127.0.0.1:9"},
		Execution: "e", Customer: "cust_001",
	}
	var body any
	require.NoError(t, json.Unmarshal([]byte(`{"query": "dentists in california", "notice": "sample data", "total": 5, "results": [
		{"id": "a", "name": "A", "rating": 4, "reviews": 10, "open": true},
		{"id": "b", "name": "B", "rating": 4.5, "reviews": 3, "open": true},
		{"id": "c", "name": "C", "rating": 5, "reviews": 900, "open": false},
		{"id": "d", "name": "D", "rating": 3.9, "reviews": 7, "open": true},
		{"id": "e", "name": "E", "rating": 4.5, "reviews": 12, "open": true}]}`), &body))

	ctx := t.Context()
	with, err := r.Steps[0].With.Eval(ctx, scope)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{
		"url": "http://127.0.0.1:9/search", "query": map[string]any{"q": "dentists in california"},
	}, with)
	scope.SetStep("find", "success", map[string]any{"status": 200.0, "headers": map[string]any{}, "body": body}, nil)
	for _, step := range r.Steps[1:] {
		with, err := step.With.Eval(ctx, scope)
		require.NoError(t, err)
		set(t, scope, with)
		scope.SetStep(step.ID, "success", with, nil)
	}
	result, err := r.Result.Eval(ctx, scope)
	require.NoError(t, err)
	require.NoError(t, r.ValidateOutput(result))
	ids := []any{}
	leads, ok := field(t, result, "leads").([]any)
	require.True(t, ok)
	for _, lead := range leads {
		ids = append(ids, field(t, lead, "id"))
	}
	assert.Equal(t, []any{"e", "b", "a"}, ids)
	assert.Equal(t, "3 of 5 businesses for 'dentists in california' are open and well rated.", field(t, result, "summary"))
}
