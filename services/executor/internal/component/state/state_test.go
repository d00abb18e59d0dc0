package state_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func decode[T any](t require.TestingT, text string) T {
	var value T
	require.NoError(t, json.Unmarshal([]byte(text), &value), text)
	return value
}

func encode(t require.TestingT, value any) string {
	data, err := json.Marshal(value)
	require.NoError(t, err)
	return string(data)
}

// apply is what the engine does with a result. It fails when the component changes what it was given.
func apply(t *testing.T, kind recipe.Kind, before, with string) (after map[string]any, output any) {
	t.Helper()
	call := &component.Call{Kind: kind, With: decode[any](t, with), State: decode[map[string]any](t, before)}
	runner, found := state.Components().Find(kind)
	require.True(t, found)
	result, err := runner.Execute(t.Context(), call)
	require.NoError(t, err)
	require.JSONEq(t, before, encode(t, call.State), "the state was changed in place")
	require.JSONEq(t, with, encode(t, call.With), "the input was changed in place")
	after = maps.Clone(call.State)
	if after == nil {
		after = map[string]any{}
	}
	maps.Copy(after, result.Set)
	for _, name := range result.Delete {
		delete(after, name)
	}
	return after, result.Output
}

func TestComponents(t *testing.T) {
	t.Parallel()
	const nothing = `null`
	tests := map[string]struct {
		kind                        recipe.Kind
		before, with, after, output string
	}{
		"set":                 {recipe.KindStateSet, `{"a": 1, "b": 2}`, `{"b": {"c": null}, "d": [1]}`, `{"a": 1, "b": {"c": null}, "d": [1]}`, `{"b": {"c": null}, "d": [1]}`},
		"set the first field": {recipe.KindStateSet, nothing, `{"a": null}`, `{"a": null}`, `{"a": null}`},

		"merge into nothing":              {recipe.KindStateMerge, nothing, `{"a": {"b": 1, "c": null}}`, `{"a": {"b": 1}}`, `{"a": {"b": 1}}`},
		"merge keeps what it names not":   {recipe.KindStateMerge, `{"a": {"b": 1, "c": 2}, "z": 0}`, `{"a": {"c": 3}}`, `{"a": {"b": 1, "c": 3}, "z": 0}`, `{"a": {"b": 1, "c": 3}}`},
		"merge removes a field":           {recipe.KindStateMerge, `{"a": 1, "b": 2}`, `{"a": null}`, `{"b": 2}`, `{}`},
		"merge removes what is not there": {recipe.KindStateMerge, `{"b": 2}`, `{"a": null}`, `{"b": 2}`, `{}`},
		"merge removes deep down":         {recipe.KindStateMerge, `{"a": {"b": {"c": 1, "d": 2}}}`, `{"a": {"b": {"c": null}}}`, `{"a": {"b": {"d": 2}}}`, `{"a": {"b": {"d": 2}}}`},
		"merge replaces a list":           {recipe.KindStateMerge, `{"a": [1, 2]}`, `{"a": [3]}`, `{"a": [3]}`, `{"a": [3]}`},
		"merge replaces a text":           {recipe.KindStateMerge, `{"a": "text"}`, `{"a": {"b": 1}}`, `{"a": {"b": 1}}`, `{"a": {"b": 1}}`},
		"merge replaces an object":        {recipe.KindStateMerge, `{"a": {"b": 1}}`, `{"a": 1}`, `{"a": 1}`, `{"a": 1}`},
		"merge keeps null in lists":       {recipe.KindStateMerge, `{}`, `{"a": [null, {"b": null}]}`, `{"a": [null, {"b": null}]}`, `{"a": [null, {"b": null}]}`},

		"delete":                {recipe.KindStateDelete, `{"a": 1, "b": null, "c": 3}`, `{"fields": ["b", "x", "a", "b"]}`, `{"c": 3}`, `{"deleted": ["b", "a"]}`},
		"delete of nothing":     {recipe.KindStateDelete, nothing, `{"fields": ["a"]}`, `{}`, `{"deleted": []}`},
		"get":                   {state.KindGet, `{"a": [1]}`, `{"field": "a", "default": 2}`, `{"a": [1]}`, `[1]`},
		"get of null":           {state.KindGet, `{"a": null}`, `{"field": "a", "default": 2}`, `{"a": null}`, `null`},
		"get gives a default":   {state.KindGet, nothing, `{"field": "a", "default": {"b": 2}}`, `{}`, `{"b": 2}`},
		"get without a default": {state.KindGet, `{"b": 1}`, `{"field": "a"}`, `{"b": 1}`, `null`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after, output := apply(t, test.kind, test.before, test.with)
			assert.JSONEq(t, test.after, encode(t, after))
			assert.JSONEq(t, test.output, encode(t, output))
		})
	}
}

func TestWhatIsNoInput(t *testing.T) {
	t.Parallel()
	for kind, runner := range state.Components() {
		for _, with := range []string{`null`, `[]`, `"a"`, `1`, `{"field": 1, "fields": 1}`} {
			result, err := runner.Execute(t.Context(), &component.Call{Kind: kind, With: decode[any](t, with)})
			failed, isProblem := err.(*problem.Error) //nolint:errorlint // it is to be one itself
			if isProblem {
				assert.Equal(t, problem.ComponentError, failed.Code)
				assert.False(t, failed.Retryable)
			}
			if err != nil {
				assert.Equal(t, component.Result{}, result)
			}
		}
	}
}

// value draws what JSON can hold.
func value() *rapid.Generator[any] {
	leaf := rapid.OneOf(rapid.Just(any(nil)), rapid.Map(rapid.IntRange(0, 3), func(n int) any { return float64(n) }))
	made := leaf
	for range 3 {
		inner := made
		objects := rapid.Map(rapid.MapOfN(rapid.StringMatching(`[a-c]`), inner, 0, 3), func(fields map[string]any) any { return fields })
		lists := rapid.Map(rapid.SliceOfN(inner, 0, 2), func(items []any) any { return items })
		made = rapid.OneOf(leaf, objects, lists)
	}
	return made
}

// The patch algorithm as RFC 7396 writes it down, in place.
func mergePatch(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, change := range changes {
		if change == nil {
			delete(object, name)
		} else {
			object[name] = mergePatch(object[name], change)
		}
	}
	return object
}

func TestMergeIsRFC7396(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		fields := rapid.MapOfN(rapid.StringMatching(`[a-c]`), value(), 0, 3)
		before, patch := fields.Draw(t, "before"), fields.Draw(t, "patch")
		was := encode(t, before)
		result, err := state.Merge(t.Context(), &component.Call{With: patch, State: before})
		require.NoError(t, err)
		require.Equal(t, was, encode(t, before), "the state was changed in place")
		after := maps.Clone(before)
		maps.Copy(after, result.Set)
		maps.DeleteFunc(after, func(name string, _ any) bool { return slices.Contains(result.Delete, name) })
		require.JSONEq(t, encode(t, mergePatch(decode[any](t, was), patch)), encode(t, after))
	})
}
