package aichat_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
)

// Streams as the providers give them; each string is an event.
func openAIStream() []string {
	const head = `data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"some-model","system_fingerprint":"fp_44",`
	return []string{
		head + `"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null}`,
		head + `"choices":[{"index":0,"delta":{"content":"Hel"},"logprobs":null,"finish_reason":null}],"usage":null}`,
		head + `"choices":[{"index":0,"delta":{"content":"lo!"},"logprobs":null,"finish_reason":null}],"usage":null}`,
		head + `"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}`,
		head + `"choices":[],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29}}`,
		`data: [DONE]`,
	}
}

func groqStream() []string {
	return []string{
		`data: {"id":"chatcmpl-1","model":"some-model","choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"x_groq":{"id":"req_01"}}`,
		`data: {"id":"chatcmpl-1","model":"some-model","choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}`,
		`data: {"id":"chatcmpl-1","model":"some-model","choices":[{"index":0,"delta":{"content":"lo!"},"finish_reason":null}]}`,
		`data: {"id":"chatcmpl-1","model":"some-model","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],` +
			`"x_groq":{"id":"req_01","usage":{"queue_time":0.01,"prompt_tokens":19,"completion_tokens":10,"total_tokens":29}}}`,
		`data: [DONE]`,
	}
}

func ollamaStream() []string {
	return []string{
		": OPENROUTER PROCESSING",
		"data:",
		`data: {"model":"some-model","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":"Hel"}}]}`,
		"data: {\"model\":\"some-model\",\"choices\":[{\"index\":0,\r\ndata: \"delta\":{\"content\":\"lo!\"},\"finish_reason\":\"stop\"}]}\r",
	}
}

func anthropicStream() []string {
	return []string{
		`event: message_start` + "\n" + `data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],` +
			`"model":"some-model","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":19,"output_tokens":1}}}`,
		`event: content_block_start` + "\n" + `data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
		`event: ping` + "\n" + `data: {"type": "ping"}`,
		`event: content_block_delta` + "\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}`,
		`event: content_block_delta` + "\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}`,
		`event: content_block_delta` + "\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"lo!"}}`,
		`event: content_block_stop` + "\n" + `data: {"type":"content_block_stop","index":0}`,
		`event: message_delta` + "\n" + `data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":10}}`,
		`event: message_stop` + "\n" + `data: {"type":"message_stop"}`,
	}
}

// listener keeps what is published.
type listener struct {
	subjects []string
	texts    []string
	messages []map[string]any
}

func (l *listener) publish(subject string, data []byte) {
	var message map[string]any
	_ = json.Unmarshal(data, &message)
	text, _ := message["text"].(string)
	l.subjects, l.texts, l.messages = append(l.subjects, subject), append(l.texts, text), append(l.messages, message)
}

// ticking is a clock that goes on by a step each time it is read.
func ticking(step time.Duration) func() time.Time {
	var read atomic.Int64
	return func() time.Time {
		return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(read.Add(1)) * step)
	}
}

func TestStreams(t *testing.T) {
	t.Parallel()
	counted, estimated := &event.Usage{InputTokens: 19, OutputTokens: 10}, &event.Usage{InputTokens: 3, OutputTokens: 2}
	for name, test := range map[string]struct {
		provider string
		events   []string
		usage    *event.Usage
	}{
		"OpenAI":               {"openai", openAIStream(), counted},
		"OpenAI without usage": {"openai", append(openAIStream()[:4], "data: [DONE]"), estimated},
		"Groq":                 {"groq", groqStream(), counted},
		"Ollama":               {"compatible", ollamaStream(), estimated},
		"no reason to finish":  {"compatible", append(openAIStream()[:3], "data: [DONE]"), estimated},
		"Anthropic":            {"anthropic", anthropicStream(), counted},
		"Anthropic, cut short": {
			"anthropic", append(anthropicStream()[:7], `data: {"type":"message_stop"}`), &event.Usage{InputTokens: 19, OutputTokens: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := serve(t, answerStream(test.events...))
			var heard listener
			c := newComponent(t, options{allowed: []string{m.address}, publish: heard.publish, now: ticking(time.Second)})
			call := newCall(question(m, test.provider, with{"stream": true}))
			call.Attempt = 3
			output, usage, err := run(t, c, call)
			require.NoError(t, err)
			assert.Equal(t, with{"text": "Hello!", "model": "some-model", "provider": test.provider, "finish_reason": "stop"}, output)
			assert.Equal(t, test.usage, usage)
			assert.Equal(t, []map[string]any{
				{"step": "think", "attempt": 3.0, "sequence": 1.0, "text": "Hel"},
				{"step": "think", "attempt": 3.0, "sequence": 2.0, "text": "lo!"},
				{"step": "think", "attempt": 3.0, "sequence": 3.0, "done": true},
			}, heard.messages)
			assert.Equal(t, "galley.progress.cust_001.e1.think", heard.subjects[0])
			body := m.requests()[0].body
			assert.Equal(t, true, body["stream"])
			if test.provider != "anthropic" {
				assert.Equal(t, with{"include_usage": true}, body["stream_options"])
			}
		})
	}
}

