package recipe_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
)

// TestExamples loads the recipes that galley comes with.
func TestExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../recipes/*.yaml")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 4)
	for _, file := range files {
		document, err := os.ReadFile(file)
		require.NoError(t, err)
		r, err := newCompiler(t).Load(document)
		require.NoError(t, err, file)
		assert.Equal(t, filepath.Base(file), r.ID+".yaml", "a recipe is in the file of its name")
	}
}

// TestDiscovery runs the expressions of the first example over an answer of the directory.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../recipes/discovery.yaml")
	require.NoError(t, err)
	r, err := newCompiler(t).Load(doc)
	require.NoError(t, err)
	assert.Equal(t, "0.21", r.Quote().String(), "0.05 for the search, five times up to 0.03, 0.01 for the mail")
	assert.Equal(t, []string{"directory_url"}, r.VarsUsed)

	input := map[string]any{"search_query": "dentists in california", "notify": "owner@example.com"}
	require.NoError(t, r.ValidateInput(input))
	scope := &recipe.Scope{
		Input: input, State: map[string]any{}, Vars: map[string]any{"directory_url": "http://127.0.0.1:9"},
		Execution: "e", Customer: "cust_001",
	}
	var body any
	require.NoError(t, json.Unmarshal([]byte(`{"query": "dentists in california", "notice": "sample data", "total": 5, "results": [
		{"id": "a", "name": "A", "trade": "dentist", "city": "X", "phone": "1", "rating": 4, "reviews": 10, "open": true},
		{"id": "b", "name": "B", "trade": "dentist", "city": "X", "phone": "2", "rating": 4.5, "reviews": 3, "open": true},
		{"id": "c", "name": "C", "trade": "dentist", "city": "X", "phone": "3", "rating": 5, "reviews": 900, "open": false},
		{"id": "d", "name": "D", "trade": "dentist", "city": "X", "phone": "4", "rating": 3.9, "reviews": 7, "open": true},
		{"id": "e", "name": "E", "trade": "dentist", "city": "X", "phone": "5", "rating": 4.5, "reviews": 12, "open": true}]}`), &body))

	ctx := t.Context()
	fill := func(id string, scope *recipe.Scope) map[string]any {
		with, err := r.Step(id).Input(ctx, scope)
		require.NoError(t, err, id)
		fields, ok := with.(map[string]any)
		require.True(t, ok, id)
		return fields
	}
	assert.Equal(t, map[string]any{
		"url": "http://127.0.0.1:9/search", "query": map[string]any{"q": "dentists in california"},
	}, fill("find", scope))
	scope.SetStep("find", "success", map[string]any{"status": 200.0, "headers": map[string]any{}, "body": body}, nil)
	set(t, scope, fill("rank", scope))
	places, err := r.Step("enrich").ForEach.Items(ctx, scope)
	require.NoError(t, err)
	require.Len(t, places, 3)
	asked := fill("enrich", scope.ForItem("place", places[0], 0))
	assert.Equal(t, "Why call E, a dentist in X with 4.5 stars from 12 reviews?", asked["prompt"])
	// The second answer could not be had, which is no reason to leave the lead out.
	scope.SetOutputs("enrich", "partial", []any{map[string]any{"text": "Busy."}, nil, map[string]any{"text": "Near."}}, nil)
	set(t, scope, fill("remember", scope))
	mail := fill("mail", scope)
	assert.Equal(t, "3 leads for dentists in california", mail["subject"])
	assert.Equal(t, "E, X, 5\nBusy.\n\nB, X, 2\n\n\nA, X, 1\nNear.", mail["text"])
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
