package recipe_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/problem"
)

// TestForEach goes over the items as the executor does.
func TestForEach(t *testing.T) {
	t.Parallel()
	r, err := newCompiler(t).Load(document(`
steps:
  - id: look
    foreach: {in: "${input.places.filter(p, p.open)}", as: place, max_items: 3, max_parallel: 2}
    uses: action.http
    if: "${size(input.places) > 0}"
    with:
      url: "https://example.com/${place.name}"
      body: {number: "${index + 1}", half: "${index / 2}", twice: "${input.places.map(p, p.name + place.name)[index]}"}
    price: "0.01"
  - id: keep
    uses: state.set
    foreach: {in: "${steps.look.outputs}", as: one}
    with: {last: "${one == null ? 'nothing' : one.body}", before: "${steps.look.outputs[index]}"}
result: {all: "${steps.look.outputs}", how: "${steps.look.status}", why: "${steps.look.error}"}`))
	require.NoError(t, err)
	look, keep := r.Steps[0], r.Steps[1]
	assert.Equal(t, []recipe.Stage{{Step: look}, {Step: keep}}, r.Stages)
	assert.Equal(t, "0.03", r.Quote().String())
	assert.Equal(t, "place", look.ForEach.Name)
	assert.Equal(t, 3, look.ForEach.MaxItems)
	assert.Equal(t, 2, look.ForEach.MaxParallel)
	assert.Equal(t, recipe.DefaultMaxItems, keep.ForEach.MaxItems)
	assert.Equal(t, recipe.DefaultMaxParallel, keep.ForEach.MaxParallel)

	place := func(name string) any { return map[string]any{"name": name, "open": name != "c"} }
	scope := &recipe.Scope{Input: map[string]any{"places": []any{place("a"), place("b"), place("c"), place("d")}}}
	items, err := look.ForEach.Items(t.Context(), scope)
	require.NoError(t, err)
	assert.Equal(t, []any{place("a"), place("b"), place("d")}, items)
	with, err := look.With.Eval(t.Context(), scope.ForItem(look.ForEach.Name, items[1], 1))
	require.NoError(t, err)
	assert.Equal(t, map[string]any{
		"url": "https://example.com/b", "body": map[string]any{"number": 2.0, "half": 0.5, "twice": "bb"},
	}, with)

	scope.SetOutputs("look", "partial", []any{map[string]any{"body": "A"}, nil}, map[string]any{"code": "TIMEOUT"})
	items, err = keep.ForEach.Items(t.Context(), scope)
	require.NoError(t, err)
	require.Len(t, items, 2)
	for i, want := range []map[string]any{
		{"last": "A", "before": map[string]any{"body": "A"}},
		{"last": "nothing", "before": nil},
	} {
		with, err := keep.With.Eval(t.Context(), scope.ForItem(keep.ForEach.Name, items[i], i))
		require.NoError(t, err)
		assert.Equal(t, want, with)
	}
	result, err := r.Result.Eval(t.Context(), scope)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{
		"all": []any{map[string]any{"body": "A"}, nil}, "how": "partial", "why": map[string]any{"code": "TIMEOUT"},
	}, result)
}

func TestForEachErrors(t *testing.T) {
	t.Parallel()
	r, err := newCompiler(t).Load(document(
		"steps: [{id: a, foreach: {in: '${input.list}', as: x, max_items: 2}, uses: state.set, with: {y: '${x}'}}]"))
	require.NoError(t, err)
	for name, test := range map[string]struct {
		list    any
		code    problem.Code
		message string
	}{
		"too many":   {[]any{1.0, 2.0, 3.0}, problem.TooManyItems, "there are 3 items, max_items allows 2"},
		"not a list": {"abc", problem.ExpressionError, "goes over a list"},
		"null":       {nil, problem.ExpressionError, "goes over a list"},
	} {
		_, err := r.Steps[0].ForEach.Items(t.Context(), &recipe.Scope{Input: map[string]any{"list": test.list}})
		var failed *recipe.EvalError
		if assert.ErrorAs(t, err, &failed, name) {
			assert.Equal(t, test.code, failed.Code, name)
			assert.Equal(t, "/spec/steps/0/foreach/in", failed.Path)
			assert.Contains(t, failed.Message, test.message)
		}
	}
	items, err := r.Steps[0].ForEach.Items(t.Context(), &recipe.Scope{Input: map[string]any{"list": []any{}}})
	require.NoError(t, err)
	assert.Empty(t, items)
}

