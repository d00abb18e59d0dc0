package aichat_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/aichat"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type with = map[string]any

// asked is a request as a server got it.
type asked struct {
	path   string
	header http.Header
	body   map[string]any
}

// model is a server that gives each request the next of its answers.
type model struct {
	url     string
	address string

	mu      sync.Mutex
	answers []http.HandlerFunc
	asked   []asked
}

func serve(t *testing.T, answers ...http.HandlerFunc) *model {
	t.Helper()
	m := &model{answers: answers}
	server := httptest.NewServer(m)
	m.url, m.address = server.URL, server.Listener.Addr().String()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return m
}

func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := asked{path: r.URL.Path, header: r.Header.Clone()}
	_ = json.NewDecoder(r.Body).Decode(&request.body)
	m.mu.Lock()
	n := len(m.asked)
	m.asked = append(m.asked, request)
	m.mu.Unlock()
	if n >= len(m.answers) {
		w.WriteHeader(http.StatusNotImplemented)
		return
	}
	m.answers[n](w, r)
}

// requests are those until now.
func (m *model) requests() []asked {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

func answerJSON(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}
}

func answerStatus(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"error": {"type": "hush", "message": "Incorrect key sk-hush at 10.0.0.7"}}`)
	}
}

// answerStream sends events, each of which is the lines of one.
func answerStream(events ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		for _, lines := range events {
			_, _ = io.WriteString(w, lines+"\n\n")
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// options of a test's component, each with a default.
type options struct {
	settings aichat.Settings
	publish  func(subject string, data []byte)
	now      clock.Clock
	allowed  []string
}

func newComponent(t *testing.T, o options) *aichat.Component {
	t.Helper()
	if o.now == nil {
		o.now = clock.System
	}
	require.NoError(t, o.settings.Validate())
	network, err := outbound.New(o.allowed, o.now)
	require.NoError(t, err)
	t.Cleanup(network.Close)
	return aichat.New(o.settings, network, o.publish, o.now)
}

func newCall(input with) *component.Call {
	return &component.Call{
		Execution: subject.Execution{Customer: "cust_001", ID: "e1"}, Step: "think", Attempt: 1, TraceParent: "00-trace", With: input,
	}
}

// run makes one attempt and gives its output and usage.
func run(t *testing.T, c *aichat.Component, call *component.Call) (map[string]any, *event.Usage, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	result, err := c.Execute(ctx, call)
	if err != nil {
		assert.Nil(t, result.Output)
		return nil, result.Usage, err
	}
	output, ok := result.Output.(map[string]any)
	require.True(t, ok)
	return output, result.Usage, nil
}

// ask asks a model as a provider, and adds to the input.
func ask(t *testing.T, m *model, provider string, more with) (map[string]any, *event.Usage, error) {
	t.Helper()
	return run(t, newComponent(t, options{allowed: []string{m.address}}), newCall(question(m, provider, more)))
}

func question(m *model, provider string, more with) with {
	input := with{"provider": provider, "model": "some-model", "base_url": m.url + "/v1", "api_key": "sk-hush", "prompt": "Say hello"}
	for name, value := range more {
		if input[name] = value; value == nil {
			delete(input, name)
		}
	}
	return input
}

// requireProblem checks an error and that it gives away nothing. It returns the message.
func requireProblem(t *testing.T, err error, code problem.Code, retryable bool) string {
	t.Helper()
	var found *problem.Error
	require.ErrorAs(t, err, &found)
	assert.Equal(t, code, found.Code, found.Message)
	assert.Equal(t, retryable, found.Retryable, found.Message)
	for _, secret := range []string{"hush", "127.0.0.1", "10.0", "<", "Say hello"} {
		assert.NotContains(t, found.Message, secret)
	}
	return found.Message
}

// Answers as the providers give them.
const (
	openAIAnswer = `{"id": "chatcmpl-B9MBs8", "object": "chat.completion", "created": 1741569952, "model": "some-model-2026-01-01",
		"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!", "refusal": null, "annotations": []},
		"logprobs": null, "finish_reason": "stop"}], "usage": {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29,
		"prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 6}}, "service_tier": "default"}`
	groqAnswer = `{"id": "chatcmpl-f51b2cd2", "object": "chat.completion", "created": 1730241104, "model": "some-model",
		"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "logprobs": null, "finish_reason": "length"}],
		"usage": {"queue_time": 0.037, "prompt_tokens": 18, "prompt_time": 0.0006, "completion_tokens": 556, "completion_time": 0.46,
		"total_tokens": 574, "total_time": 0.46}, "system_fingerprint": "fp_179b0f92c9", "x_groq": {"id": "req_01jbd6g2"}}`
	ollamaAnswer = `{"id":"chatcmpl-694","object":"chat.completion","created":1741569952,"model":"llama3.2","system_fingerprint":"fp_ollama",
		"choices":[{"index":0,"message":{"role":"assistant","content":"Hello!","reasoning":"hm"},"finish_reason":"stop"}],
		"usage":{"prompt_tokens":26,"completion_tokens":3,"total_tokens":29}}` + "\n"
	anthropicAnswer = `{"id": "msg_01XFDUDY", "type": "message", "role": "assistant", "model": "some-model",
		"content": [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "Hel"}, {"type": "text", "text": "lo!"}],
		"stop_reason": "end_turn", "stop_sequence": null, "usage": {"input_tokens": 2095, "cache_creation_input_tokens": 5,
		"cache_read_input_tokens": 100, "output_tokens": 503, "service_tier": "standard"}}`
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, provider, answer string
		model, finish          string
		usage                  event.Usage
	}{
		{"OpenAI", "openai", openAIAnswer, "some-model-2026-01-01", "stop", event.Usage{InputTokens: 19, OutputTokens: 10}},
		{"Groq", "groq", groqAnswer, "some-model", "length", event.Usage{InputTokens: 18, OutputTokens: 556}},
		{"Ollama", "compatible", ollamaAnswer, "llama3.2", "stop", event.Usage{InputTokens: 26, OutputTokens: 3}},
		{"Anthropic", "anthropic", anthropicAnswer, "some-model", "stop", event.Usage{InputTokens: 2200, OutputTokens: 503}},
		{
			"no usage, no model", "compatible", `{"choices": [{"message": {"content": "Hello!"}}]}`, "some-model", "stop",
			event.Usage{InputTokens: 3, OutputTokens: 2},
		},
		{
			"usage that is none", "compatible",
			`{"choices": [{"message": {"content": "Hello!"}}], "usage": {"prompt_tokens": "many", "completion_tokens": -5}}`,
			"some-model", "stop",
			event.Usage{InputTokens: 3, OutputTokens: 2},
		},
		{
			"more than there can be", "compatible",
			`{"choices": [{"message": {"content": "Hello!"}}], "usage": {"prompt_tokens": 1e300, "completion_tokens": 7.9}}`,
			"some-model", "stop",
			event.Usage{InputTokens: 1 << 40, OutputTokens: 7},
		},
		{
			"a window that was too small", "anthropic",
			`{"type": "message", "content": [{"type": "text", "text": "Hello!"}], "stop_reason": "model_context_window_exceeded"}`,
			"some-model", "length",
			event.Usage{InputTokens: 3, OutputTokens: 2},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			output, usage, err := ask(t, serve(t, answerJSON(test.answer)), test.provider, nil)
			require.NoError(t, err)
			assert.Equal(t, with{"text": "Hello!", "model": test.model, "provider": test.provider, "finish_reason": test.finish}, output)
			assert.Equal(t, &test.usage, usage)
		})
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	conversation := []any{
		with{"role": "user", "content": "a"}, with{"role": "assistant", "content": "b"}, with{"role": "user", "content": "c"},
	}
	full := with{
		"prompt": nil, "messages": conversation, "system": "Be brief.", "max_output_tokens": 200.0, "temperature": 0.0, "stop": []any{"END"},
	}
	asSystem := []any{with{"role": "system", "content": "Be brief."}}
	hello := []any{with{"role": "user", "content": "Say hello"}}
	tests := []struct {
		name, provider, answer string
		input                  with
		path                   string
		body                   with
		header                 map[string]string
	}{
		{
			"OpenAI", "openai", openAIAnswer, nil, "/v1/chat/completions",
			with{"model": "some-model", "messages": hello, "max_completion_tokens": 1024.0},
			map[string]string{"Authorization": "Bearer sk-hush", "X-Api-Key": ""},
		},
		{
			"Groq, all of it", "groq", groqAnswer, full, "/v1/chat/completions",
			with{
				"model": "some-model", "messages": append(asSystem, conversation...), "max_completion_tokens": 200.0, "temperature": 0.0,
				"stop": []any{"END"},
			},
			map[string]string{"Authorization": "Bearer sk-hush"},
		},
		{
			"compatible, no key", "compatible", ollamaAnswer,
			with{"api_key": nil},
			"/v1/chat/completions",
			with{"model": "some-model", "messages": hello, "max_tokens": 1024.0},
			map[string]string{"Authorization": "", "X-Api-Key": ""},
		},
		{
			"a key from a file", "compatible", ollamaAnswer,
			with{"api_key": " sk-hush\n"},
			"/v1/chat/completions",
			with{"model": "some-model", "messages": hello, "max_tokens": 1024.0},
			map[string]string{"Authorization": "Bearer sk-hush"},
		},
		{
			"Anthropic", "anthropic", anthropicAnswer, nil, "/v1/messages",
			with{"model": "some-model", "messages": hello, "max_tokens": 1024.0},
			map[string]string{"X-Api-Key": "sk-hush", "Anthropic-Version": "2023-06-01", "Authorization": ""},
		},
		{
			"Anthropic, all of it", "anthropic", anthropicAnswer, full, "/v1/messages",
			with{
				"model": "some-model", "system": "Be brief.", "messages": conversation, "max_tokens": 200.0, "temperature": 0.0,
				"stop_sequences": []any{"END"},
			},
			nil,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := serve(t, answerJSON(test.answer))
			_, _, err := ask(t, m, test.provider, test.input)
			require.NoError(t, err)
			require.Len(t, m.requests(), 1)
			got := m.requests()[0]
			assert.Equal(t, test.path, got.path)
			assert.Equal(t, test.body, got.body, "and no tools")
			assert.Equal(t, "e1/think", got.header.Get("Idempotency-Key"))
			assert.Equal(t, "00-trace", got.header.Get("Traceparent"))
			assert.Equal(t, "application/json", got.header.Get("Content-Type"))
			for name, value := range test.header {
				assert.Equal(t, value, got.header.Get(name), name)
			}
		})
	}
}

