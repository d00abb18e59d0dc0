package llm

import (
	"encoding/json"
	"net/http"
)

// messages is Anthropic's format: https://platform.claude.com/docs/en/api/messages.
type messages struct{}

const anthropicVersion = "2023-06-01"

type messagesRequest struct {
	Model        string        `json:"model"`
	System       string        `json:"system,omitempty"`
	Messages     []Message     `json:"messages"`
	MaxTokens    int           `json:"max_tokens"`
	Temperature  *float64      `json:"temperature,omitempty"`
	Stop         []string      `json:"stop_sequences,omitempty"`
	OutputConfig *outputConfig `json:"output_config,omitempty"`
	Stream       bool          `json:"stream,omitempty"`
}

type outputConfig struct {
	Format outputFormat `json:"format"`
}

type outputFormat struct {
	Type   string         `json:"type"`
	Schema map[string]any `json:"schema"`
}

func (messages) path() string { return "/messages" }

func (messages) addHeader(header http.Header, key string) {
	header.Set("Anthropic-Version", anthropicVersion)
	if key != "" {
		header.Set("X-Api-Key", key)
	}
}

func (messages) encode(r *Request) any {
	body := messagesRequest{
		Model: r.Model, System: r.System, Messages: r.Messages, MaxTokens: r.MaxTokens, Temperature: r.Temperature, Stop: r.Stop,
		Stream: r.OnText != nil,
	}
	if r.Schema != nil && isClosed(r.Schema) {
		body.OutputConfig = &outputConfig{Format: outputFormat{Type: "json_schema", Schema: r.Schema}}
	}
	return body
}

// isClosed tells whether every object in a schema says that it has no other properties: others are refused by Anthropic. It may take
// a property for a keyword, and then says no.
func isClosed(value any) bool {
	switch value := value.(type) {
	case map[string]any:
		_, lists := value["properties"].(map[string]any)
		if (lists || value["type"] == "object") && value["additionalProperties"] != false {
			return false
		}
		for _, inner := range value {
			if !isClosed(inner) {
				return false
			}
		}
	case []any:
		for _, inner := range value {
			if !isClosed(inner) {
				return false
			}
		}
	}
	return true
}

// message is an answer.
type message struct {
	Type    string `json:"type"`
	Model   string `json:"model"`
	Content []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	} `json:"content"`
	StopReason string          `json:"stop_reason"`
	Usage      messageUsage    `json:"usage"`
	Error      json.RawMessage `json:"error"`
}

// messageUsage counts what was read from the provider's cache, or written to it, apart.
type messageUsage struct {
	Input      count `json:"input_tokens"`
	CacheRead  count `json:"cache_read_input_tokens"`
	CacheWrite count `json:"cache_creation_input_tokens"`
	Output     count `json:"output_tokens"`
}

// messageEvent is a piece of an answer in a stream.
type messageEvent struct {
	Type    string  `json:"type"`
	Message message `json:"message"`
	Delta   struct {
		Type       string `json:"type"`
		Text       string `json:"text"`
		StopReason string `json:"stop_reason"`
	} `json:"delta"`
	Usage messageUsage    `json:"usage"`
	Error json.RawMessage `json:"error"`
}

func (messages) whole(body []byte, t *transcript) error {
	var m message
	err := json.Unmarshal(body, &m)
	switch {
	case err != nil:
		return notUnderstood()
	case m.Type == "error":
		return reported(m.Error)
	case m.Type != "message":
		return notUnderstood()
	}
	t.begun(&m)
	t.stopped(m.StopReason)
	if t.finish == "" {
		t.finish = finishStop
	}
	for _, content := range m.Content {
		if content.Type != "text" {
			continue
		}
		if err := t.add(content.Text); err != nil {
			return err
		}
	}
	return nil
}

func (messages) event(data []byte, t *transcript) error {
	var e messageEvent
	if err := json.Unmarshal(data, &e); err != nil {
		return notUnderstood()
	}
	switch e.Type {
	case "message_start":
		t.begun(&e.Message)
	case "content_block_delta":
		if e.Delta.Type == "text_delta" {
			return t.add(e.Delta.Text)
		}
	case "message_delta":
		t.stopped(e.Delta.StopReason)
		t.counted(&e.Usage)
	case "message_stop":
		t.ended = true
		if t.finish == "" {
			t.finish = finishStop
		}
	case "error":
		return reported(e.Error)
	}
	return nil // what else there is, such as a ping, is not needed
}

func (t *transcript) begun(m *message) {
	if m.Model != "" {
		t.model = m.Model
	}
	t.counted(&m.Usage)
}

// counted takes over the usage. A stream tells it several times, each time all until then.
func (t *transcript) counted(u *messageUsage) {
	t.input, t.output = max(t.input, u.Input+u.CacheRead+u.CacheWrite), max(t.output, u.Output)
}

// stopped takes over why the model stopped, where it says so.
func (t *transcript) stopped(reason string) {
	switch reason {
	case "":
	case "max_tokens", "model_context_window_exceeded":
		t.finish = finishLength
	case "refusal":
		t.finish, t.refused = finishStop, true
	default:
		t.finish = finishStop
	}
}
