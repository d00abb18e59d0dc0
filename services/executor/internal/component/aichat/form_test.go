package aichat_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
)

// person is a schema that a provider can enforce.
func person() with {
	return with{
		"type": "object", "required": []any{"name", "age"}, "additionalProperties": false,
		"properties": with{"name": with{"type": "string"}, "age": with{"type": "integer"}},
	}
}

// says is an answer of OpenAI's with this text.
func says(text string) http.HandlerFunc {
	return saysUntil(text, "stop")
}

func saysUntil(text, reason string) http.HandlerFunc {
	content, _ := json.Marshal(text) // a string does not fail
	return answerJSON(`{"model": "m", "choices": [{"message": {"content": ` + string(content) + `}, "finish_reason": "` + reason + `"}],
		"usage": {"prompt_tokens": 100, "completion_tokens": 10}}`)
}

const ada = `{"name": "Ada", "age": 36}`

func TestForm(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"plain":            ada,
		"with space":       "\n  " + ada + "\n",
		"fenced":           "```json\n" + ada + "\n```",
		"fenced, no name":  "```\n" + ada + "\n```\n",
		"fenced, one line": "```" + ada + "```",
		"with an apology":  "Sure, here it is:\n\n```json\n" + ada + "\n```\nAnything else?",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := serve(t, says(answer))
			output, usage, err := ask(t, m, "openai", with{"output_schema": person(), "system": "Be brief."})
			require.NoError(t, err)
			assert.Equal(t, with{
				"text": `{"name":"Ada","age":36}`, "data": with{"name": "Ada", "age": 36.0}, "model": "m", "provider": "openai", "finish_reason": "stop",
			}, output)
			assert.Equal(t, &event.Usage{InputTokens: 100, OutputTokens: 10}, usage)

			body := m.requests()[0].body
			assert.Equal(t, with{"type": "json_schema", "json_schema": with{"name": "answer", "schema": person()}}, body["response_format"])
			messages, _ := body["messages"].([]any)
			system, _ := messages[0].(with)
			assert.Contains(t, system["content"], "Be brief.\n\nAnswer with one JSON value")
			assert.Contains(t, system["content"], `"required":["name","age"]`)
		})
	}
}

func TestFormOfAnthropic(t *testing.T) {
	t.Parallel()
	answer := answerJSON(`{"type": "message", "model": "m", "content": [{"type": "text", "text": "{\"name\": \"Ada\", \"age\": 36}"}],
		"stop_reason": "end_turn", "usage": {"input_tokens": 100, "output_tokens": 10}}`)
	format := func(schema with) any { return with{"format": with{"type": "json_schema", "schema": schema}} }
	open := with{"type": "object", "properties": with{"name": with{"type": "string"}}}
	inside := person()
	inside["properties"] = with{"name": with{}, "age": with{}, "friend": with{"anyOf": []any{open}}}
	for name, test := range map[string]struct {
		schema with
		config any
	}{
		"closed":      {person(), format(person())},
		"open":        {open, nil},
		"open inside": {inside, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := serve(t, answer)
			output, _, err := ask(t, m, "anthropic", with{"output_schema": test.schema})
			require.NoError(t, err)
			assert.Equal(t, with{"name": "Ada", "age": 36.0}, output["data"])
			body := m.requests()[0].body
			assert.Equal(t, test.config, body["output_config"])
			assert.Contains(t, body["system"], "JSON Schema")
			assert.NotContains(t, body, "tools")
		})
	}
}

