package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"strings"
	"time"

	"github.com/galley-engine/galley/pkg/clock"
)

// modelName is the only model there is; a request for another one gets it too.
const modelName = "sandbox"

const (
	bytesPerToken = 4
	// maxQuote is how much of a prompt the answer repeats, in bytes.
	maxQuote = 200
	// chunkWords is how much of an answer is streamed at once, chunkPause the time between two chunks: as if somebody were typing.
	chunkWords = 4
	chunkPause = 30 * time.Millisecond
	// maxPause bounds what the pauses add up to.
	maxPause = 100
)

// model answers as a language model's API does, without one: the same to the same prompt.
type model struct {
	clock clock.Clock
}

type completionRequest struct {
	Messages []chatMessage `json:"messages"`
	// MaxTokens is the older name of MaxCompletionTokens.
	MaxTokens           int  `json:"max_tokens"`
	MaxCompletionTokens int  `json:"max_completion_tokens"`
	Stream              bool `json:"stream"`
	StreamOptions       struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	ResponseFormat struct {
		Type       string `json:"type"`
		JSONSchema struct {
			Schema any `json:"schema"`
		} `json:"json_schema"`
	} `json:"response_format"`
}

type chatMessage struct {
	Role    string      `json:"role"`
	Content chatContent `json:"content"`
}

// chatContent is a text, or the texts in a list of parts.
type chatContent string

// UnmarshalJSON implements json.Unmarshaler.
func (c *chatContent) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, (*string)(c)) == nil {
		return nil
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(data, &parts); err != nil {
		return err
	}
	for _, part := range parts {
		*c += chatContent(part.Text)
	}
	return nil
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

// completion is what the model says.
type completion struct {
	id      string
	created int64
	text    string
	finish  string
	usage   usage
}

func (m *model) serveModels(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"object": "list", "data": []any{map[string]any{"id": modelName, "object": "model", "created": 0, "owned_by": "galley"}},
	})
}

func (m *model) serveCompletion(w http.ResponseWriter, r *http.Request) {
	var request completionRequest
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		refuseCompletion(w, "the body is not JSON, not a request for a completion, or larger than 1 MiB")
		return
	}
	if len(request.Messages) == 0 {
		refuseCompletion(w, "messages must hold at least one message")
		return
	}
	answer := m.complete(&request)
	if request.Stream {
		m.stream(r.Context(), w, &answer, request.StreamOptions.IncludeUsage)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"id": answer.id, "object": "chat.completion", "created": answer.created, "model": modelName,
		"choices": []any{map[string]any{
			"index": 0, "message": map[string]any{"role": "assistant", "content": answer.text}, "finish_reason": answer.finish, "logprobs": nil,
		}},
		"usage": answer.usage,
	})
}

func refuseCompletion(w http.ResponseWriter, text string) {
	writeJSON(w, http.StatusBadRequest, map[string]any{
		"error": map[string]any{"message": text, "type": "invalid_request_error", "param": nil, "code": nil},
	})
}

func (m *model) complete(request *completionRequest) completion {
	prompt, read := "", 0
	for _, message := range request.Messages {
		read += len(message.Content)
		if message.Role != "system" && message.Role != "assistant" {
			prompt = string(message.Content)
		}
	}
	answer := completion{created: m.clock().Unix(), finish: "stop", text: say(prompt)}
	switch request.ResponseFormat.Type {
	case "json_schema":
		answer.text = fill(request.ResponseFormat.JSONSchema.Schema, prompt)
	case "json_object":
		answer.text = fill(map[string]any{"type": "object", "required": []any{"answer"}}, prompt)
	}
	limit := request.MaxCompletionTokens
	if limit <= 0 {
		limit = request.MaxTokens
	}
	if limit > 0 && tokens(len(answer.text)) > limit {
		answer.text, answer.finish = strings.ToValidUTF8(answer.text[:limit*bytesPerToken], ""), "length"
	}
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(prompt + answer.text))
	answer.id = fmt.Sprintf("chatcmpl-sandbox-%016x", hash.Sum64())
	answer.usage = usage{PromptTokens: tokens(read), CompletionTokens: tokens(len(answer.text))}
	answer.usage.TotalTokens = answer.usage.PromptTokens + answer.usage.CompletionTokens
	return answer
}

func tokens(bytes int) int { return (bytes + bytesPerToken - 1) / bytesPerToken }

// say answers a prompt in words.
func say(prompt string) string {
	quoted := strings.Join(strings.Fields(prompt), " ")
	if len(quoted) > maxQuote {
		quoted = strings.ToValidUTF8(quoted[:maxQuote], "") + "…"
	}
	return "Sandbox model: this is a stand-in, no language model has read your prompt. A real one would now answer: “" + quoted + "”"
}

// stream sends the answer in chunks, as server-sent events.
func (m *model) stream(ctx context.Context, w http.ResponseWriter, answer *completion, withUsage bool) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	send := func(choices []any, counted *usage) bool {
		data, err := json.Marshal(map[string]any{
			"id": answer.id, "object": "chat.completion.chunk", "created": answer.created, "model": modelName, "choices": choices, "usage": counted,
		})
		if err == nil {
			_, err = fmt.Fprintf(w, "data: %s\n\n", data)
		}
		return err == nil && http.NewResponseController(w).Flush() == nil
	}
	delta := func(delta map[string]any, finish any) []any {
		return []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}}
	}
	if !send(delta(map[string]any{"role": "assistant", "content": ""}, nil), nil) {
		return
	}
	for i, chunk := range chunks(answer.text) {
		if i > 0 && i < maxPause && !pause(ctx) {
			return
		}
		if !send(delta(map[string]any{"content": chunk}, nil), nil) {
			return
		}
	}
	sent := send(delta(map[string]any{}, answer.finish), nil)
	if sent && withUsage {
		sent = send([]any{}, &answer.usage)
	}
	if sent {
		_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
	}
}

// chunks cuts a text after every few words.
func chunks(text string) []string {
	var cut []string
	for words := strings.SplitAfter(text, " "); len(words) > 0; {
		n := min(chunkWords, len(words))
		cut = append(cut, strings.Join(words[:n], ""))
		words = words[n:]
	}
	return cut
}

// pause waits between two chunks, and tells whether there is still somebody to send them to.
func pause(ctx context.Context) bool {
	timer := time.NewTimer(chunkPause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
