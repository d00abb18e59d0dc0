// Package llm asks language models. It speaks the two formats that nearly all of them understand, OpenAI's chat completions and
// Anthropic's messages, at once or as a stream, and only what a question and its answer need: models are given no tools.
package llm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// MaxAnswer is the most that is taken of an answer, in bytes: of its text, and of all of it when it comes at once.
const MaxAnswer = 1 << 20

// ErrMalformed says that the server did not accept the form of the request: it answered 400 or 422. It stands beside a *problem.Error.
var ErrMalformed = errors.New("the request was not accepted")

// Format is how a server is talked to.
type Format string

const (
	// FormatOpenAI is OpenAI's chat completions as OpenAI and Groq speak them.
	FormatOpenAI Format = "openai"
	// FormatCompatible is the same as other servers speak it, which know it as it was earlier.
	FormatCompatible Format = "compatible"
	// FormatAnthropic is Anthropic's messages.
	FormatAnthropic Format = "anthropic"
)

// Endpoint is who is asked.
type Endpoint struct {
	Format Format
	// BaseURL is http or https and has neither query nor fragment.
	BaseURL string
	// Key is sent when there is one. It is one line of printable characters.
	Key string
}

// Message is one of a conversation; its role is user or assistant.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Request is a question.
type Request struct {
	Model    string
	System   string
	Messages []Message
	// MaxTokens bounds the answer.
	MaxTokens int
	// Temperature is what the model does by itself where it is nil.
	Temperature *float64
	Stop        []string
	// Schema is a JSON Schema of an object that the server is asked to enforce, nil for none.
	Schema map[string]any
	// OnText is given the text while it comes. Without it, the answer comes at once.
	OnText func(text string)
}

// Answer is what a model said.
type Answer struct {
	Text string
	// Model is what the server calls the model that answered, or what it was called in the request.
	Model string
	// Cut says that MaxTokens ended the answer.
	Cut bool
	// Usage is nil when the model has not answered.
	Usage *event.Usage
}

// wire is one format.
type wire interface {
	path() string
	// addHeader adds what the format needs, and the key where there is one.
	addHeader(header http.Header, key string)
	// encode gives what is sent as JSON.
	encode(request *Request) any
	// whole reads an answer that came at once, event the data of one event of a stream.
	whole(body []byte, t *transcript) error
	event(data []byte, t *transcript) error
}

func (f Format) wire() wire {
	if f == FormatAnthropic {
		return messages{}
	}
	return completions{compatible: f == FormatCompatible}
}

// Ask asks once, in the name of a call. An error is a *problem.Error, possibly inside others, that says nothing of what the server
// wrote. The usage of the answer is what there was until then.
func Ask(ctx context.Context, network *outbound.Network, call *component.Call, to *Endpoint, request *Request) (Answer, error) {
	t := &transcript{request: request}
	err := t.converse(ctx, network, call, to)
	if err == nil && t.refused {
		err = component.Failure(problem.UpstreamRejected, "the model, or a filter of its provider, declined to answer")
	}
	return t.answer(), err
}

func (t *transcript) converse(ctx context.Context, network *outbound.Network, call *component.Call, to *Endpoint) error {
	format := to.Format.wire()
	request, err := newRequest(ctx, format, to, t.request)
	if err != nil {
		return err
	}
	response, err := network.Do(call.Outbound(), request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if err := refusal(network, response); err != nil {
		outbound.Discard(response)
		return err
	}
	if media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); media == "text/event-stream" {
		return t.follow(format, response.Body)
	}
	body, err := outbound.ReadBody(response, MaxAnswer)
	if err != nil {
		return err
	}
	return format.whole(body, t)
}

func newRequest(ctx context.Context, format wire, to *Endpoint, request *Request) (*http.Request, error) {
	body, err := json.Marshal(format.encode(request))
	if err != nil {
		return nil, component.Failure(problem.ComponentError, "the input cannot be written as JSON")
	}
	address := strings.TrimRight(to.BaseURL, "/") + format.path()
	made, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, component.Failure(problem.ComponentError, "base_url is not an address")
	}
	made.Header.Set("Content-Type", "application/json")
	format.addHeader(made.Header, to.Key)
	return made, nil
}

// refusal says what the status means when it is a failure.
func refusal(network *outbound.Network, response *http.Response) error {
	err := network.Refusal(response)
	switch response.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return component.Failure(problem.Upstream4xx, "the provider refused the API key: it answered %d", response.StatusCode)
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return err
}

// follow reads a stream to its end.
func (t *transcript) follow(format wire, body io.ReadCloser) error {
	events := newEventReader(body)
	for !t.ended {
		data, err := events.next()
		switch {
		case err != nil && t.finish != "":
			return nil // all of the text is there; only the usage may be missing
		case errors.Is(err, io.EOF):
			return component.Retryable(problem.Connection, "the answer broke off")
		case err != nil:
			return err
		}
		if err := format.event(data, t); err != nil {
			return err
		}
	}
	return nil
}

// notUnderstood is for an answer that is none of a language model.
func notUnderstood() error {
	return component.Failure(problem.ComponentError, "what came is not the answer of a language model: see that provider and base_url are right")
}

func tooLarge() error {
	return component.Failure(problem.StateTooLarge, "the answer is larger than 1 MiB")
}

// reported is a failure that a server tells inside of an answer. Nothing of its text is told.
func reported(raw json.RawMessage) error {
	var described struct {
		Type any `json:"type"`
		Code any `json:"code"`
	}
	_ = json.Unmarshal(raw, &described) // some send a text; then nothing is known but that it failed
	status, _ := described.Code.(float64)
	names := fmt.Sprint(described.Type, " ", described.Code)
	switch {
	case status == http.StatusTooManyRequests || strings.Contains(names, "rate_limit"):
		return component.Retryable(problem.RateLimited, "the provider says that it is asked too often")
	case strings.Contains(names, "content_filter"):
		return component.Failure(problem.UpstreamRejected, "a filter of the provider refused the request")
	case status >= http.StatusBadRequest && status < http.StatusInternalServerError || isOwnFault(names):
		return component.Failure(problem.Upstream4xx, "the provider refused the request")
	}
	return component.Retryable(problem.Upstream5xx, "the provider broke its answer off with an error")
}

// isOwnFault recognises the types of errors that another attempt would meet again.
func isOwnFault(names string) bool {
	for _, name := range []string{
		"invalid_request", "authentication", "permission", "not_found", "billing", "request_too_large", "insufficient_quota",
	} {
		if strings.Contains(names, name) {
			return true
		}
	}
	return false
}
