package sandbox

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func post(t *testing.T, handler http.Handler, target, body string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(body)))
	return w
}

// answered is what clients read of an answer.
type answered struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Model   string `json:"model"`
	Created int64  `json:"created"`
	Choices []struct {
		Index        int    `json:"index"`
		FinishReason string `json:"finish_reason"`
		Message      struct {
			Role    string `json:"role"`
			Content string `json:"content"`
		} `json:"message"`
		Delta struct {
			Content string `json:"content"`
		} `json:"delta"`
	} `json:"choices"`
	Usage *usage `json:"usage"`
}

func chat(t *testing.T, body string) answered {
	t.Helper()
	w := post(t, newTest(t).handler(), "/v1/chat/completions", body)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	var answer answered
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	require.Len(t, answer.Choices, 1)
	return answer
}

func TestModelAnswersTheSameToTheSame(t *testing.T) {
	t.Parallel()
	const body = `{"model": "sandbox", "messages": [{"role": "system", "content": "Be brief."},
		{"role": "user", "content": [{"type": "text", "text": "Summarise Chen Dental"}, {"type": "text", "text": " in one line"}]}]}`
	answer := chat(t, body)
	assert.Equal(t, answer, chat(t, body))
	choice := answer.Choices[0]
	assert.True(t, strings.HasPrefix(choice.Message.Content, "Sandbox model:"), choice.Message.Content)
	assert.Contains(t, choice.Message.Content, "Summarise Chen Dental in one line")
	assert.Equal(t, "assistant", choice.Message.Role)
	assert.Equal(t, "stop", choice.FinishReason)
	assert.Equal(t, "sandbox", answer.Model)
	assert.Equal(t, "chat.completion", answer.Object)
	assert.Equal(t, int64(1767268800), answer.Created)
	assert.Equal(t, (len("Be brief.Summarise Chen Dental in one line")+3)/4, answer.Usage.PromptTokens)
	assert.Equal(t, (len(choice.Message.Content)+3)/4, answer.Usage.CompletionTokens)
	assert.Equal(t, answer.Usage.PromptTokens+answer.Usage.CompletionTokens, answer.Usage.TotalTokens)
	other := chat(t, `{"messages": [{"role": "user", "content": "Something else"}]}`)
	assert.NotEqual(t, choice.Message.Content, other.Choices[0].Message.Content)
	assert.NotEqual(t, answer.ID, other.ID)

	for _, limit := range []string{"max_tokens", "max_completion_tokens"} {
		short := chat(t, `{"messages": [{"role": "user", "content": "Hi"}], "`+limit+`": 3}`)
		assert.Equal(t, "Sandbox mode", short.Choices[0].Message.Content)
		assert.Equal(t, "length", short.Choices[0].FinishReason)
		assert.Equal(t, 3, short.Usage.CompletionTokens)
	}
	long := chat(t, `{"messages": [{"role": "user", "content": "`+strings.Repeat("ä", 5000)+`"}]}`)
	assert.Less(t, len(long.Choices[0].Message.Content), 500)
}

func TestModelRefuses(t *testing.T) {
	t.Parallel()
	handler := newTest(t).handler()
	for _, body := range []string{"", "x", "[]", `{"messages": []}`, `{"messages": [{"content": 1}]}`, `{"messages": "x"}`, `{"messages": [{"content": "` + strings.Repeat("x", maxBody)} {
		w := post(t, handler, "/v1/chat/completions", body)
		assert.Equal(t, http.StatusBadRequest, w.Code)
		assert.Contains(t, w.Body.String(), `"type":"invalid_request_error"`)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/models", nil))
	assert.Contains(t, w.Body.String(), `"id":"sandbox"`)
}

func TestModelStreams(t *testing.T) {
	t.Parallel()
	const messages = `"messages": [{"role": "user", "content": "Write to Ada Lovelace about engines"}]`
	whole := chat(t, `{`+messages+`}`)
	server := httptest.NewServer(newTest(t).handler())
	defer server.Close()
	for _, options := range []string{``, `, "stream_options": {"include_usage": true}`} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/v1/chat/completions",
			strings.NewReader(`{"stream": true, `+messages+options+`}`))
		require.NoError(t, err)
		response, err := server.Client().Do(request)
		require.NoError(t, err)
		assert.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
		var text strings.Builder
		finish, chunks := "", 0
		var counted *usage
		lines := bufio.NewScanner(response.Body)
		last := ""
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok {
				assert.Empty(t, lines.Text())
				continue
			}
			if last = data; data == "[DONE]" {
				continue
			}
			var chunk answered
			require.NoError(t, json.Unmarshal([]byte(data), &chunk))
			assert.Equal(t, "chat.completion.chunk", chunk.Object)
			assert.Equal(t, whole.ID, chunk.ID)
			if len(chunk.Choices) > 0 {
				text.WriteString(chunk.Choices[0].Delta.Content)
				finish = chunk.Choices[0].FinishReason
				chunks++
			}
			if chunk.Usage != nil {
				counted = chunk.Usage
			}
		}
		require.NoError(t, lines.Err())
		require.NoError(t, response.Body.Close())
		assert.Equal(t, "[DONE]", last)
		assert.Equal(t, whole.Choices[0].Message.Content, text.String())
		assert.Equal(t, "stop", finish)
		assert.Greater(t, chunks, 3)
		if options == "" {
			assert.Nil(t, counted)
		} else {
			assert.Equal(t, whole.Usage, counted)
		}
	}
}

