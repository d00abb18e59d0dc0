package recipe

import (
	"context"
	"fmt"
	"maps"
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
	// Steps are all steps, in the order of the document. Stages says how they run.
	Steps  []*Step
	Stages []Stage
	// Timeout bounds an execution.
	Timeout time.Duration
	// Concurrency is how many executions of the recipe, all versions together, may be under way at the same time, 0 for no limit.
	Concurrency int
	// CreditWait is how long an execution waits for credits that it is short of, 0 when it fails at once. With Timeout it is at most
	// MaxTimeout.
	CreditWait time.Duration
	// Result is the template of the response's data; nil when the document has none: then it is the final state, or the last
	// step's output where no state was written.
	Result *Template
	// VarsUsed names the customer settings that the expressions read, sorted.
	VarsUsed []string

	input, output *Schema
	canonical     []byte
	indexes       map[string]int
}

// Step finds a step by its id; nil when there is none.
func (r *Recipe) Step(id string) *Step {
	if i, found := r.indexes[id]; found {
		return r.Steps[i]
	}
	return nil
}

// Stage is one entry of a list of steps: a single step, or branches that run at the same time.
type Stage struct {
	// Step is nil for branches.
	Step *Step
	// Branches are lists of stages. What comes after them begins when all of them have ended.
	Branches [][]Stage
}

// ForEach runs a step once for each item of a list.
type ForEach struct {
	// Name is what expressions call the item; its index, from 0, is index.
	Name string
	// MaxItems bounds the list, MaxParallel how many items are under way at the same time.
	MaxItems    int
	MaxParallel int

	in *expression
}

// Items evaluates the list. Its errors are those of [Template.Eval], with code TOO_MANY_ITEMS for one that is too long.
func (f *ForEach) Items(ctx context.Context, scope *Scope) ([]any, error) {
	value, err := f.in.eval(&evaluation{ctx: ctx, scope: scope})
	if err != nil {
		return nil, err
	}
	items, ok := value.([]any)
	switch {
	case !ok:
		return nil, f.in.fail(problem.ExpressionError, "a foreach goes over a list")
	case len(items) > f.MaxItems:
		return nil, f.in.fail(problem.TooManyItems, fmt.Sprintf("there are %d items, max_items allows %d", len(items), f.MaxItems))
	}
	return items, nil
}

// Step is one compiled step.
type Step struct {
	ID string
	// Index is the step's place in Recipe.Steps.
	Index int
	Kind  Kind
	// With is the template of the component's input, which is an object.
	With *Template
	// Timeout bounds one attempt.
	Timeout time.Duration
	Retry   Retry
	OnError OnError
	Price   Price
	// Checkpoint asks for a durable outcome before the next step begins: the step has an effect outside the process, or its
	// author wants one.
	Checkpoint bool
	// ForEach is nil for a step that runs once. The condition is evaluated once, without an item.
	ForEach *ForEach
	// SecretsUsed names the secrets that With reads, sorted. They must be in the scope when With is evaluated.
	SecretsUsed []string

	condition *expression
	component *Component
}

// Effect tells whether the step does, or reads, something outside the process.
func (s *Step) Effect() bool { return s.component != nil && s.component.Effect }

// Waits tells whether the step waits for something that takes its time.
func (s *Step) Waits() bool { return s.component != nil && s.component.Waits }

// Charges tells whether the step exists to be paid for.
func (s *Step) Charges() bool { return s.component != nil && s.component.Charges }

// Input evaluates With, as [Template.Eval] does, and checks what the expressions have made against the schema of the step's kind: that
// error is [Violations]. Where the schema says which fields there are, one that is null is left out, so that an expression can say
// whether there is one.
func (s *Step) Input(ctx context.Context, scope *Scope) (any, error) {
	with, err := s.With.Eval(ctx, scope)
	if _, fixed := s.With.root.(constant); fixed || err != nil || s.component == nil {
		return with, err
	}
	if fields, ok := with.(map[string]any); ok && s.component.closed {
		with = withoutNull(fields)
	}
	return with, s.component.schema.Validate(with)
}

func withoutNull(fields map[string]any) map[string]any {
	for _, value := range fields {
		if value == nil {
			fields = maps.Clone(fields)
			maps.DeleteFunc(fields, func(_ string, value any) bool { return value == nil })
			break
		}
	}
	return fields
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

// Quote is the maximum price of an execution: the sum of the prices of the steps, that of a foreach as often as it may have items.
func (r *Recipe) Quote() credit.Micro {
	var sum credit.Micro
	for _, step := range r.Steps {
		sum += step.Quote()
	}
	return sum
}

// Quote is the most that the step can cost, with all the items that it may have.
func (s *Step) Quote() credit.Micro {
	if s.ForEach != nil {
		return s.Price.Quote() * credit.Micro(s.ForEach.MaxItems)
	}
	return s.Price.Quote()
}

// Canonical is the document as JSON in one fixed form: no white space, keys in the order of their bytes, numbers in their
// shortest form. Two documents with the same canonical form are the same recipe, whether they were written as YAML or as JSON,
// with or without comments. It loads as the same recipe again.
func (r *Recipe) Canonical() []byte {
	return r.canonical
}

// ValidateInput checks the input of an execution against the recipe's input schema. The error is [Violations].
func (r *Recipe) ValidateInput(input any) error {
	return r.input.Validate(input)
}

// ValidateOutput checks the result of an execution against the recipe's output schema. The error is [Violations].
func (r *Recipe) ValidateOutput(output any) error {
	return r.output.Validate(output)
}
