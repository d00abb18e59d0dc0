package recipe_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
)

// BenchmarkEval measures filling in a template of one expression, or of a constant.
func BenchmarkEval(b *testing.B) {
	compiler := newCompiler(b)
	scope := exampleScope(b)
	for name, source := range map[string]string{
		"path":       "input.query",
		"join":       "vars.directory_url + '/search'",
		"arithmetic": "input.count + 1",
		"condition":  "has(input.query) && input.query != ''",
		"size":       "size(steps.find.output.body.results) > 3",
		"rank":       "steps.find.output.body.results.filter(p, p.open && p.rating >= 4).sortBy(p, -p.rating)",
	} {
		r, err := compiler.Load(oneExpression(source))
		require.NoError(b, err)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Steps[2].With.Eval(b.Context(), scope); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDiscovery measures everything that one execution of the example recipe asks of this package: the input and output
// schemas, and the templates of its three steps and its result, over 20 businesses.
func BenchmarkDiscovery(b *testing.B) {
	r, scope := discovery(b, 20)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.ValidateInput(scope.Input); err != nil {
			b.Fatal(err)
		}
		scope.State = map[string]any{}
		for i, step := range r.Steps {
			with, err := step.With.Eval(b.Context(), scope)
			if err != nil {
				b.Fatal(err)
			}
			if i > 0 {
				set(b, scope, with)
			}
		}
		result, err := r.Result.Eval(b.Context(), scope)
		if err != nil {
			b.Fatal(err)
		}
		if err := r.ValidateOutput(result); err != nil {
			b.Fatal(err)
		}
	}
}

func discovery(b *testing.B, businesses int) (*recipe.Recipe, *recipe.Scope) {
	b.Helper()
	doc, err := os.ReadFile("../../recipes/discovery.yaml")
	require.NoError(b, err)
	r, err := newCompiler(b).Load(doc)
	require.NoError(b, err)
	results := make([]any, businesses)
	for i := range results {
		results[i] = map[string]any{
			"id": strconv.Itoa(i), "name": "Somebody", "trade": "dentist", "city": "Oakland", "state": "CA", "phone": "555-0100",
			"website": "https://example.com", "rating": float64(30+i%20) / 10, "reviews": float64(i * 7 % 40), "open": i%3 != 0,
		}
	}
	scope := &recipe.Scope{
		Input: map[string]any{"search_query": "dentists in california"}, Vars: map[string]any{"directory_url": "http://127.0.0.1:9"},
	}
	scope.SetStep("find", "success", map[string]any{
		"status": 200.0, "body": map[string]any{"notice": "sample data", "results": results},
	}, nil)
	return r, scope
}

// BenchmarkLoad measures publishing, or the first execution of a version: of the example recipe, and of one with as many different
// items as there can be.
func BenchmarkLoad(b *testing.B) {
	discovery, err := os.ReadFile("../../recipes/discovery.yaml")
	require.NoError(b, err)
	var items strings.Builder
	for i := range recipe.MaxSteps {
		fmt.Fprintf(&items, "  - {id: s%d, foreach: {in: '${[1]}', as: item%d}, uses: state.set, with: {x: '${item%d}'}}\n", i, i, i)
	}
	compiler := newCompiler(b)
	for name, doc := range map[string][]byte{"discovery": discovery, "items": document("steps:\n" + items.String())} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := compiler.Load(doc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkItem measures filling in the template of one item of a foreach.
func BenchmarkItem(b *testing.B) {
	r, err := newCompiler(b).Load(document(
		"steps: [{id: a, foreach: {in: '${input.list}', as: item}, uses: state.set, with: {x: '${item.name}'}}]"))
	require.NoError(b, err)
	step, scope := r.Steps[0], exampleScope(b)
	var item any = map[string]any{"name": "Somebody"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := step.With.Eval(b.Context(), scope.ForItem(step.ForEach.Name, item, 1)); err != nil {
			b.Fatal(err)
		}
	}
}