// Servers that do not take the schema are asked without: the model knows of it.
func TestServerThatTakesNoSchema(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 422} {
		m := serve(t, answerStatus(status), says(ada))
		output, usage, err := ask(t, m, "groq", with{"output_schema": person()})
		require.NoError(t, err)
		assert.Equal(t, with{"name": "Ada", "age": 36.0}, output["data"])
		assert.Equal(t, &event.Usage{InputTokens: 100, OutputTokens: 10}, usage)
		requests := m.requests()
		require.Len(t, requests, 2)
		assert.Contains(t, requests[0].body, "response_format")
		assert.NotContains(t, requests[1].body, "response_format")
		assert.Equal(t, requests[0].body["messages"], requests[1].body["messages"])
		assert.Equal(t, "e1/think", requests[0].header.Get("Idempotency-Key"))
		assert.Equal(t, "e1/think/2", requests[1].header.Get("Idempotency-Key"), "it is not the same request")
	}
	for name, schema := range map[string]any{"any schema": person(), "none": nil} {
		m := serve(t, answerStatus(400), answerStatus(400), answerStatus(400))
		_, usage, err := ask(t, m, "groq", with{"output_schema": schema})
		requireProblem(t, err, problem.Upstream4xx, false)
		assert.Nil(t, usage, name)
		assert.LessOrEqual(t, len(m.requests()), 2, name)
	}
}

// Only objects are enforced by servers.
func TestOtherForms(t *testing.T) {
	t.Parallel()
	for answer, test := range map[string]struct {
		schema with
		data   any
	}{
		"[1, 2]":  {with{"type": "array", "items": with{"type": "integer"}}, []any{1.0, 2.0}},
		`"blue"`:  {with{"enum": []any{"blue", "red"}}, "blue"},
		"null":    {with{"type": []any{"null", "string"}}, nil},
		"{}":      {with{}, with{}},
		" true\n": {with{"type": "boolean"}, true},
	} {
		m := serve(t, says(answer))
		output, _, err := ask(t, m, "openai", with{"output_schema": test.schema})
		require.NoError(t, err, answer)
		require.Contains(t, output, "data")
		assert.Equal(t, test.data, output["data"])
		assert.NotContains(t, m.requests()[0].body, "response_format")
	}
}

func TestRepair(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ wrong, told string }{
		"no JSON":         {"I am happy to help: hush", "It is not valid JSON."},
		"half of it":      {`{"name": "Ada", "age": 3`, "It is not valid JSON."},
		"a number beyond": {`{"name": "Ada", "age": 1e999}`, "It is not valid JSON."},
		"a wrong type":    {`{"name": "Ada", "age": "old"}`, "/age: got string, want integer"},
		"two wrongs":      {`{"name": 1}`, "/age: is missing; /name: got number, want string"},
		"nothing":         {"", "It is not valid JSON."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := serve(t, says(test.wrong), says(ada))
			output, usage, err := ask(t, m, "openai", with{"output_schema": person()})
			require.NoError(t, err)
			assert.Equal(t, with{"name": "Ada", "age": 36.0}, output["data"])
			assert.Equal(t, &event.Usage{InputTokens: 200, OutputTokens: 20}, usage, "of both")
			requests := m.requests()
			require.Len(t, requests, 2)
			assert.Contains(t, requests[1].body, "response_format")
			assert.Equal(t, "e1/think/2", requests[1].header.Get("Idempotency-Key"))
			messages, _ := requests[1].body["messages"].([]any)
			last, _ := messages[len(messages)-1].(with)
			assert.Equal(t, "user", last["role"])
			assert.Contains(t, last["content"], test.told)
			if test.wrong != "" {
				assert.Equal(t, with{"role": "assistant", "content": test.wrong}, messages[len(messages)-2])
			} else {
				assert.Len(t, messages, 3, "an empty message is refused")
			}
		})
	}
}