func TestModelStopsWhenNobodyReads(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/chat/completions",
		strings.NewReader(`{"stream": true, "messages": [{"role": "user", "content": "Hi"}]}`))
	newTest(t).handler().ServeHTTP(w, request)
	assert.NotContains(t, w.Body.String(), "[DONE]")
}

// structured asks for an answer in a form, and checks that it has it.
func structured(t *testing.T, schema, prompt string) string {
	t.Helper()
	var of any
	require.NoError(t, json.Unmarshal([]byte(schema), &of), schema)
	text := fill(of, prompt)
	assert.Equal(t, text, fill(of, prompt))
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	require.NoError(t, compiler.AddResource("schema.json", parsed))
	compiled, err := compiler.Compile("schema.json")
	require.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	require.NoError(t, err)
	require.NoError(t, compiled.Validate(value), "%s for %s", text, schema)
	return text
}

func TestFilledFormsFit(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{
		`{}`, `true`, `{"type": "string"}`, `{"type": "integer"}`, `{"type": "null"}`, `{"type": ["null", "boolean"]}`,
		`{"type": "string", "minLength": 100, "maxLength": 110}`, `{"type": "string", "maxLength": 3}`, `{"type": "string", "maxLength": 0}`,
		`{"type": "integer", "minimum": 7, "maximum": 7}`, `{"type": "integer", "exclusiveMinimum": 7, "exclusiveMaximum": 9}`,
		`{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}`, `{"type": "integer", "maximum": -5}`, `{"maximum": 3, "minimum": 1}`,
		`{"type": "integer", "multipleOf": 5, "minimum": 11}`, `{"type": "number", "minimum": 1e9}`, `{"type": "integer", "minimum": -3, "maximum": -1}`,
		`{"enum": ["a", "b"]}`, `{"const": {"x": 1}}`, `{"examples": ["e"], "type": "string"}`,
		`{"type": "array", "items": {"type": "string"}, "minItems": 5, "uniqueItems": true}`, `{"type": "array", "maxItems": 0}`,
		`{"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 4, "uniqueItems": true}`,
		`{"type": "array", "items": {"enum": ["x", "y", "z"]}, "minItems": 3, "uniqueItems": true}`,
		`{"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": false, "type": "array"}`,
		`{"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}(x|y)?$"}`, `{"type": "string", "pattern": "^(red|green)\\.[a-f]+z*$"}`,
		`{"type": "string", "format": "email"}`, `{"type": "string", "format": "uri"}`, `{"type": "string", "format": "date-time"}`,
		`{"type": "string", "format": "uuid"}`, `{"type": "string", "format": "date"}`, `{"type": "string", "format": "ipv4"}`,
		`{"type": "string", "format": "ipv6"}`, `{"type": "string", "format": "hostname"}`, `{"type": "string", "format": "time"}`,
		`{"type": "string", "format": "duration"}`,
		`{"type": "object", "required": ["a"], "properties": {"a": {"type": "object", "required": ["b"], "properties": {"b": {"type": "number"}}}}}`,
		`{"type": "object", "required": ["a"], "additionalProperties": {"type": "integer"}}`, `{"required": ["x"]}`,
		`{"$ref": "#/$defs/lead", "$defs": {"lead": {"type": "object", "required": ["next"], "properties": {"next": {"$ref": "#/$defs/a~1b"}}}, "a/b": {"const": 1}}}`,
		`{"allOf": [{"required": ["a"], "properties": {"a": {"type": "integer"}}}, {"required": ["b"], "properties": {"b": {"type": "boolean"}}}], "type": "object"}`,
		`{"anyOf": [{"type": "integer", "minimum": 3}, {"type": "string"}]}`, `{"oneOf": [{"type": "boolean"}, {"type": "string"}]}`,
		`{"$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}`,
	} {
		for _, prompt := range []string{"", "Summarise Chen Dental: rating 4.5, write to ada@example.com", "İstanbul \xff {\"a\": [1"} {
			structured(t, schema, prompt)
		}
	}
}

