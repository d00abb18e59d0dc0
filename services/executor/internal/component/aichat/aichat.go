// Package aichat runs ai.chat: a question to a language model.
//
// An answer that has to fit a JSON Schema is asked for twice over: the server is told to enforce the schema, and the model is told of
// it, because not every server can. Whatever comes is checked here; a model that gets it wrong is told once what is wrong.
package aichat

import (
	"context"
	"errors"
	"strconv"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/aichat/internal/llm"
)

const defaultMaxTokens = 1024

// Component is ai.chat.
type Component struct {
	settings Settings
	network  *outbound.Network
	publish  func(subject string, data []byte)
	clock    clock.Clock
}

// New makes the component from valid settings. publish sends a message that may get lost, without waiting; nil for nobody who listens.
func New(settings Settings, network *outbound.Network, publish func(subject string, data []byte), now clock.Clock) *Component {
	return &Component{settings: settings, network: network, publish: publish, clock: now}
}

// input is the step's with.
type input struct {
	Provider     Provider       `json:"provider"`
	Model        string         `json:"model"`
	BaseURL      string         `json:"base_url"`
	APIKey       string         `json:"api_key"`
	System       string         `json:"system"`
	Prompt       string         `json:"prompt"`
	Messages     []llm.Message  `json:"messages"`
	MaxTokens    int            `json:"max_output_tokens"`
	Temperature  *float64       `json:"temperature"`
	Stop         []string       `json:"stop"`
	OutputSchema map[string]any `json:"output_schema"`
	Stream       bool           `json:"stream"`
}

// Execute asks the model.
func (c *Component) Execute(ctx context.Context, call *component.Call) (component.Result, error) {
	in, err := component.Input[input](call)
	if err != nil {
		return component.Result{}, component.Failure(problem.ComponentError, "the input is not that of ai.chat")
	}
	t, err := c.newTalk(call, &in)
	if err != nil {
		return component.Result{}, err
	}
	output, err := t.hold(ctx)
	if err != nil {
		return component.Result{Usage: t.usage}, err
	}
	return component.Result{Output: output, Usage: t.usage}, nil
}

// talk is one attempt: a question, its answer, and perhaps a correction.
type talk struct {
	network  *outbound.Network
	call     *component.Call
	provider Provider
	endpoint llm.Endpoint
	request  llm.Request
	// form is what the answer has to look like, nil for any text.
	form     *form
	progress *progress
	// asked counts the requests, usage adds up what they used.
	asked int
	usage *event.Usage
}

func (c *Component) newTalk(call *component.Call, in *input) (*talk, error) {
	chosen, err := c.settings.choose(in)
	if err != nil {
		return nil, err
	}
	t := &talk{network: c.network, call: call, provider: chosen.provider, endpoint: chosen.endpoint}
	t.request = llm.Request{
		Model: chosen.model, System: in.System, Messages: in.Messages, MaxTokens: in.MaxTokens, Temperature: in.Temperature, Stop: in.Stop,
	}
	if (in.Prompt == "") == (len(in.Messages) == 0) {
		return nil, component.Failure(problem.ComponentError, "there must be either prompt or messages")
	}
	if in.Prompt != "" {
		t.request.Messages = []llm.Message{{Role: "user", Content: in.Prompt}}
	}
	if in.MaxTokens == 0 {
		t.request.MaxTokens = defaultMaxTokens
	}
	if in.OutputSchema != nil {
		if t.form, err = newForm(in.OutputSchema); err != nil {
			return nil, err
		}
		t.form.addTo(&t.request)
	}
	if in.Stream && c.publish != nil && !holdsSecret(call, &t.request) {
		t.progress = newProgress(c.publish, c.clock, call)
		t.request.OnText = t.progress.add
	}
	return t, nil
}

// holdsSecret tells whether the model is told a secret, which its answer may then hold in any form.
func holdsSecret(call *component.Call, request *llm.Request) bool {
	texts := []string{request.System}
	for _, message := range request.Messages {
		texts = append(texts, message.Content)
	}
	for _, text := range texts {
		if call.Public(text) != text {
			return true
		}
	}
	return false
}

func (t *talk) hold(ctx context.Context) (map[string]any, error) {
	answer, err := t.ask(ctx)
	if err != nil {
		return nil, err
	}
	output := map[string]any{"text": answer.Text, "model": answer.Model, "provider": string(t.provider), "finish_reason": "stop"}
	if answer.Cut {
		output["finish_reason"] = "length"
	}
	if t.form != nil {
		filled, err := t.fill(ctx, answer)
		if err != nil {
			return nil, err
		}
		output["text"], output["data"] = filled.text, filled.data
	}
	t.progress.end()
	return output, nil
}

// ask asks the question. Not every model and server takes a schema, or this one: then it is asked again without, since the model has been
// told of the schema all the same.
func (t *talk) ask(ctx context.Context) (llm.Answer, error) {
	answer, err := t.send(ctx)
	if t.request.Schema != nil && errors.Is(err, llm.ErrMalformed) {
		t.request.Schema = nil
		answer, err = t.send(ctx)
	}
	return answer, err
}

// fill gets the answer into its form, with one correction at most.
func (t *talk) fill(ctx context.Context, answer llm.Answer) (*filled, error) {
	found, wrong := t.form.read(&answer)
	if wrong == nil || answer.Cut {
		return found, wrong.failure()
	}
	t.request.OnText = nil // what was published of the first answer cannot be taken back
	t.request.Messages = wrong.correct(t.request.Messages, answer.Text)
	answer, err := t.send(ctx)
	if err != nil {
		return nil, err
	}
	found, wrong = t.form.read(&answer)
	return found, wrong.failure()
}

func (t *talk) send(ctx context.Context) (llm.Answer, error) {
	t.asked++
	call := *t.call
	if t.asked > 1 {
		// A server that knows idempotency keys must not give the answer to the first request once more.
		call.Step += "/" + strconv.Itoa(t.asked)
	}
	answer, err := llm.Ask(ctx, t.network, &call, &t.endpoint, &t.request)
	t.usage = t.usage.Plus(answer.Usage)
	return answer, err
}
