package recipe_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
)

func newCompiler(t testing.TB) *recipe.Compiler {
	t.Helper()
	compiler, err := recipe.NewCompiler()
	require.NoError(t, err)
	return compiler
}

// document is a recipe around these steps, which begin at column 4 of line 5.
func document(steps string) []byte {
	lines := strings.Split(strings.TrimSpace(steps), "\n")
	for i, line := range lines {
		lines[i] = "  " + line
	}
	return []byte("apiVersion: galley/v1\nkind: Recipe\nmetadata: {agent: the-hunter, id: discovery}\nspec:\n" + strings.Join(lines, "\n") + "\n")
}

// oneExpression is a recipe whose second step holds the expression; steps.find is there to be read.
func oneExpression(source string) []byte {
	value, err := json.Marshal("${" + source + "}")
	if err != nil {
		panic(err)
	}
	return document(fmt.Sprintf(`
steps:
  - {id: find, uses: action.http, with: {url: "https://example.com"}}
  - {id: set, uses: state.set, with: {earlier: 1}}
  - {id: test, uses: state.set, with: {value: %s}}`, value))
}

// evaluate returns the value of an expression, and the error of loading or of evaluating it.
func evaluate(t testing.TB, compiler *recipe.Compiler, source string, scope *recipe.Scope) (any, error) {
	t.Helper()
	r, err := compiler.Load(oneExpression(source))
	if err != nil {
		return nil, err
	}
	with, err := r.Steps[2].With.Eval(t.Context(), scope)
	if err != nil {
		return nil, err
	}
	return with.(map[string]any)["value"], nil
}

// scopeOf decodes the parts of a scope from JSON, as the executor gets them.
func scopeOf(t testing.TB, input, body string) *recipe.Scope {
	t.Helper()
	scope := &recipe.Scope{
		State: map[string]any{"earlier": 1.0}, Vars: map[string]any{"directory_url": "http://127.0.0.1:9"},
		Execution: "018f", Customer: "cust_001",
	}
	require.NoError(t, json.Unmarshal([]byte(input), &scope.Input))
	var decoded any
	require.NoError(t, json.Unmarshal([]byte(body), &decoded))
	scope.SetStep("find", "success", map[string]any{"status": 200.0, "headers": map[string]any{}, "body": decoded}, nil)
	return scope
}