func TestStreamIsCoalesced(t *testing.T) {
	t.Parallel()
	const tokens = 1000
	events := make([]string, 0, tokens+1)
	for range tokens {
		events = append(events, `data: {"choices":[{"delta":{"content":"é"}}]}`)
	}
	m := serve(t, answerStream(append(events, "data: [DONE]")...))
	var heard listener
	c := newComponent(t, options{allowed: []string{m.address}, publish: heard.publish, now: ticking(time.Millisecond)})
	item := 4
	call := newCall(question(m, "openai", with{"stream": true}))
	call.Item = &item
	output, _, err := run(t, c, call)
	require.NoError(t, err)
	assert.Equal(t, output["text"], strings.Join(heard.texts, ""))
	assert.InDelta(t, tokens/50+2, len(heard.messages), 1)
	assert.Equal(t, "galley.progress.cust_001.e1.think.4", heard.subjects[0])
	assert.InDelta(t, 4, heard.messages[0]["item"], 0)
}

// A text that comes all at once is published in pieces that fit into a message.
func TestLargePieces(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("a€", 50_000)
	m := serve(t, answerStream(`data: {"choices":[{"delta":{"content":"x`+text+`"}}]}`, "data: [DONE]"))
	var heard listener
	c := newComponent(t, options{allowed: []string{m.address}, publish: heard.publish})
	_, _, err := run(t, c, newCall(question(m, "openai", with{"stream": true})))
	require.NoError(t, err)
	assert.Equal(t, "x"+text, strings.Join(heard.texts, ""))
	for _, piece := range heard.texts {
		assert.LessOrEqual(t, len(piece), 32<<10)
	}
}

// A server that does not stream is understood all the same.
func TestStreamThatIsNone(t *testing.T) {
	t.Parallel()
	m := serve(t, answerJSON(openAIAnswer))
	var heard listener
	c := newComponent(t, options{allowed: []string{m.address}, publish: heard.publish})
	output, usage, err := run(t, c, newCall(question(m, "openai", with{"stream": true})))
	require.NoError(t, err)
	assert.Equal(t, "Hello!", output["text"])
	assert.Equal(t, &event.Usage{InputTokens: 19, OutputTokens: 10}, usage)
	assert.Equal(t, []string{"Hello!", ""}, heard.texts)
}

