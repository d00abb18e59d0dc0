package recipe_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/problem"
)

// doubling binds init to v, then 30 times an expression of v to v, and ends with the result: cel.bind(v, init, cel.bind(v, next, …)).
func doubling(init, next, result string) string {
	const n = 30
	return "cel.bind(v, " + init + ", " + strings.Repeat("cel.bind(v, "+next+", ", n) + result + strings.Repeat(")", n+1)
}

// TestLimits tries what would run for minutes, or fill the memory, if nothing stopped it.
func TestLimits(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	scope := &recipe.Scope{
		Input: map[string]any{"text": strings.Repeat("a", 400_000), "other": strings.Repeat("a", 399_999) + "b", "n": 3.0},
		State: map[string]any{},
	}
	records := make([]any, 1000)
	for i := range records {
		records[i] = map[string]any{"id": strconv.Itoa(i), "rating": float64(i%50) / 10, "name": "Somebody", "open": i%2 == 0}
	}
	scope.SetStep("find", "success", map[string]any{"body": records}, nil)

	pairs := func(result string) string { return doubling("[1]", "[v, v]", result) }
	for _, source := range []string{
		// Loops.
		"lists.range(1000).map(x, lists.range(1000).map(y, lists.range(1000).map(z, x * y * z)))",
		"steps.find.output.body.all(a, steps.find.output.body.all(b, a.id != b.id || a == b))",
		"lists.range(100000).map(x, x * 2).size()",
		"lists.range(100000).map(x, input.text)",
		"lists.range(100000).map(x, size(input.text)).size()",
		"lists.range(100000).map(x, input.text < input.other).size()",
		"lists.range(100000).map(x, input.text == input.other).size()",
		"lists.range(100000).map(x, input.text.substring(input.n)).size()",
		"lists.range(100000).map(x, timestamp('2026-01-01T00:00:00Z').getHours('Asia/Tokyo')).size()",
		"lists.range(100000).transformMap(i, v, v)",
		"lists.range(100000).transformMapEntry(i, v, {string(i): v}).size()",
		// Values that hold themselves many times over.
		pairs("v"), pairs("v == v"), pairs("json.encode(v)"), pairs("'%s'.format([v])"), pairs("v.flatten(100)"), pairs("v in [v]"),
		pairs("[v, v].distinct()"), pairs("sets.contains([v], [v])"), pairs("[v].hasOnly([v])"), pairs("optional.of(v) != optional.of(v)"),
		doubling("[1]", "{'a': v, 'b': v}", "v == v"),
		"[1]" + strings.Repeat(".map(x, [x, x])", 30),
		// Text and lists that double.
		doubling("'aaaaaaaaaa'", "v + v", "size(v)"),
		doubling("[1]", "v + v", "size(v)"),
		doubling("b'aaaaaaaaaa'", "v + v", "size(v)"),
		doubling("'a'", "v.replace('a', 'aa')", "size(v)"),
		doubling("'a'", "[v, v].join()", "size(v)"),
		doubling("'a'", "'%s%s'.format([v, v])", "size(v)"),
		// Single calls that are more than linear.
		"input.text.replace('a', input.text)", "input.text.replace('', input.text)",
		"input.text.indexOf(input.other)", "input.text.lastIndexOf(input.other)", "input.text.contains(input.other)",
		"input.text.matches('(a?){45}b$')", "input.text.matches('(a?)' + '{45}b$')",
		"lists.range(10000).map(i, [i]).distinct()", "sets.contains(lists.range(100000), lists.range(100000))",
		"lists.range(5000).map(i, i % 2 == 0 ? input.text : input.other).sort().size()",
		"lists.range(1000).map(i, input.text).join().size()", "lists.range(1000).map(i, 'a').join(input.text)",
		"input.other in lists.range(1000).map(i, input.text)",
	} {
		started := time.Now()
		_, err := evaluate(t, compiler, source, scope)
		took := time.Since(started)
		var failed *recipe.EvalError
		if assert.ErrorAs(t, err, &failed, source) {
			assert.Equal(t, problem.ExpressionLimit, failed.Code, "%s: %v", source, err)
		}
		assert.Less(t, took, 5*time.Second, source)
	}
}

// TestExpressionsShareALimit says that many expressions of one template cannot do what one of them could not.
func TestExpressionsShareALimit(t *testing.T) {
	t.Parallel()
	r, err := newCompiler(t).Load(document(`
steps:
  - id: a
    uses: state.set
    with: {values: [` + strings.Repeat(`"${lists.range(30000).map(i, i).size()}", `, 20) + `]}`))
	require.NoError(t, err)
	_, err = r.Steps[0].With.Eval(t.Context(), &recipe.Scope{})
	var failed *recipe.EvalError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, problem.ExpressionLimit, failed.Code)
}

// TestOrdinaryWorkIsFarFromTheLimits makes sure that the limits do not get in the way of what recipes are for.
func TestOrdinaryWorkIsFarFromTheLimits(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	records := make([]any, 5000)
	for i := range records {
		records[i] = map[string]any{
			"id": strconv.Itoa(i), "name": "Somebody " + strconv.Itoa(i%700), "rating": float64(i%50) / 10, "reviews": float64(i), "open": i%2 == 0,
		}
	}
	scope := &recipe.Scope{Input: map[string]any{"text": strings.Repeat("word ", 20_000)}}
	scope.SetStep("find", "success", map[string]any{"body": records}, nil)
	for _, source := range []string{
		"steps.find.output.body.filter(p, p.open && p.rating >= 2).sortBy(p, -p.reviews).map(p, {'id': p.id, 'name': p.name})",
		"steps.find.output.body.map(p, p.name).distinct().size()",
		"steps.find.output.body.filter(p, p.name.matches('^Some[a-z]+ [0-9]{2}$')).size()",
		"json.encode(steps.find.output.body)",
		"steps.find.output.body.map(p, p.name).join(', ')",
		"input.text.split(' ').size()",
		"input.text.replace('word', 'phrase').size()",
		"input.text.contains('phrase')",
	} {
		_, err := evaluate(t, compiler, source, scope)
		assert.NoError(t, err, source)
	}
}

// TestCheckingIsBounded tries a recipe whose expressions would take a minute to check.
func TestCheckingIsBounded(t *testing.T) {
	t.Parallel()
	one := `"${[1]` + strings.Repeat(".map(x, [x, x])", 40) + `}", `
	_, err := newCompiler(t).Load(document("steps: [{id: a, uses: state.set, with: {x: [" + strings.Repeat(one, 200_000/len(one)) + "1]}}]"))
	var problems recipe.Problems
	require.ErrorAs(t, err, &problems)
	assert.Equal(t, recipe.CodeLimitExceeded, problems[0].Code)
}