// TestItemExpressionsAreLimitedToo makes sure that the environment with an item has the limits of every other one.
func TestItemExpressionsAreLimitedToo(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	scope := (&recipe.Scope{}).ForItem("item", strings.Repeat("a", 400_000), 0)
	for _, source := range []string{
		"item.replace('a', item)", "item.indexOf(item.substring(1) + 'b')", doubling("item", "v + v", "size(v)"),
		"lists.range(1000).map(x, lists.range(1000).map(y, x * y))",
	} {
		r, err := compiler.Load(document(fmt.Sprintf(
			"steps: [{id: a, foreach: {in: '${[1]}', as: item}, uses: state.set, with: {y: %q}}]", "${"+source+"}")))
		require.NoError(t, err)
		_, err = r.Steps[0].With.Eval(t.Context(), scope)
		var failed *recipe.EvalError
		if assert.ErrorAs(t, err, &failed, source) {
			assert.Equal(t, problem.ExpressionLimit, failed.Code, source)
		}
	}
}

func TestForEachProblems(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	forEach := func(fields string) string {
		return "steps: [{id: a, uses: state.set, with: {x: 1}, foreach: {" + fields + "}}]"
	}
	named := func(name string) string { return forEach("in: '${[1]}', as: " + name) }
	// The expression of with begins at column 78.
	with := func(value string) string {
		return "steps: [{id: a, foreach: {in: '${[1]}', as: p}, uses: state.set, with: {x: '" + value + "'}}]"
	}
	after := func(value string) string {
		return "steps:\n" +
			"  - {id: a, foreach: {in: '${[1]}', as: p}, uses: state.set, with: {x: 1}}\n" +
			"  - {id: b, uses: state.set, with: {x: 1}}\n" +
			"  - {id: c, uses: state.set, with: {x: '" + value + "'}}"
	}
	for name, test := range map[string]struct {
		spec string
		want []string
	}{
		"empty": {forEach(""), []string{
			"5:59 /spec/steps/0/foreach/as MISSING_FIELD", "5:59 /spec/steps/0/foreach/in MISSING_FIELD",
		}},
		"an unknown field":  {forEach("in: '${[1]}', as: p, limit: 3"), []string{"5:81 /spec/steps/0/foreach/limit UNKNOWN_FIELD"}},
		"another type":      {"steps: [{id: a, uses: state.set, with: {x: 1}, foreach: 1}]", []string{"5:59 /spec/steps/0/foreach WRONG_TYPE"}},
		"a literal list":    {forEach("in: [1], as: p"), []string{"5:64 /spec/steps/0/foreach/in WRONG_TYPE"}},
		"text around":       {forEach("in: 'x${[1]}', as: p"), []string{"5:64 /spec/steps/0/foreach/in INVALID_EXPRESSION"}},
		"not a list":        {forEach("in: '${{}}', as: p"), []string{"5:64 /spec/steps/0/foreach/in INVALID_EXPRESSION"}},
		"null":              {forEach("in: '${null}', as: p"), []string{"5:64 /spec/steps/0/foreach/in INVALID_EXPRESSION"}},
		"itself":            {forEach("in: '${steps.a.outputs}', as: p"), []string{"5:64 /spec/steps/0/foreach/in UNKNOWN_REFERENCE"}},
		"the item in in":    {forEach("in: '${p}', as: p"), []string{"5:64 /spec/steps/0/foreach/in INVALID_EXPRESSION"}},
		"no items":          {forEach("in: '${[1]}', as: p, max_items: 0"), []string{"5:92 /spec/steps/0/foreach/max_items INVALID_VALUE"}},
		"too many items":    {forEach("in: '${[1]}', as: p, max_items: 1001"), []string{"5:92 /spec/steps/0/foreach/max_items INVALID_VALUE"}},
		"half an item":      {forEach("in: '${[1]}', as: p, max_items: 1.5"), []string{"5:92 /spec/steps/0/foreach/max_items INVALID_VALUE"}},
		"all at once":       {forEach("in: '${[1]}', as: p, max_parallel: 33"), []string{"5:95 /spec/steps/0/foreach/max_parallel INVALID_VALUE"}},
		"name with a dash":  {named("a-b"), []string{"5:78 /spec/steps/0/foreach/as INVALID_VALUE"}},
		"name with a digit": {named("1a"), []string{"5:78 /spec/steps/0/foreach/as INVALID_VALUE"}},
		"empty name":        {named("''"), []string{"5:78 /spec/steps/0/foreach/as INVALID_VALUE"}},
		"long name":         {named(strings.Repeat("a", 64)), []string{"5:78 /spec/steps/0/foreach/as INVALID_VALUE"}},
		"a number as name":  {named("1"), []string{"5:78 /spec/steps/0/foreach/as WRONG_TYPE"}},
		"a broken name says nothing about with": {
			"steps: [{id: a, foreach: {in: '${[1]}', as: 1p}, uses: state.set, with: {x: '${p.x}'}}, {id: b, uses: state.set, with: {y: '${state.x}'}}]",
			[]string{"5:47 /spec/steps/0/foreach/as INVALID_VALUE"},
		},
		"the price of all items": {
			"steps: [{id: a, uses: state.set, with: {x: 1}, price: 1000001, foreach: {in: '${[1]}', as: p, max_items: 1000}}]",
			[]string{"5:57 /spec/steps/0/price INVALID_PRICE"},
		},
		"the item in if": {
			"steps: [{id: a, foreach: {in: '${[1]}', as: p}, if: '${p > 0}', uses: state.set, with: {x: 1}}]",
			[]string{"5:55 /spec/steps/0/if INVALID_EXPRESSION"},
		},
		"the item in another step":    {after("${p}"), []string{"8:42 /spec/steps/2/with/x INVALID_EXPRESSION"}},
		"the index elsewhere":         {after("${index}"), []string{"8:42 /spec/steps/2/with/x INVALID_EXPRESSION"}},
		"another name":                {with("${q}"), []string{"5:78 /spec/steps/0/with/x INVALID_EXPRESSION"}},
		"a loop that hides the item":  {with("${[1].map(p, p)}"), []string{"5:78 /spec/steps/0/with/x INVALID_EXPRESSION"}},
		"a loop that hides the index": {with("${[1].transformList(index, v, v)}"), []string{"5:78 /spec/steps/0/with/x INVALID_EXPRESSION"}},
		"output of a foreach":         {after("${steps.a.output}"), []string{"8:42 /spec/steps/2/with/x UNKNOWN_REFERENCE"}},
		"outputs of a step without":   {after("${steps.b.outputs}"), []string{"8:42 /spec/steps/2/with/x UNKNOWN_REFERENCE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, problemsOf(t, compiler, document(test.spec)))
		})
	}
	for _, name := range []string{
		"input", "state", "steps", "vars", "execution", "secrets", "index", "in", "as", "if", "for", "'null'", "'true'", "string", "int", "list", "type",
	} {
		assert.Equal(t, []string{"5:78 /spec/steps/0/foreach/as INVALID_VALUE"}, problemsOf(t, compiler, document(named(name))), name)
	}
	for _, name := range []string{"place", "_", "_x1", "Item", "size", "math", "lists", "has"} {
		_, err := compiler.Load(document(
			"steps: [{id: a, foreach: {in: '${[1]}', as: " + name + "}, uses: state.set, with: {x: '${size(string(" + name + ")) + math.least(1, 2) + lists.range(1)[0]}'}}]"))
		assert.NoError(t, err, name)
	}
	_, err := compiler.Load(document("steps: [{id: a, uses: state.set, with: {x: '${[1].transformList(index, v, index)}'}}]"))
	assert.NoError(t, err, "index is only a name of the recipe where there is a foreach")
}

