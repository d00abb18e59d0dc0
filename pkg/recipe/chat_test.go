package recipe_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
)

func TestChat(t *testing.T) {
	t.Parallel()
	r, err := newCompiler(t).Load(document(`
steps:
  - {id: plain, uses: ai.chat, with: {prompt: "Say hello to ${input.name}"}}
  - id: full
    uses: ai.chat
    with:
      provider: anthropic
      model: claude-x
      base_url: https://models.example.com/v1
      api_key: "${secrets.anthropic}"
      system: You are brief.
      messages: [{role: user, content: "${input.a}"}, {role: assistant, content: b}, {role: user, content: c}]
      max_output_tokens: 200
      temperature: 0.5
      stop: [END]
      stream: true
      output_schema: {type: object, required: [name], properties: {name: {type: string, pattern: "^[a-z]+$"}}}
    price: {per_1k_input_tokens: "0.001", per_1k_output_tokens: "0.002", max: "0.03"}
  - id: open
    uses: ai.chat
    with:
      provider: "${input.provider}"
      model: "${input.model}"
      prompt: "${input.?prompt.orValue(null)}"
      messages: "${input.?history.orValue(null)}"
      output_schema: {type: "${input.type}"}`))
	require.NoError(t, err)
	step := r.Step("full")
	assert.Equal(t, recipe.KindChat, step.Kind)
	assert.True(t, step.Effect())
	assert.True(t, step.Checkpoint)
	assert.Equal(t, []string{"anthropic"}, step.SecretsUsed)
	charge, above := step.Price.Charge(&event.Usage{InputTokens: 1500, OutputTokens: 500})
	assert.Equal(t, credit.Micro(2500), charge)
	assert.False(t, above)

	with, err := r.Step("open").Input(t.Context(), &recipe.Scope{Input: map[string]any{
		"provider": "groq", "model": "llama", "prompt": "Hello", "type": "array",
	}})
	require.NoError(t, err)
	assert.NotContains(t, with, "messages", "it is null")
	_, err = r.Step("open").Input(t.Context(), &recipe.Scope{Input: map[string]any{
		"provider": "compatible", "model": "llama", "prompt": "Hello", "type": "array",
	}})
	require.EqualError(t, err, "/base_url: is missing")
}

func TestChatProblems(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	for name, test := range map[string]struct {
		with string
		want []string
	}{
		"nothing":               {"", []string{"5:40 with/prompt MISSING_FIELD"}},
		"both":                  {"prompt: x, messages: [{role: user, content: x}]", []string{"5:62 with/messages INVALID_VALUE"}},
		"no model":              {"prompt: x, provider: groq", []string{"5:40 with INVALID_VALUE"}},
		"unknown provider":      {"prompt: x, provider: grok, model: x", []string{"5:62 with/provider INVALID_VALUE"}},
		"compatible with what":  {"prompt: x, provider: compatible, model: x", []string{"5:40 with/base_url MISSING_FIELD"}},
		"key for nobody":        {`prompt: x, api_key: "${secrets.x}"`, []string{"5:40 with INVALID_VALUE"}},
		"address of nobody":     {"prompt: x, base_url: https://example.com", []string{"5:40 with INVALID_VALUE"}},
		"base_url with a query": {"prompt: x, provider: groq, model: x, base_url: 'https://example.com?key=1'", []string{"5:88 with/base_url INVALID_VALUE"}},
		"base_url of files":     {"prompt: x, provider: groq, model: x, base_url: file:///etc", []string{"5:88 with/base_url INVALID_VALUE"}},
		"a role of its own":     {"messages: [{role: system, content: x}]", []string{"5:59 with/messages/0/role INVALID_VALUE"}},
		"a message of nothing":  {"messages: [{role: user}]", []string{"5:52 with/messages/0/content MISSING_FIELD"}},
		"no messages":           {"messages: []", []string{"5:51 with/messages INVALID_VALUE"}},
		"tools":                 {"prompt: x, tools: []", []string{"5:59 with/tools UNKNOWN_FIELD"}},
		"no tokens":             {"prompt: x, max_output_tokens: 0", []string{"5:71 with/max_output_tokens INVALID_VALUE"}},
		"too hot":               {"prompt: x, temperature: 3", []string{"5:65 with/temperature INVALID_VALUE"}},
		"five stops":            {"prompt: x, stop: [a, b, c, d, e]", []string{"5:58 with/stop INVALID_VALUE"}},
		"schema is a list":      {"prompt: x, output_schema: []", []string{"5:67 with/output_schema INVALID_VALUE"}},
		"schema of no type": {"prompt: x, output_schema: {type: text}", []string{
			"5:74 with/output_schema/type INVALID_SCHEMA", "5:74 with/output_schema/type INVALID_SCHEMA",
		}},
		"schema deep down":       {"prompt: x, output_schema: {properties: {a: {minLength: -1}}}", []string{"5:96 with/output_schema/properties/a/minLength INVALID_SCHEMA"}},
		"schema from elsewhere":  {`prompt: x, output_schema: {$ref: "https://example.com/s"}`, []string{"5:67 with/output_schema INVALID_SCHEMA"}},
		"schema without an end":  {`prompt: x, output_schema: {items: {$ref: "#"}}`, []string{"5:67 with/output_schema INVALID_SCHEMA"}},
		"schema with a template": {`prompt: x, output_schema: {type: text, const: "${input.x}"}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc := document("steps: [{id: a, uses: ai.chat, with: {" + test.with + "}}]")
			if test.want == nil {
				_, err := compiler.Load(doc)
				require.NoError(t, err)
				return
			}
			got := problemsOf(t, compiler, doc)
			for i := range got {
				got[i] = strings.Replace(got[i], "/spec/steps/0/", "", 1)
			}
			assert.Equal(t, test.want, got)
		})
	}
}

func TestCompileSchema(t *testing.T) {
	t.Parallel()
	decode := func(text string) any {
		var value any
		require.NoError(t, json.Unmarshal([]byte(text), &value))
		return value
	}
	schema, err := recipe.CompileSchema(decode(`{"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}`))
	require.NoError(t, err)
	require.NoError(t, schema.Validate(decode(`{"a": 1}`)))
	var violations recipe.Violations
	require.ErrorAs(t, schema.Validate(decode(`{"a": "x"}`)), &violations)
	assert.Equal(t, "/a: got string, want integer", violations.Error())
	require.EqualError(t, schema.Validate(decode(`{}`)), "/a: is missing")
	require.NoError(t, (*recipe.Schema)(nil).Validate("anything"))

	for text, want := range map[string]string{
		`{"type": "text"}`:                                       "/type",
		`{"$ref": "file:///etc/passwd"}`:                         "a reference to another document is not allowed: file:///etc/passwd",
		`{"$ref": "#/nowhere"}`:                                  "nowhere",
		`{"items": {"$ref": "#"}}`:                               "recursive",
		`{"$schema": "http://json-schema.org/draft-07/schema#"}`: "2020-12",
		`"text"`: "",
		`[]`:     "",
		`1`:      "",
		`null`:   "",
	} {
		_, err := recipe.CompileSchema(decode(text))
		require.ErrorContains(t, err, want, text)
		assert.NotContains(t, err.Error(), "galley:", text)
	}
	_, err = recipe.CompileSchema(map[string]any{"const": math.NaN(), "type": func() {}})
	require.Error(t, err)
}