func TestFilledFormsAreBounded(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{
		`{"$ref": "#"}`, `{"allOf": [{"$ref": "#"}]}`, `{"anyOf": [{"$ref": "#"}]}`, `{"type": "array", "items": {"$ref": "#"}, "minItems": 100}`,
		`{"type": "object", "required": ["a", "b"], "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}}`,
		`{"type": "string", "minLength": 1e12}`, `{"type": "array", "minItems": 1e12}`, `{"pattern": "((a{1000}){1000})", "type": "string"}`,
		`{"pattern": "(?<", "type": "string"}`, `{"pattern": "^(((a{30}){30}){1})$", "type": "string"}`, `{"type": 5}`, `{"enum": []}`, `{"required": [1, "a", "a"]}`,
		`{"multipleOf": 0, "type": "integer"}`, `{"multipleOf": 1e-300, "type": "number"}`, `{"minimum": 5, "maximum": 1}`, `{"$ref": "http://10.0.0.7/"}`,
		`{"minimum": -1e308, "maximum": 1e308, "type": "number"}`, `5`, `null`, `[1]`, `{"type": []}`,
	} {
		var of any
		require.NoError(t, json.Unmarshal([]byte(schema), &of), schema)
		assert.Less(t, len(fill(of, "x")), 1<<20, schema)
	}
}

func TestFilledFormsReadThePrompt(t *testing.T) {
	t.Parallel()
	const prompt = `Take the fields of this invoice out of its text.
		INVOICE from Lindqvist Power. Seller: Lindqvist Power & Light, Austin
		Total 210.00 USD, due 2026-12-02. Mood is positive. {"contact_name": "Ada Lovelace", "quantity": 3} Write to ada@example.com.`
	assert.JSONEq(t, `{"seller": "Lindqvist Power & Light", "currency": "USD", "total": 210, "mood": "positive", "contact_name": "Ada Lovelace",
		"quantity": 3, "mail": "ada@example.com"}`, structured(t, `{"type": "object",
		"required": ["seller", "currency", "total", "mood", "contact_name", "quantity", "mail"], "properties": {
		"seller": {"type": "string"}, "currency": {"type": "string", "pattern": "^[A-Z]{3}$"}, "total": {"type": "number"},
		"mood": {"enum": ["negative", "positive"]}, "contact_name": {"type": "string"}, "quantity": {"type": "integer"},
		"mail": {"type": "string", "format": "email"}}}`, prompt))
	assert.Equal(t, `"Sandbox: INVOICE 2026-118 from Lindqvist Power"`, structured(t, `{"type": "string"}`, "Read it.\n\nINVOICE 2026-118 from Lindqvist Power.\n"))
	answer := chat(t, `{"messages": [{"role": "user", "content": "total: 5"}],
		"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"properties": {"total": {"type": "integer"}}}}}}`)
	assert.JSONEq(t, `{"total": 5}`, answer.Choices[0].Message.Content)
	answer = chat(t, `{"messages": [{"role": "user", "content": "Say hello"}], "response_format": {"type": "json_object"}}`)
	assert.JSONEq(t, `{"answer": "Sandbox: Say hello"}`, answer.Choices[0].Message.Content)
}

func FuzzFill(f *testing.F) {
	f.Add(`{"type": "object", "required": ["a"], "properties": {"a": {"pattern": "^a+$"}}}`, "a: 5")
	f.Add(`{"anyOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": {"enum": [1]}}}`, `{"x": "y"}`)
	f.Fuzz(func(t *testing.T, schema, prompt string) {
		var of any
		if json.Unmarshal([]byte(schema), &of) == nil && !json.Valid([]byte(fill(of, prompt))) {
			t.Error("not JSON")
		}
	})
}
