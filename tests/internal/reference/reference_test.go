package reference

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/tests/internal/repository"
)

// described makes a component of a description.
func described(t *testing.T, text string) *component {
	t.Helper()
	with, err := parseObject([]byte(text))
	require.NoError(t, err)
	return &component{Component: &recipe.Component{Kind: "test.kind", Title: "Test a thing", Description: "Tests."}, with: with, output: of()}
}

// base is what the hand-written schema has for the generated ones to refer to.
const base = `{"$defs": {"expression": {"type": "string", "pattern": "\\$\\{"}, "id": {"type": "string", "pattern": "^[a-z]+$"},
	"duration": {"type": "string", "pattern": "^[0-9]+s$"}, "credits": {"type": "number"}}}`

// validator compiles the generated schema of a component's input.
func validator(t *testing.T, c *component) *jsonschema.Schema {
	t.Helper()
	text, err := recipeSchema([]byte(base), []*component{c})
	require.NoError(t, err)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	require.NoError(t, compiler.AddResource("schema.json", document))
	compiled, err := compiler.Compile("schema.json#/$defs/" + string(c.Kind))
	require.NoError(t, err)
	return compiled
}

const everything = `{
	"type": "object", "required": ["id", "to"], "additionalProperties": false,
	"oneOf": [{"required": ["text"]}, {"required": ["html"]}],
	"dependentSchemas": {"form": {"properties": {"body": {"const": null}}}},
	"if": {"properties": {"mode": {"const": "far"}}, "required": ["mode"]}, "then": {"required": ["url"], "properties": {"url": {"maxLength": 20}}},
	"properties": {
		"id": {"type": "string", "format": "galley-id", "maxLength": 5}, "wait": {"type": "string", "format": "galley-duration"},
		"to": {"oneOf": [{"type": "string", "format": "email"}, {"type": "array", "items": {"type": "string", "format": "email"}, "maxItems": 2}]},
		"text": {"type": "string"}, "html": {"type": "string", "minLength": 8},
		"mode": {"enum": ["near", "far"]}, "url": {"type": "string", "pattern": "^https://"}, "any": {}, "body": true, "never": false,
		"form": {"type": "object", "additionalProperties": {"type": ["number", "boolean"]}, "propertyNames": {"pattern": "^[a-z]+$"}},
		"pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"$ref": "#/$defs/color"}], "items": false},
		"next": {"type": "object", "oneOf": [
			{"required": ["link"], "properties": {"link": {"const": true}}}, {"required": ["page"], "properties": {"page": {"type": "string", "minLength": 5}}}
		]},
		"tree": {"$ref": "#/$defs/tree"}
	},
	"$defs": {
		"color": {"enum": ["red", "green"]},
		"tree": {"type": "object", "properties": {"leaf": {"type": "integer"}, "below": {"$ref": "#/$defs/tree"}}, "additionalProperties": false}
	}
}`

const accepted = `{"id": "abc", "wait": "5s", "to": ["a@example.com"], "text": "x", "mode": "far", "url": "https://a.b", "any": [1], "form": {"a": 1, "b": true},
	"pair": [1, "red"], "next": {"link": true}, "tree": {"leaf": 1, "below": {"below": {"leaf": 2}}}}`

// TestExpressionsEverywhere puts an expression in the place of each value of an input, one after the other.
func TestExpressionsEverywhere(t *testing.T) {
	t.Parallel()
	schema := validator(t, described(t, everything))
	var input any
	require.NoError(t, json.Unmarshal([]byte(accepted), &input))
	require.NoError(t, schema.Validate(input))
	places := 0
	var replace func(value any)
	try := func(place string, set func(value any), old any) {
		places++
		set("${input.x}")
		assert.NoError(t, schema.Validate(input), place)
		set("before ${input.x} after")
		assert.NoError(t, schema.Validate(input), place)
		set(old)
		replace(old)
	}
	replace = func(value any) {
		switch value := value.(type) {
		case map[string]any:
			for name, old := range value {
				try(name, func(v any) { value[name] = v }, old)
			}
		case []any:
			for i, old := range value {
				try("an item", func(v any) { value[i] = v }, old)
			}
		}
	}
	replace(input)
	assert.Greater(t, places, 20)
}