func TestRepairInVain(t *testing.T) {
	t.Parallel()
	list := with{
		"type": "object", "properties": with{"list": with{"type": "array", "items": person()}, "a/b": with{"type": "string"}},
		"additionalProperties": with{"type": "string"},
	}
	once, both := &event.Usage{InputTokens: 100, OutputTokens: 10}, &event.Usage{InputTokens: 200, OutputTokens: 20}
	twice := func(text string) []http.HandlerFunc { return []http.HandlerFunc{says(text), says(text), says(ada)} }
	for name, test := range map[string]struct {
		answers   []http.HandlerFunc
		schema    with
		code      problem.Code
		retryable bool
		says      string
		usage     *event.Usage
	}{
		"no JSON":         {twice("hush"), person(), problem.ModelOutputInvalid, true, "JSON", both},
		"of another type": {twice(`["hush"]`), person(), problem.ModelOutputInvalid, true, "when it was told so", both},
		"deep down": {
			twice(`{"list": [{"name": "hush", "age": 1}, {"name": 5, "age": 2}]}`), list, problem.ModelOutputInvalid, true, "see /list/1/name", both,
		},
		"a strange name": {twice(`{"a/b": 5}`), list, problem.ModelOutputInvalid, true, "see /a~1b", both},
		"a name of its own": {
			twice(`{"hush": 5}`), list, problem.ModelOutputInvalid, true, "when it was told so", both,
		},
		"too much": {
			twice(`{"name": "a", "age": 1, "hush": 1}`), person(), problem.ModelOutputInvalid, true, "when it was told so", both,
		},
		"cut off": {
			[]http.HandlerFunc{saysUntil(`{"name": "hu`, "length"), says(ada)},
			person(), problem.ModelOutputInvalid, false, "max_output_tokens",
			once,
		},
		"cut off in the repair": {
			[]http.HandlerFunc{says("hush"), saysUntil(ada, "length"), says(ada)},
			person(), problem.ModelOutputInvalid, false, "max_output_tokens",
			both,
		},
		"limited in the repair": {
			[]http.HandlerFunc{says("hush"), answerStatus(429)}, person(), problem.RateLimited, true, "429", once,
		},
		"declined in the repair": {
			[]http.HandlerFunc{says("hush"), saysUntil("hush", "content_filter")},
			person(), problem.UpstreamRejected, false, "declined",
			both,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := serve(t, test.answers...)
			_, usage, err := ask(t, m, "openai", with{"output_schema": test.schema})
			message := requireProblem(t, err, test.code, test.retryable)
			assert.Contains(t, message, test.says)
			assert.Equal(t, test.usage, usage)
			assert.LessOrEqual(t, len(m.requests()), 2)
		})
	}
}

// A very long wrong answer is not sent back as a whole.
func TestLongWrongAnswer(t *testing.T) {
	t.Parallel()
	m := serve(t, says(strings.Repeat("a€", 100_000)), says(ada))
	_, _, err := ask(t, m, "openai", with{"output_schema": person()})
	require.NoError(t, err)
	messages, _ := m.requests()[1].body["messages"].([]any)
	quoted, _ := messages[2].(with)
	content, _ := quoted["content"].(string)
	assert.InDelta(t, 64<<10, len(content), 4)
	assert.NotContains(t, content, "\uFFFD")
}

// What is published of a wrong answer is not taken back; its repair is not published.
func TestRepairOfAStream(t *testing.T) {
	t.Parallel()
	m := serve(t, answerStream(`data: {"choices":[{"delta":{"content":"hm"}}]}`, "data: [DONE]"), says(ada))
	var heard listener
	c := newComponent(t, options{allowed: []string{m.address}, publish: heard.publish})
	output, usage, err := run(t, c, newCall(question(m, "openai", with{"output_schema": person(), "stream": true})))
	require.NoError(t, err)
	assert.Equal(t, `{"name":"Ada","age":36}`, output["text"])
	assert.Equal(t, []string{"hm", ""}, heard.texts)
	assert.Equal(t, int64(11), usage.OutputTokens)
	assert.NotContains(t, m.requests()[1].body, "stream")
}

// What was used is priced also when the attempt has failed.
func TestFailureIsPriced(t *testing.T) {
	t.Parallel()
	_, usage, err := ask(t, serve(t, says("hush"), says("hush")), "openai", with{"output_schema": person()})
	require.Error(t, err)
	price := recipe.Price{Max: 1_000_000, Rates: []recipe.Rate{
		{Meter: recipe.MeterInputTokens, Amount: 1000, Per: 1000}, {Meter: recipe.MeterOutputTokens, Amount: 2000, Per: 1000},
	}}
	charge, above := price.Charge(usage)
	assert.Equal(t, credit.Micro(240), charge)
	assert.False(t, above)
}
