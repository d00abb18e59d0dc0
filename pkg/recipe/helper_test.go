package recipe_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
)

func newCompiler(tb testing.TB) *recipe.Compiler {
	tb.Helper()
	compiler, err := recipe.NewCompiler()
	require.NoError(tb, err)
	return compiler
}

// kindList is how a message lists all kinds.
func kindList(compiler *recipe.Compiler) string {
	var names []string
	for _, component := range compiler.Components() {
		names = append(names, strings.Replace(string(component.Kind), "worker", "worker.<name>", 1))
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
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
func evaluate(tb testing.TB, compiler *recipe.Compiler, source string, scope *recipe.Scope) (any, error) {
	tb.Helper()
	r, err := compiler.Load(oneExpression(source))
	if err != nil {
		return nil, err
	}
	with, err := r.Steps[2].With.Eval(tb.Context(), scope)
	if err != nil {
		return nil, err
	}
	return field(tb, with, "value"), nil
}

// field is a field of an object.
func field(tb testing.TB, object any, name string) any {
	tb.Helper()
	fields, ok := object.(map[string]any)
	require.True(tb, ok, "%v is not an object", object)
	return fields[name]
}

// set is what the executor does for state.set.
func set(tb testing.TB, scope *recipe.Scope, with any) {
	tb.Helper()
	fields, ok := with.(map[string]any)
	require.True(tb, ok, "%v is not an object", with)
	maps.Copy(scope.State, fields)
}

// exampleScope decodes exampleInput and exampleBody, as the executor would.
func exampleScope(tb testing.TB) *recipe.Scope {
	tb.Helper()
	scope := &recipe.Scope{
		State: map[string]any{"earlier": 1.0}, Vars: map[string]any{"directory_url": "http://127.0.0.1:9"},
		Execution: "018f", Customer: "cust_001",
	}
	require.NoError(tb, json.Unmarshal([]byte(exampleInput), &scope.Input))
	var body any
	require.NoError(tb, json.Unmarshal([]byte(exampleBody), &body))
	scope.SetStep("find", "success", map[string]any{"status": 200.0, "headers": map[string]any{}, "body": body}, nil)
	return scope
}
