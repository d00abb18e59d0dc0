package recipe

import (
	"fmt"

	"github.com/galley-engine/galley/schemas/problem"
)

// EvalError is why a template could not be filled in. Its message may be shown to the customer. Another attempt would end the
// same way.
type EvalError struct {
	// Code is [problem.ExpressionError] (over these values the expression fails: a key that is not there, a type that does not
	// fit), [problem.ExpressionLimit] (it does more work, or builds a larger value, than it may), or [problem.TooManyItems].
	Code problem.Code
	// Path is the JSON pointer of the expression in the recipe document.
	Path    string
	Message string
}

// Error is the message with its place.
func (e *EvalError) Error() string {
	return fmt.Sprintf("%s: %s (%s)", e.Path, e.Message, e.Code)
}
