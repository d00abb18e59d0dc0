package recipe_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/problem"
)

const (
	exampleInput = `{"query": "dentists", "count": 3, "ratio": 4.5, "million": 1234567, "price": 1234567.5, "list": [1, 2.5, 2], "empty": [],
		"no": null, "yes": true, "object": {"a": {"b": [10, 20]}}, "my-key": 7, "date": "2026-01-02T03:04:05Z"}`
	exampleBody = `{"results": [
		{"id": "a", "rating": 4, "reviews": 10, "open": true},
		{"id": "b", "rating": 4.5, "reviews": 3, "open": true},
		{"id": "c", "rating": 5, "reviews": 900, "open": false},
		{"id": "d", "rating": 4.5, "reviews": 12, "open": true}]}`
)

func TestExpressionValues(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	results := "steps.find.output.body.results"
	for source, want := range map[string]any{
		// The scope.
		`input.query`:                       "dentists",
		`input["my-key"]`:                   7.0,
		`input.object.a.b[1]`:               20.0,
		`input.object`:                      map[string]any{"a": map[string]any{"b": []any{10.0, 20.0}}},
		`input.no`:                          nil,
		`vars.directory_url + "/search"`:    "http://127.0.0.1:9/search",
		`execution.id`:                      "018f",
		`execution.customer`:                "cust_001",
		`state.earlier`:                     1.0,
		`steps.find.status`:                 "success",
		`steps["find"].output.status`:       200.0,
		`steps.find.error == null`:          true,
		`has(input.query)`:                  true,
		`has(input.nothing)`:                false,
		`input.?nothing.orValue("none")`:    "none",
		`input.?query.orValue("none")`:      "dentists",
		`input.?nothing`:                    nil,
		`input.object.?a.?b[?5].orValue(0)`: 0.0,
		// Numbers of JSON and literals mix.
		`input.count + 1`:                     4.0,
		`1 + input.count`:                     4.0,
		`input.count - 1`:                     2.0,
		`input.count * 2`:                     6.0,
		`input.count / 2`:                     1.5,
		`9 / input.count`:                     3.0,
		`9 / 2`:                               4.0,
		`input.count % 2`:                     1.0,
		`7 % 4`:                               3.0,
		`-input.count`:                        -3.0,
		`input.count > 2 && input.ratio >= 4`: true,
		`input.count == 3`:                    true,
		`3 == input.count`:                    true,
		`input.count in [1, 2, 3]`:            true,
		`3 in [input.count]`:                  true,
		`size(input.list) > 2`:                true,
		`input.list[input.count - 1]`:         2.0,
		`[1, 2, 3, 4].slice(0, input.count)`:  []any{1.0, 2.0, 3.0},
		`"abcdef".substring(input.count)`:     "def",
		`lists.range(input.count)`:            []any{0.0, 1.0, 2.0},
		`math.greatest(input.count, 2, 2.5)`:  3.0,
		`math.least(10, size(input.list))`:    3.0,
		`int(input.ratio)`:                    4.0,
		`input.yes ? 1 : input.ratio`:         1.0,
		`9007199254740993`:                    9007199254740992.0, // every number is a float64
		`string(input.million)`:               "1234567",
		`string(input.price)`:                 "1234567.5",
		`string(12)`:                          "12",
		`"%d of %s: %.2f".format([input.count, input.million, input.price])`: "3 of 1234567: 1234567.50",
		// Filtering and ranking.
		results + `.filter(p, p.open && p.rating >= 4).map(p, p.id)`:                                     []any{"a", "b", "d"},
		results + `.sortBy(p, -p.reviews).sortBy(p, -p.rating).map(p, p.id)`:                             []any{"c", "d", "b", "a"},
		results + `.map(p, p.open, p.rating)`:                                                            []any{4.0, 4.5, 4.5},
		results + `.map(p, p.rating).sort()`:                                                             []any{4.0, 4.5, 4.5, 5.0},
		results + `.map(p, p.rating).distinct()`:                                                         []any{4.0, 4.5, 5.0},
		results + `.exists(p, p.reviews > 800)`:                                                          true,
		results + `.transformMap(i, p, p.id)`:                                                            map[string]any{"0": "a", "1": "b", "2": "c", "3": "d"},
		results + `.transformMapEntry(i, p, {p.id: p.reviews})`:                                          map[string]any{"a": 10.0, "b": 3.0, "c": 900.0, "d": 12.0},
		`cel.bind(best, ` + results + `.filter(p, p.open), {"n": size(best), "ids": best.map(p, p.id)})`: map[string]any{"n": 3.0, "ids": []any{"a", "b", "d"}},
		`[3, 1.5, input.count].sort()`:                                                                   []any{1.5, 3.0, 3.0},
		`["b", "a"].sort()`:                                                                              []any{"a", "b"},
		`[[1, 2], [3]].flatten()`:                                                                        []any{1.0, 2.0, 3.0},
		`[1, 2] + input.list`:                                                                            []any{1.0, 2.0, 1.0, 2.5, 2.0},
		`[1, 2].hasAny(input.list)`:                                                                      true,
		`sets.contains(input.list, [1, 2])`:                                                              true,
		`input.empty`:                                                                                    []any{},
		`{}`:                                                                                             map[string]any{},
		// Text and the rest.
		`["a", "b"].join(", ")`:                                        "a, b",
		`"a-b-c".split("-")`:                                           []any{"a", "b", "c"},
		`"a-b-c".replace("-", "")`:                                     "abc",
		`"a-b-c".replace("-", "+", 1)`:                                 "a+b-c",
		`input.query.matches("^den.*s$")`:                              true,
		`input.query.matches("^" + "x")`:                               false,
		`"Ab".lowerAscii() + "Ab".upperAscii()`:                        "abAB",
		`"hello".indexOf("l") + "hello".lastIndexOf("l", input.count)`: 5.0,
		`json.encode({"a": [1, input.ratio]})`:                         `{"a":[1,4.5]}`,
		`base64.encode(b"hello")`:                                      "aGVsbG8=",
		`b"hello"`:                                                     "aGVsbG8=",
		`timestamp(input.date).getHours()`:                             3.0,
		`timestamp(input.date).getHours("Asia/Tokyo")`:                 12.0,
		`timestamp(input.date) + duration("1h")`:                       "2026-01-02T04:04:05Z",
		`duration("90s")`:                                              "1m30s",
		`optional.of(1)`:                                               1.0,
	} {
		got, err := evaluate(t, compiler, source, exampleScope(t))
		if assert.NoError(t, err, source) {
			assert.Equal(t, want, got, source)
		}
	}
}

