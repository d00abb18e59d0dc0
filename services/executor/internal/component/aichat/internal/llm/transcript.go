package llm

import (
	"cmp"
	"encoding/json"
	"strings"

	"github.com/galley-engine/galley/schemas/event"
)

// finish is why a model stopped; empty while it has not.
type finish string

const (
	// finishStop: it had said everything, or came to a stop text.
	finishStop finish = "stop"
	// finishLength: it had no more tokens.
	finishLength finish = "length"
)

const (
	// bytesPerToken is what a token has in most texts.
	bytesPerToken = 4
	// maxTokens is more than any answer has: what a server reports is not trusted.
	maxTokens = 1 << 40
)

// transcript is what has come of an answer.
type transcript struct {
	request *Request
	text    strings.Builder
	model   string
	finish  finish
	// refused says that the model or a filter declined. ended says that nothing follows.
	refused, ended bool
	// input and output are what the server has counted, 0 where it did not.
	input, output count
}

// count is a number of tokens. Whatever stands in the place of a positive number is read as 0: not counted.
type count int64

// UnmarshalJSON implements json.Unmarshaler.
func (c *count) UnmarshalJSON(data []byte) error {
	var number float64
	*c = 0
	if json.Unmarshal(data, &number) == nil && number >= 1 {
		*c = count(min(number, maxTokens))
	}
	return nil
}

// add appends text of the model.
func (t *transcript) add(text string) error {
	if text == "" {
		return nil
	}
	if t.text.Len()+len(text) > MaxAnswer {
		return tooLarge()
	}
	t.text.WriteString(text)
	if t.request.OnText != nil {
		t.request.OnText(text)
	}
	return nil
}

func (t *transcript) answer() Answer {
	return Answer{Text: t.text.String(), Model: cmp.Or(t.model, t.request.Model), Cut: t.finish == finishLength, Usage: t.usage()}
}

// usage is what the server has counted. Where it did not, or the answer broke off before it did, it is estimated: a price for what is
// measured must not become none because a server does not count.
func (t *transcript) usage() *event.Usage {
	if t.finish == "" && !t.refused && t.text.Len() == 0 && t.input == 0 && t.output == 0 {
		return nil
	}
	usage := &event.Usage{InputTokens: int64(t.input), OutputTokens: int64(t.output)}
	if usage.InputTokens == 0 {
		usage.InputTokens = t.request.estimate()
	}
	if written := estimate(t.text.Len()); t.output == 0 || t.finish == "" {
		usage.OutputTokens = max(usage.OutputTokens, written)
	}
	return usage
}

func (r *Request) estimate() int64 {
	bytes := len(r.System)
	for _, message := range r.Messages {
		bytes += len(message.Content)
	}
	return estimate(bytes)
}

func estimate(bytes int) int64 {
	return int64((bytes + bytesPerToken - 1) / bytesPerToken)
}
