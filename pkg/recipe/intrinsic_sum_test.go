package recipe_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
)

func TestSum(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	scope := &recipe.Scope{Input: map[string]any{"list": []any{
		map[string]any{"n": 2.0, "price": 45.0}, map[string]any{"n": 1.0, "price": 120.5},
	}}}
	for source, want := range map[string]any{
		"[1, 2, 3].sum()":                             6.0,
		"[1, 2.5].sum()":                              3.5,
		"[].sum()":                                    0.0,
		"input.list.map(l, l.n * l.price).sum()":      210.5,
		"[1, 2].sum() == 3":                           true,
		"input.list.map(l, l.n).sum() > 2 ? 'a' : ''": "a",
	} {
		got, err := evaluate(t, compiler, source, scope)
		require.NoError(t, err, source)
		assert.Equal(t, want, got, source)
	}
	for _, source := range []string{"['a'].sum()", "input.list.sum()", "[null].sum()"} {
		_, err := evaluate(t, compiler, source, scope)
		assert.ErrorContains(t, err, "sum: a list of numbers", source)
	}
	_, err := evaluate(t, compiler, "'text'.sum()", scope)
	require.Error(t, err, "refused when the recipe is published")
	_, err = evaluate(t, compiler, "lists.range(100000).map(i, lists.range(100000).sum())", scope)
	assert.ErrorContains(t, err, "takes too much work", "each element is paid for")
}