func TestRefusedInput(t *testing.T) {
	t.Parallel()
	c := newComponent(t, options{})
	base := "https://models.example.com/v1"
	formed := func(schema with) with {
		return with{"prompt": "x", "provider": "compatible", "model": "m", "base_url": base, "output_schema": schema}
	}
	for name, input := range map[string]any{
		"no object":                  "x",
		"a number for a text":        with{"prompt": 1.0},
		"no provider and no default": with{"prompt": "x"},
		"an address of nobody":       with{"prompt": "x", "base_url": base},
		"a key for nobody":           with{"prompt": "x", "api_key": "sk-hush"},
		"no model":                   with{"prompt": "x", "provider": "openai", "api_key": "sk-hush"},
		"unknown provider":           with{"prompt": "x", "provider": "grok", "model": "m", "api_key": "sk-hush"},
		"no key":                     with{"prompt": "x", "provider": "openai", "model": "m"},
		"a blank key":                with{"prompt": "x", "provider": "openai", "model": "m", "api_key": " \n"},
		"a key of two lines":         with{"prompt": "x", "provider": "openai", "model": "m", "api_key": "sk-hush\r\nX-A: b"},
		"a key that is not ASCII":    with{"prompt": "x", "provider": "openai", "model": "m", "api_key": "sk-hüsh"},
		"compatible with what":       with{"prompt": "x", "provider": "compatible", "model": "m"},
		"a path for an address":      with{"prompt": "x", "provider": "compatible", "model": "m", "base_url": "/v1"},
		"a file":                     with{"prompt": "x", "provider": "compatible", "model": "m", "base_url": "file:///etc/hush"},
		"an address with a user":     with{"prompt": "x", "provider": "compatible", "model": "m", "base_url": "https://hush@example.com"},
		"an address with a query":    with{"prompt": "x", "provider": "compatible", "model": "m", "base_url": base + "?key=hush"},
		"an address with a space":    with{"prompt": "x", "provider": "compatible", "model": "m", "base_url": "https://a b"},
		"nothing asked":              with{"provider": "compatible", "model": "m", "base_url": base},
		"asked twice": with{
			"prompt": "x", "messages": []any{with{"role": "user", "content": "x"}}, "provider": "compatible", "model": "m", "base_url": base,
		},
		"a schema that is none":     formed(with{"type": "x"}),
		"a schema from elsewhere":   formed(with{"$ref": "file:///etc/x"}),
		"a schema of half a regexp": formed(with{"pattern": strings.Repeat("(", 9000)}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result, err := c.Execute(t.Context(), &component.Call{With: input})
			message := requireProblem(t, err, problem.ComponentError, false)
			assert.Less(t, len(message), 1000)
			assert.Nil(t, result.Usage)
		})
	}
}
