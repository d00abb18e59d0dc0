package event

import (
	"strconv"
	"strings"

	"github.com/galley-engine/galley/schemas/problem"
)

// MaxSteps is the most bytes that the value of HeaderSteps has.
const MaxSteps = 2 << 10

const (
	// moreSteps is room for the end of a value that was cut short: ",+", a number, and " more".
	moreSteps = len(",+ more") + 19
	maxCode   = 64
)

// Steps is the value of HeaderSteps: "<step>=<status>" for each step, in the order of the document, with ":<code>" after one that
// failed, and with commas between them. What is over MaxSteps is counted at the end: "+<number> more". It is empty when no step has an
// outcome.
func (r *Response) Steps() string {
	steps := r.Metadata.Steps
	if len(steps) == 0 {
		return ""
	}
	text := make([]byte, 0, min(MaxSteps, len(steps)*32))
	for i := range steps {
		before := len(text)
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, steps[i].ID...)
		text = append(text, '=')
		text = append(text, steps[i].Status...)
		if code := r.codeOf(&steps[i]); code != "" {
			text = append(text, ':')
			text = append(text, code...)
		}
		limit := MaxSteps
		if i < len(steps)-1 {
			limit -= moreSteps
		}
		if len(text) > limit {
			text = text[:before]
			if i > 0 {
				text = append(text, ',')
			}
			text = append(text, '+')
			text = strconv.AppendInt(text, int64(len(steps)-i), 10)
			text = append(text, " more"...)
			break
		}
	}
	return string(text)
}

// codeOf is the code of a step's first error; empty for a step that has none, or one that a header cannot hold.
func (r *Response) codeOf(step *StepSummary) string {
	if step.Status != StepFailed && step.Status != StepPartial {
		return ""
	}
	for i := range r.Errors {
		if r.Errors[i].Step == step.ID {
			return headerCode(r.Errors[i].Code)
		}
	}
	return ""
}

func headerCode(code problem.Code) string {
	foreign := func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' }
	if len(code) > maxCode || strings.ContainsFunc(string(code), foreign) {
		return ""
	}
	return string(code)
}
