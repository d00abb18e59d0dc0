package workercall

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode"

	"github.com/galley-engine/galley/schemas/call"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

const (
	maxMessage = 1000
	maxCode    = 64
	// maxUsage keeps sums over many attempts and items within their type.
	maxUsage = 1_000_000_000_000
)

// answer reads the reply that ended the call.
func answer(data []byte) (component.Result, error) {
	var result component.Result
	if len(data) > call.MaxReply {
		return result, component.Failure(problem.StateTooLarge, "the worker's reply is larger than %d KiB", call.MaxReply>>10)
	}
	if !json.Valid(data) {
		return result, component.Failure(problem.ComponentError, "the worker's reply is not JSON")
	}
	var reply call.Reply
	if err := json.Unmarshal(data, &reply); err != nil || reply.Output == nil && reply.Error == nil {
		return result, component.Failure(problem.ComponentError,
			`the worker's reply is neither {"output": …} nor {"error": {"message": "…"}}, with whole numbers as "usage"`)
	}
	if !countable(reply.Usage) {
		return result, component.Failure(problem.ComponentError, "the worker's usage is not made of numbers from 0 to %d", maxUsage)
	}
	result.Usage = reply.Usage
	if reply.Error != nil {
		return result, failure(reply.Error)
	}
	if err := json.Unmarshal(reply.Output, &result.Output); err != nil {
		return result, component.Failure(problem.ComponentError, "the worker's output holds a number that is too large")
	}
	return result, nil
}

func countable(usage *event.Usage) bool {
	return usage == nil || !slices.ContainsFunc([]int64{usage.InputTokens, usage.OutputTokens, usage.Units}, func(n int64) bool {
		return n < 0 || n > maxUsage
	})
}

// failure is the worker's failure with a code that callers of galley know. The worker's own code begins the message.
func failure(failed *call.Failure) *problem.Error {
	code, message := problem.Code(failed.Code), clean(failed.Message, maxMessage)
	if message == "" {
		message = "the worker failed and does not say why"
	}
	if !slices.Contains(call.Codes(), code) {
		code = problem.ComponentError
		if own := clean(failed.Code, maxCode); own != "" {
			message = clean(own+": "+message, maxMessage)
		}
	}
	return &problem.Error{Code: code, Message: message, Retryable: failed.Retryable}
}

// clean makes text of at most so many characters, in one line without control characters.
func clean(text string, most int) string {
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r):
			return -1
		}
		return r
	}, text))
	for at := range text {
		if most == 0 {
			return text[:at]
		}
		most--
	}
	return text
}