func TestExpressionErrors(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	for source, message := range map[string]string{
		`input.nothing`:                   "no such key: nothing",
		`input.query + 1`:                 "no such overload",
		`input.list[7]`:                   "index out of bounds: 7",
		`1 / 0`:                           "division by zero",
		`input.count % 0`:                 "modulus by zero",
		`1.0 / 0.0`:                       "not a JSON number",
		`type(1)`:                         "has no place in JSON",
		`{[1]: 1}`:                        "a key of type list",
		`["a", 1].sort()`:                 "sort: the keys must be",
		`[1, 2, 3].slice(0, input.ratio)`: "no such overload: slice",
		`input.query.matches("(" + "(")`:  "missing closing",
		`timestamp("2026-01-01T00:00:00Z").getHours("Nowhere")`: "unknown time zone",
	} {
		_, err := evaluate(t, compiler, source, exampleScope(t))
		var failed *recipe.EvalError
		if assert.ErrorAs(t, err, &failed, source) {
			assert.Equal(t, problem.ExpressionError, failed.Code, source)
			assert.Equal(t, "/spec/steps/2/with/value", failed.Path)
			assert.Contains(t, failed.Message, message)
			assert.Contains(t, failed.Message, "${"+source+"}")
		}
	}
}

func TestCancelledContextStopsAnExpression(t *testing.T) {
	t.Parallel()
	r, err := newCompiler(t).Load(oneExpression("lists.range(1000).map(i, i)"))
	require.NoError(t, err)
	cause := errors.New("the step ran out of time")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	_, err = r.Steps[2].With.Eval(ctx, &recipe.Scope{})
	require.ErrorIs(t, err, cause)
}

// endsLater is a context that ends right after the first look at it.
type endsLater struct {
	context.Context //nolint:containedctx // it is a context itself
	done            chan struct{}
	looked          atomic.Bool
}

func (c *endsLater) Done() <-chan struct{} { return c.done }

func (c *endsLater) Err() error {
	if c.looked.Swap(true) {
		return context.DeadlineExceeded
	}
	return nil
}

func TestEndOfTheContextStopsALoop(t *testing.T) {
	t.Parallel()
	r, err := newCompiler(t).Load(oneExpression("lists.range(100000).map(i, i)"))
	require.NoError(t, err)
	ctx := &endsLater{Context: t.Context(), done: make(chan struct{})}
	close(ctx.done)
	_, err = r.Steps[2].With.Eval(ctx, &recipe.Scope{})
	var failed *recipe.EvalError
	require.Error(t, err)
	assert.NotErrorAs(t, err, &failed, "it ended before it reached its own limit")
}

func TestConditions(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	scope := exampleScope(t)
	for source, want := range map[string]bool{
		`${has(input.query)}`: true, `${input.count > 5}`: false, `${input.yes}`: true, `${  true  }`: true,
	} {
		r, err := compiler.Load(document("steps: [{id: a, uses: state.set, if: '" + source + "', with: {x: 1}}]"))
		require.NoError(t, err, source)
		got, err := r.Steps[0].ShouldRun(t.Context(), scope)
		require.NoError(t, err, source)
		assert.Equal(t, want, got, source)
	}
	r, err := compiler.Load(document("steps: [{id: a, uses: state.set, if: '${input.query}', with: {x: 1}}]"))
	require.NoError(t, err)
	_, err = r.Steps[0].ShouldRun(t.Context(), scope)
	var failed *recipe.EvalError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, "/spec/steps/0/if", failed.Path)
	assert.Contains(t, failed.Message, "must be true or false")

	r, err = compiler.Load(document("steps: [{id: a, uses: state.set, with: {x: 1}}]"))
	require.NoError(t, err)
	runs, err := r.Steps[0].ShouldRun(t.Context(), scope)
	require.NoError(t, err)
	assert.True(t, runs, "a step without a condition always runs")
}