func TestBrokenStreams(t *testing.T) {
	t.Parallel()
	estimated, ofClaude := &event.Usage{InputTokens: 3, OutputTokens: 1}, &event.Usage{InputTokens: 19, OutputTokens: 1}
	const overloaded = `data: {"type":"error","error":{"type":"overloaded_error","message":"hush"}}`
	for name, test := range map[string]struct {
		provider  string
		events    []string
		code      problem.Code
		retryable bool
		usage     *event.Usage
	}{
		"ends early":        {"openai", openAIStream()[:2], problem.Connection, true, estimated},
		"ends at once":      {"openai", nil, problem.Connection, true, nil},
		"ends in an event":  {"openai", []string{openAIStream()[1], `data: {"choices"` + "\x00"}, problem.ComponentError, false, estimated},
		"Claude ends early": {"anthropic", anthropicStream()[:4], problem.Connection, true, ofClaude},
		"fails": {
			"openai",
			[]string{openAIStream()[1], `data: {"error":{"message":"hush","type":"server_error","code":null}}`},
			problem.Upstream5xx, true, estimated,
		},
		"fails at Groq": {
			"groq",
			[]string{groqStream()[1], `data: {"choices":[],"x_groq":{"error":"over hush"}}`},
			problem.Upstream5xx, true, estimated,
		},
		"limited": {
			"openai",
			[]string{`data: {"error":{"message":"hush","code":"rate_limit_exceeded"}}`},
			problem.RateLimited, true, nil,
		},
		"overloaded":         {"anthropic", append(anthropicStream()[:4], overloaded), problem.Upstream5xx, true, ofClaude},
		"overloaded at once": {"anthropic", []string{overloaded}, problem.Upstream5xx, true, nil},
		"declined": {
			"openai",
			[]string{`data: {"choices":[{"delta":{"refusal":"I hush"}}]}`, `data: [DONE]`},
			problem.UpstreamRejected, false, &event.Usage{InputTokens: 3},
		},
		"filtered": {
			"openai",
			[]string{openAIStream()[1], `data: {"choices":[{"delta":{},"finish_reason":"content_filter"}]}`},
			problem.UpstreamRejected, false, estimated,
		},
		"declined by Claude": {
			"anthropic", append(anthropicStream()[:4], `data: {"type":"message_delta","delta":{"stop_reason":"refusal"}}`, `data: {"type":"message_stop"}`),
			problem.UpstreamRejected, false, ofClaude,
		},
		"no JSON":               {"openai", []string{"data: <html>hush</html>"}, problem.ComponentError, false, nil},
		"no JSON of Claude":     {"anthropic", []string{"data: hush"}, problem.ComponentError, false, nil},
		"nothing but lines":     {"openai", []string{"hush", "event: x", "id: 5", "retry: 1", "data"}, problem.Connection, true, nil},
		"the format of another": {"openai", anthropicStream(), problem.Connection, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := serve(t, answerStream(test.events...))
			var heard listener
			c := newComponent(t, options{allowed: []string{m.address}, publish: heard.publish, now: ticking(time.Second)})
			_, usage, err := run(t, c, newCall(question(m, test.provider, with{"stream": true})))
			requireProblem(t, err, test.code, test.retryable)
			assert.Equal(t, test.usage, usage)
			for _, message := range heard.messages {
				assert.NotContains(t, message, "done", "it is not")
			}
		})
	}
}

// The text is complete when the model says why it stopped: a connection that breaks after it does not matter.
func TestStreamThatBreaksAfterItsEnd(t *testing.T) {
	t.Parallel()
	m := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		conn := hijack(w)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9000\r\n\r\n"+
			strings.Join(openAIStream()[:4], "\n\n")+"\n\n")
		_ = conn.Close()
	})
	c := newComponent(t, options{allowed: []string{m.address}, publish: new(listener).publish})
	output, usage, err := run(t, c, newCall(question(m, "openai", with{"stream": true})))
	require.NoError(t, err)
	assert.Equal(t, "Hello!", output["text"])
	assert.Equal(t, &event.Usage{InputTokens: 3, OutputTokens: 2}, usage)
}

func TestSecretsAreNotPublished(t *testing.T) {
	t.Parallel()
	redact := func(text string) string { return strings.ReplaceAll(text, "sk-hush", "[secret:key]") }
	for name, test := range map[string]struct {
		input     with
		published []string
	}{
		"in the key":        {nil, []string{"my key is [secret:key]", ""}},
		"in the prompt":     {with{"prompt": "It is sk-hush."}, nil},
		"in the system":     {with{"system": "It is sk-hush."}, nil},
		"in a message":      {with{"prompt": nil, "messages": []any{with{"role": "user", "content": "sk-hush"}}}, nil},
		"in the schema":     {with{"output_schema": with{"type": "string", "description": "not sk-hush"}}, nil},
		"in a list of none": {with{"output_schema": with{"type": "string"}}, []string{"my key is [secret:key]", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := answerStream(`data: {"choices":[{"delta":{"content":"my key is sk-hush"}}]}`, "data: [DONE]")
			if test.input["output_schema"] != nil {
				answer = answerStream(`data: {"choices":[{"delta":{"content":"\"my key is sk-hush\""}}]}`, "data: [DONE]")
			}
			m := serve(t, answer)
			var heard listener
			c := newComponent(t, options{allowed: []string{m.address}, publish: heard.publish})
			call := newCall(question(m, "openai", with{"stream": true}))
			for key, value := range test.input {
				input, _ := call.With.(with)
				if input[key] = value; value == nil {
					delete(input, key)
				}
			}
			call.Redact = redact
			_, _, err := run(t, c, call)
			require.NoError(t, err)
			for i, text := range heard.texts {
				heard.texts[i] = strings.Trim(text, `"`)
			}
			assert.Equal(t, test.published, heard.texts)
		})
	}
}
