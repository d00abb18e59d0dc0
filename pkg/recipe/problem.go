package recipe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// ProblemCode is the machine-readable kind of a [Problem].
type ProblemCode string

// The kinds of problems that a document can have.
const (
	// CodeSyntax says that the document is not well-formed YAML or JSON.
	CodeSyntax ProblemCode = "SYNTAX"
	// CodeLimitExceeded says that the document is larger, deeper or longer than allowed.
	CodeLimitExceeded ProblemCode = "LIMIT_EXCEEDED"
	// CodeUnknownField says that a field does not exist at this place.
	CodeUnknownField ProblemCode = "UNKNOWN_FIELD"
	// CodeDuplicateKey says that a mapping holds the same key twice.
	CodeDuplicateKey ProblemCode = "DUPLICATE_KEY"
	// CodeMissingField says that a required field is not there.
	CodeMissingField ProblemCode = "MISSING_FIELD"
	// CodeWrongType says that a value is of another type than the field takes.
	CodeWrongType ProblemCode = "WRONG_TYPE"
	// CodeInvalidValue says that a value is of the right type but not allowed.
	CodeInvalidValue ProblemCode = "INVALID_VALUE"
	// CodeInvalidID says that an id does not match [A-Za-z0-9][A-Za-z0-9_-]{0,63}.
	CodeInvalidID ProblemCode = "INVALID_ID"
	// CodeDuplicateID says that two steps have the same id.
	CodeDuplicateID ProblemCode = "DUPLICATE_ID"
	// CodeUnknownKind says that no component of this kind exists.
	CodeUnknownKind ProblemCode = "UNKNOWN_KIND"
	// CodeInvalidDuration says that a value is not a duration such as 500ms, 30s or 1h30m, or out of range.
	CodeInvalidDuration ProblemCode = "INVALID_DURATION"
	// CodeInvalidPrice says that a value is not a decimal amount of credits from 0 with at most six places.
	CodeInvalidPrice ProblemCode = "INVALID_PRICE"
	// CodeInvalidSchema says that input or output is not a valid JSON Schema.
	CodeInvalidSchema ProblemCode = "INVALID_SCHEMA"
	// CodeInvalidTemplate says that a "${" has no matching "}".
	CodeInvalidTemplate ProblemCode = "INVALID_TEMPLATE"
	// CodeInvalidExpression says that an expression does not compile or has the wrong type for its place.
	CodeInvalidExpression ProblemCode = "INVALID_EXPRESSION"
	// CodeUnknownReference says that an expression reads a name that does not exist, or not yet, when its step runs.
	CodeUnknownReference ProblemCode = "UNKNOWN_REFERENCE"
	// CodePriceAboveMax says that the quoted maximum price is above max_credits.
	CodePriceAboveMax ProblemCode = "PRICE_ABOVE_MAX"
)

// Problem is one thing that is wrong with a document.
type Problem struct {
	Code ProblemCode `json:"code"`
	// Path is a JSON pointer into the document, such as /spec/steps/1/with/url; empty for the document itself.
	Path string `json:"path"`
	// Line and Column count from 1; 0 where they are not known.
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
}

// String is the problem as a compiler would print it, on one line.
func (p Problem) String() string {
	path := p.Path
	if path == "" {
		path = "/"
	}
	return fmt.Sprintf("%d:%d: %s: %s (%s)", p.Line, p.Column, path, p.Message, p.Code)
}

// Problems is the error of [Compiler.Load]: everything that is wrong with a document, in the order of
// its lines. At most [MaxProblems] are kept.
type Problems []Problem

// Error lists the problems, one a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// err sorts, bounds and returns the problems, or nil when there are none.
func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), strings.Compare(a.Path, b.Path))
	})
	return p[:min(len(p), MaxProblems)]
}

// pointer appends a reference token to a JSON pointer (RFC 6901).
func pointer(path, token string) string {
	token = strings.ReplaceAll(token, "~", "~0")
	return path + "/" + strings.ReplaceAll(token, "/", "~1")
}