// TestForEachMessages says what the more likely mistakes are answered with.
func TestForEachMessages(t *testing.T) {
	t.Parallel()
	_, err := newCompiler(t).Load(document(`
steps:
  - {id: a, foreach: {in: "${[1]}", as: p}, if: "${p > 0 && index > 0}", uses: state.set, with: {x: 1}}
  - {id: b, foreach: {in: "${steps.a.output}", as: index}, uses: state.set, with: {x: 1}}
  - {id: c, foreach: {in: "${steps.b.outputs[0]}", as: p}, uses: state.set, with: {x: "${steps.c.outputs}"}}
result: "${p}"`))
	require.Error(t, err)
	assert.Equal(t, strings.TrimSpace(`
6:51: /spec/steps/0/if: ${p > 0 && index > 0}: p is in scope inside with only: this here is evaluated once, before there are items (at character 1) (INVALID_EXPRESSION)
6:51: /spec/steps/0/if: ${p > 0 && index > 0}: index is in scope inside with only: this here is evaluated once, before there are items (at character 10) (INVALID_EXPRESSION)
7:29: /spec/steps/1/foreach/in: ${steps.a.output}: the step "a" has a foreach: read outputs, a list with the output of each item (UNKNOWN_REFERENCE)
7:54: /spec/steps/1/foreach/as: "index" has a meaning already: give the item another name (INVALID_VALUE)
8:89: /spec/steps/2/with/x: ${steps.c.outputs}: the step "c" has not run yet at this place (UNKNOWN_REFERENCE)
9:11: /spec/result: ${p}: undeclared reference to 'p' (at character 1) (INVALID_EXPRESSION)
`), err.Error())
}