func TestEditorSchemaRefuses(t *testing.T) {
	t.Parallel()
	schema := validator(t, described(t, everything))
	for _, input := range []string{
		`"${input.x}"`, `[]`, `{}`, `{"id": "abc"}`, `{"id": "abc", "to": "a@b.c"}`, `{"id": "abc", "to": "a@b.c", "text": "x", "html": "long enough"}`,
		`{"id": "ABC", "to": "a@b.c", "text": "x"}`, `{"id": "abcdef", "to": "a@b.c", "text": "x"}`, `{"id": "abc", "to": "nobody", "text": "x"}`,
		`{"id": "abc", "to": ["a@b.c", "nobody"], "text": "x"}`, `{"id": "abc", "to": ["${a}", "${b}", "${c}"], "text": "x"}`,
		`{"id": "abc", "to": "${a}", "text": "x", "${b}": 1}`, `{"id": "abc", "to": "${a}", "html": "short"}`,
		`{"id": "abc", "to": "${a}", "text": "x", "mode": "far"}`, `{"id": "abc", "to": "${a}", "text": "x", "wait": "5 s"}`,
		`{"id": "abc", "to": "${a}", "text": "x", "mode": "far", "url": "https://much.too.long.for.this"}`,
		`{"id": "abc", "to": "${a}", "text": "x", "form": {"a": "b"}}`, `{"id": "abc", "to": "${a}", "text": "x", "form": {"A": "${b}"}}`,
		`{"id": "abc", "to": "${a}", "text": "x", "form": {}, "body": 1}`, `{"id": "abc", "to": "${a}", "text": "x", "never": "${b}"}`,
		`{"id": "abc", "to": "${a}", "text": "x", "pair": [1, "blue"]}`, `{"id": "abc", "to": "${a}", "text": "x", "pair": [1, "red", "${b}"]}`,
		`{"id": "abc", "to": "${a}", "text": "x", "next": {"page": "x"}}`, `{"id": "abc", "to": "${a}", "text": "x", "tree": {"below": {"leaf": "x"}}}`,
		`{"id": "abc", "to": "${a}", "text": "x", "tree": {"below": {"${x}": 1}}}`,
	} {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(input))
		require.NoError(t, err)
		assert.Error(t, schema.Validate(value), input)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(`{"id": "abc", "to": "${a}", "text": "x", "mode": "${b}"}`))
	require.NoError(t, err)
	assert.NoError(t, schema.Validate(value), "an expression is not taken for the value that needs another field")
}

func TestDescriptionsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"properties": {"a": {"$ref": "https://example.com/a.json"}}}`:                          "another document",
		`{"$id": "https://example.com"}`:                                                         "$id",
		`{"properties": {"a": {"$anchor": "a"}}}`:                                                "$anchor",
		`{"anyOf": [{}], "oneOf": [{"properties": {"a": {"type": "integer"}}}]}`:                 "oneOf beside anyOf",
		`{"oneOf": [{"properties": {"a": {"type": "integer"}}}], "not": {"$ref": "other.json"}}`: "another document",
	} {
		_, err := recipeSchema([]byte(base), []*component{described(t, text)})
		require.ErrorContains(t, err, want, text)
	}
	for text, want := range map[string]string{
		`[]`: "not an object", `{}`: "$defs", `{"$defs": {"test.kind": {}}}`: "written by hand", `{"$defs": `: "EOF", `{"$defs": {}} 1`: "follows",
	} {
		_, err := recipeSchema([]byte(text), []*component{described(t, `{}`)})
		require.ErrorContains(t, err, want, text)
	}
}

// TestGeneratingAgain says that what was generated is replaced, not added to, and that kinds that are gone are gone.
func TestGeneratingAgain(t *testing.T) {
	t.Parallel()
	first, err := recipeSchema([]byte(base), []*component{described(t, everything)})
	require.NoError(t, err)
	again, err := recipeSchema(first, []*component{described(t, everything)})
	require.NoError(t, err)
	require.Equal(t, string(first), string(again))
	gone, err := recipeSchema(first, nil)
	require.NoError(t, err)
	require.NotContains(t, string(gone), "test.kind")
	require.Contains(t, string(gone), `"duration"`)
}

func TestFormat(t *testing.T) {
	t.Parallel()
	root, err := repository.Root()
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(root, "schemas", "*", "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		parsed, err := parse(text)
		require.NoError(t, err, file)
		formatted := format(parsed)
		require.JSONEq(t, string(text), string(formatted), file)
		again, err := parse(formatted)
		require.NoError(t, err)
		require.Equal(t, string(formatted), string(format(again)), file)
	}
	parsed, err := parse([]byte(`{"z": 1.50, "a": ["<&>", null, true], "m": {}, "l": []}`))
	require.NoError(t, err)
	require.Equal(t, `{"z": 1.50, "a": ["<&>", null, true], "m": {}, "l": []}`+"\n", string(format(parsed)), "in the same order, numbers as they were")
}

func TestTable(t *testing.T) {
	t.Parallel()
	c := described(t, everything)
	got := map[string]row{}
	for _, r := range rowsOf(c.with) {
		got[r.name] = r
	}
	for name, want := range map[string]row{
		"id":         {kind: "id", unless: "required"},
		"wait":       {kind: "duration"},
		"to":         {kind: "e-mail address or list (up to 2) of e-mail address", unless: "required"},
		"mode":       {kind: "`near`, `far`"},
		"form":       {kind: "object of number or boolean"},
		"next.link":  {kind: "`true`"},
		"next.page":  {kind: "string"},
		"any":        {kind: "any value"},
		"tree":       {kind: "object"},
		"tree.below": {kind: "object"},
	} {
		want.name = name
		if name == "next.link" || name == "next.page" {
			want.unless = "required" // of its choice
		}
		assert.Equal(t, want, got[name])
	}
	assert.Less(t, len(got), 50, "a schema that refers to itself ends")
	assert.Equal(t, []string{"Exactly one of `text`, `html` must be there."}, rulesOf(c.with))
}
