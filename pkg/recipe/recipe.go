package recipe

import (
	"context"
	"time"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/problem"
)

// OnError says what a failed step means for the execution.
type OnError string

const (
	// OnErrorFail ends the execution as failed. It is the default.
	OnErrorFail OnError = "fail"
	// OnErrorContinue goes on with the next step; the execution ends as partial at best.
	OnErrorContinue OnError = "continue"
)

// Recipe is a compiled document. It is immutable, also its slices, and safe for concurrent use.
type Recipe struct {
	Agent       string
	ID          string
	Description string
	// Steps run in this order.
	Steps []*Step
	// Timeout bounds an execution.
	Timeout time.Duration
	// Result is the template of the response's data; nil when the document has none: then it is the final state, or the last
	// step's output where no state was written.
	Result *Template
	// VarsUsed names the customer settings that the expressions read, sorted.
	VarsUsed []string

	input, output *schema
	canonical     []byte
}

// Step is one compiled step.
type Step struct {
	ID   string
	Kind Kind
	// With is the template of the component's input, which is an object.
	With *Template
	// Timeout bounds one attempt.
	Timeout time.Duration
	Retry   Retry
	OnError OnError
	Price   credit.Micro
	// Checkpoint asks for a durable outcome before the next step begins: the step has an effect outside the process, or its
	// author wants one.
	Checkpoint bool

	condition *expression
}

// ShouldRun evaluates the step's if; a step without one always runs. The errors are those of [Template.Eval].
func (s *Step) ShouldRun(ctx context.Context, scope *Scope) (bool, error) {
	if s.condition == nil {
		return true, nil
	}
	value, err := s.condition.eval(&evaluation{ctx: ctx, scope: scope})
	if err != nil {
		return false, err
	}
	truth, ok := value.(bool)
	if !ok {
		return false, s.condition.fail(problem.ExpressionError, "a condition must be true or false")
	}
	return truth, nil
}

// Quote is the maximum price of an execution: the sum of the prices of the steps.
func (r *Recipe) Quote() credit.Micro {
	var sum credit.Micro
	for _, step := range r.Steps {
		sum += step.Price
	}
	return sum
}

// Canonical is the document as JSON in one fixed form: no white space, keys in the order of their bytes, numbers in their
// shortest form. Two documents with the same canonical form are the same recipe, whether they were written as YAML or as JSON,
// with or without comments. It loads as the same recipe again.
func (r *Recipe) Canonical() []byte {
	return r.canonical
}

// ValidateInput checks the input of an execution against the recipe's input schema. The error is [Violations].
func (r *Recipe) ValidateInput(input any) error {
	return r.input.validate(input)
}

// ValidateOutput checks the result of an execution against the recipe's output schema. The error is [Violations].
func (r *Recipe) ValidateOutput(output any) error {
	return r.output.validate(output)
}
