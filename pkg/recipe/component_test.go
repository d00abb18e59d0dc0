package recipe_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/problem"
)

// described is the part of a JSON Schema that documentation is made of.
type described struct {
	Description string                     `json:"description"`
	Properties  map[string]json.RawMessage `json:"properties"`
	Items       json.RawMessage            `json:"items"`
}

// undescribed lists the properties without a description, by their paths.
func undescribed(t *testing.T, path string, schema json.RawMessage) []string {
	t.Helper()
	var s described
	if json.Unmarshal(schema, &s) != nil {
		return nil // true or false
	}
	var found []string
	for name, property := range s.Properties {
		var p described
		require.NoError(t, json.Unmarshal(property, &p), "%s/%s", path, name)
		if p.Description == "" {
			found = append(found, path+"/"+name)
		}
		found = append(found, undescribed(t, path+"/"+name, property)...)
	}
	if s.Items != nil {
		found = append(found, undescribed(t, path+"/items", s.Items)...)
	}
	return found
}

// TestComponents says what every description of a kind has to have.
func TestComponents(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir("component")
	require.NoError(t, err)
	components := newCompiler(t).Components()
	require.Len(t, components, len(files))
	retryable := recipe.RetryCodes()
	for _, c := range components {
		t.Run(string(c.Kind), func(t *testing.T) {
			t.Parallel()
			assert.NotEmpty(t, c.Title)
			assert.True(t, strings.HasSuffix(c.Description, "."), "a sentence: %s", c.Description)
			assert.NotEmpty(t, c.Output)
			assert.Empty(t, undescribed(t, "with", c.With))
			assert.Empty(t, undescribed(t, "output", c.Output))
			assert.False(t, c.Effect && c.Waits, "one or the other: what waits has no time-out and is not tried again")
			assert.False(t, c.Waits && c.Secrets, "what a step waits for is written down")
			assert.False(t, !c.Effect && c.Secrets, "what has no effect outside has nobody to tell secrets to")
			var schema map[string]any
			require.NoError(t, json.Unmarshal(c.With, &schema))
			assert.Equal(t, "object", schema["type"])
			assert.NotContains(t, schema, "x-galley")
			codes := map[problem.Code]bool{}
			for _, e := range c.Errors {
				assert.False(t, codes[e.Code], "%s is there twice", e.Code)
				codes[e.Code] = true
				assert.NotEmpty(t, e.When, e.Code)
				if e.Retryable {
					assert.True(t, slices.Contains(retryable, e.Code), "retry.on does not know %s", e.Code)
				}
			}
		})
	}
}

func TestComponentOfAWorker(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	assert.Equal(t, "shout", recipe.Kind("worker.shout").Worker())
	assert.Empty(t, recipe.Kind("worker").Worker())
	assert.Empty(t, recipe.KindHTTP.Worker())
	r, err := compiler.Load(document(`steps: [{id: a, uses: worker.shout, with: {text: "${secrets.x}"}}]`))
	require.NoError(t, err)
	assert.Equal(t, "shout", r.Steps[0].Kind.Worker())
	assert.True(t, r.Steps[0].Effect())
	for _, kind := range []string{"worker", "worker.", "worker.-a", "worker.a.b", "worker.a b", "worker.*", "worker.>", "worker." + strings.Repeat("a", 65)} {
		assert.Equal(t, []string{"5:25 /spec/steps/0/uses UNKNOWN_KIND"},
			problemsOf(t, compiler, document("steps: [{id: a, uses: '"+kind+"', with: {text: x}}]")), kind)
	}
}

// TestInput says what happens to an input whose expressions are filled in.
func TestInput(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	evaluate := func(uses, with string, input map[string]any) (any, error) {
		r, err := compiler.Load(document("steps: [{id: a, uses: " + uses + ", with: " + with + "}]"))
		require.NoError(t, err)
		return r.Steps[0].Input(t.Context(), &recipe.Scope{Input: input})
	}
	with, err := evaluate("action.http", "{url: 'https://a.b', method: '${input.m}', query: {q: '${input.q}', r: 1}, body: '${input.b}'}",
		map[string]any{"m": nil, "q": nil, "b": nil})
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"url": "https://a.b", "query": map[string]any{"q": nil, "r": 1.0}}, with,
		"null leaves a field out, but only at the top")

	with, err = evaluate("state.set", "{x: '${input.x}'}", map[string]any{"x": nil})
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"x": nil}, with, "where the fields are up to the author, null is a value")

	with, err = evaluate("wait.event", "{name: paid, timeout: 1m}", nil)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"name": "paid", "timeout": "1m"}, with)

	for name, test := range map[string]struct {
		uses, with string
		input      any
		want       []recipe.Violation
	}{
		"null for what is needed": {"action.http", "{url: '${input.x}'}", nil, []recipe.Violation{{Path: "/url", Message: "is missing"}}},
		"another type":            {"action.http", "{url: 'https://a.b', query: '${input.x}'}", "q", []recipe.Violation{{Path: "/query", Message: "got string, want object"}}},
		"a type inside": {
			"action.http", "{url: 'https://a.b', headers: {a: '${input.x}'}}",
			[]any{},
			[]recipe.Violation{{Path: "/headers/a", Message: "got array, want boolean or number or string"}},
		},
		"too much": {
			"recipe.run", "{agent: a, recipe: b, version: '${input.x}'}", 0.0, []recipe.Violation{{Path: "/version", Message: "minimum: got 0, want 1"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := evaluate(test.uses, test.with, map[string]any{"x": test.input})
			var violations recipe.Violations
			require.ErrorAs(t, err, &violations)
			got := make([]recipe.Violation, len(violations))
			for i, v := range violations {
				got[i] = recipe.Violation{Path: v.Path, Message: v.Message}
			}
			assert.Equal(t, test.want, got)
		})
	}
}
