package llm

import (
	"encoding/json"
	"net/http"
)

// completions is OpenAI's format: https://platform.openai.com/docs/api-reference/chat.
type completions struct {
	// compatible is for servers of others, which know the limit of tokens by its earlier name only.
	compatible bool
}

type completionRequest struct {
	Model               string          `json:"model"`
	Messages            []Message       `json:"messages"`
	MaxCompletionTokens int             `json:"max_completion_tokens,omitempty"`
	MaxTokens           int             `json:"max_tokens,omitempty"`
	Temperature         *float64        `json:"temperature,omitempty"`
	Stop                []string        `json:"stop,omitempty"`
	ResponseFormat      *responseFormat `json:"response_format,omitempty"`
	Stream              bool            `json:"stream,omitempty"`
	StreamOptions       *streamOptions  `json:"stream_options,omitempty"`
}

type responseFormat struct {
	Type       string      `json:"type"`
	JSONSchema namedSchema `json:"json_schema"`
}

type namedSchema struct {
	Name   string         `json:"name"`
	Schema map[string]any `json:"schema"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

func (completions) path() string { return "/chat/completions" }

func (completions) addHeader(header http.Header, key string) {
	if key != "" {
		header.Set("Authorization", "Bearer "+key)
	}
}

func (c completions) encode(r *Request) any {
	body := completionRequest{Model: r.Model, Messages: r.Messages, Temperature: r.Temperature, Stop: r.Stop}
	if r.System != "" {
		body.Messages = append([]Message{{Role: "system", Content: r.System}}, r.Messages...)
	}
	if c.compatible {
		body.MaxTokens = r.MaxTokens
	} else {
		body.MaxCompletionTokens = r.MaxTokens
	}
	if r.Schema != nil {
		// Without "strict", which takes only a part of JSON Schema: the answer is checked here in any case.
		body.ResponseFormat = &responseFormat{Type: "json_schema", JSONSchema: namedSchema{Name: "answer", Schema: r.Schema}}
	}
	if r.OnText != nil {
		body.Stream, body.StreamOptions = true, &streamOptions{IncludeUsage: true}
	}
	return body
}

// completion is an answer, or a piece of one in a stream: there, Delta takes the place of Message.
type completion struct {
	Model   string `json:"model"`
	Choices []struct {
		Message      completionText `json:"message"`
		Delta        completionText `json:"delta"`
		FinishReason string         `json:"finish_reason"`
	} `json:"choices"`
	Usage *completionUsage `json:"usage"`
	// Groq is where Groq puts the usage and failures of a stream.
	Groq struct {
		Usage *completionUsage `json:"usage"`
		Error json.RawMessage  `json:"error"`
	} `json:"x_groq"`
	Error json.RawMessage `json:"error"`
}

type completionText struct {
	Content string `json:"content"`
	Refusal string `json:"refusal"`
}

type completionUsage struct {
	PromptTokens     count `json:"prompt_tokens"`
	CompletionTokens count `json:"completion_tokens"`
}

func (completions) whole(body []byte, t *transcript) error {
	c, err := readCompletion(body, t)
	if err != nil {
		return err
	}
	if len(c.Choices) == 0 {
		return notUnderstood()
	}
	choice := c.Choices[0]
	t.finished(choice.FinishReason)
	if t.finish == "" {
		t.finish = finishStop
	}
	t.refused = t.refused || choice.Message.Refusal != ""
	return t.add(choice.Message.Content)
}

func (completions) event(data []byte, t *transcript) error {
	if string(data) == "[DONE]" {
		t.ended = true
		if t.finish == "" {
			t.finish = finishStop
		}
		return nil
	}
	c, err := readCompletion(data, t)
	if err != nil || len(c.Choices) == 0 {
		return err
	}
	choice := c.Choices[0]
	t.finished(choice.FinishReason)
	t.refused = t.refused || choice.Delta.Refusal != ""
	return t.add(choice.Delta.Content)
}

// readCompletion takes over what does not depend on the way by which the answer comes.
func readCompletion(data []byte, t *transcript) (*completion, error) {
	var c completion
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, notUnderstood()
	}
	if c.Model != "" {
		t.model = c.Model
	}
	for _, usage := range []*completionUsage{c.Groq.Usage, c.Usage} {
		if usage != nil {
			t.input, t.output = max(t.input, usage.PromptTokens), max(t.output, usage.CompletionTokens)
		}
	}
	for _, failure := range []json.RawMessage{c.Error, c.Groq.Error} {
		if len(failure) > 0 && string(failure) != "null" {
			return nil, reported(failure)
		}
	}
	return &c, nil
}

// finished takes over why the model stopped, where it says so.
func (t *transcript) finished(reason string) {
	switch reason {
	case "":
	case "length":
		t.finish = finishLength
	case "content_filter":
		t.finish, t.refused = finishStop, true
	default:
		t.finish = finishStop
	}
}
