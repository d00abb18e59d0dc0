package recipe

import (
	"context"
	"errors"
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"github.com/galley-engine/galley/schemas/problem"
)

// The bounds of one evaluation. They are far above what a recipe needs: a thousand records filtered, sorted and mapped cost
// about 30,000 units.
const (
	// maxCost is in CEL's cost units, roughly one for each operation and one for every ten bytes that it touches. Spending all of
	// them takes tenths of a second at most.
	maxCost = 1_000_000
	// maxResultBytes bounds a text that an expression builds, and its result, roughly as JSON.
	maxResultBytes = 1 << 20
	// interruptEvery is the number of loop turns between two looks at the context.
	interruptEvery = 100
)

// evaluation is one filling in of a template. Its expressions share one limit.
type evaluation struct {
	ctx   context.Context //nolint:containedctx // lives no longer than the call of Template.Eval that got it
	scope *Scope
	// spent is in units of cost.
	spent uint64
}

// expression is one compiled "${…}".
type expression struct {
	source  string
	path    string
	program cel.Program
	loops   bool
	// secret says that the expression reads secrets, so that what CEL has to say about a value must not be passed on.
	secret bool
}

func (x *expression) eval(e *evaluation) (any, error) {
	if e.ctx.Err() != nil {
		return nil, fmt.Errorf("evaluate %s: %w", x.path, context.Cause(e.ctx))
	}
	value, details, err := x.run(e)
	if err != nil {
		return nil, x.failure(e.ctx, err)
	}
	native, cost, err := toNative(value)
	if err != nil {
		return nil, x.failure(e.ctx, err)
	}
	if e.spent += *details.ActualCost() + cost; e.spent > maxCost {
		return nil, x.fail(problem.ExpressionLimit, "the expressions here take too much work together")
	}
	return native, nil
}

// run looks at the context only where there is a loop: between the turns of loops is the only place where CEL does, and it
// costs as much as a small expression.
func (x *expression) run(e *evaluation) (ref.Val, *cel.EvalDetails, error) {
	if x.loops {
		return x.program.ContextEval(e.ctx, (*activation)(e.scope))
	}
	return x.program.Eval((*activation)(e.scope))
}

func (x *expression) failure(ctx context.Context, err error) error {
	var cancelled interpreter.EvalCancelledError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("evaluate %s: %w", x.path, context.Cause(ctx))
	case errors.Is(err, errTooLarge):
		return x.fail(problem.ExpressionLimit, "the value is too large")
	case errors.As(err, &cancelled):
		return x.fail(problem.ExpressionLimit, "the expression takes too much work")
	case x.secret:
		return x.fail(problem.ExpressionError, "fails over these values; no more is said because it reads secrets")
	}
	return x.fail(problem.ExpressionError, err.Error())
}

func (x *expression) fail(code problem.Code, message string) error {
	return &EvalError{Code: code, Path: x.path, Message: x.describe(message)}
}

// describe puts the beginning of the expression in front of a message about it.
func (x *expression) describe(message string) string {
	return "${" + cut(x.source, 120) + "}: " + cut(message, 300)
}
