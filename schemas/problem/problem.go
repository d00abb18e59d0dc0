// Package problem holds the machine-readable error codes and the error of the standard response. Over HTTP the same codes
// travel in problem details (RFC 9457).
package problem

import (
	"errors"
	"fmt"
)

// Code is a stable machine-readable reason.
type Code string

// Reasons for which a request is refused.
const (
	// InvalidRequest: the request is malformed; its details name every path.
	InvalidRequest Code = "INVALID_REQUEST"
	// InputInvalid: the input does not fit the recipe's input schema.
	InputInvalid Code = "INPUT_INVALID"
	// InvalidRecipe: the recipe document was refused at publication.
	InvalidRecipe Code = "INVALID_RECIPE"
	// Unauthenticated: no key, or one that is not known.
	Unauthenticated Code = "UNAUTHENTICATED"
	// Forbidden: the key may not do this.
	Forbidden Code = "FORBIDDEN"
	// NotFound: there is no such resource for this customer.
	NotFound Code = "NOT_FOUND"
	// Conflict: the resource exists already, or an idempotency key was used for another request.
	Conflict Code = "CONFLICT"
	// ExecutionEnded: the execution has ended, so nothing can be done to it any more.
	ExecutionEnded Code = "EXECUTION_ENDED"
	// PayloadTooLarge: the body or event is over the limit.
	PayloadTooLarge Code = "PAYLOAD_TOO_LARGE"
	// Unavailable: a dependency is down; the same request may succeed later.
	Unavailable Code = "UNAVAILABLE"
	// Internal: a defect of galley; details are in its log under the trace id.
	Internal Code = "INTERNAL"
)

// Reasons for which an execution or one of its steps failed.
const (
	// InsufficientCredits: the balance did not cover the quoted maximum; nothing was run or charged.
	InsufficientCredits Code = "INSUFFICIENT_CREDITS"
	// Timeout: a step, or the recipe as a whole, took longer than it may.
	Timeout Code = "TIMEOUT"
	// ComponentError: a component refused its input or could not do its work.
	ComponentError Code = "COMPONENT_ERROR"
	// Connection: the other side could not be reached.
	Connection Code = "CONNECTION"
	// AddressRefused: the guard against server-side request forgery refused the address.
	AddressRefused Code = "ADDRESS_REFUSED"
	// RateLimited: the other side answered 429.
	RateLimited Code = "RATE_LIMITED"
	// Upstream4xx: the other side refused the call (400 to 499, save 429).
	Upstream4xx Code = "UPSTREAM_4XX"
	// Upstream5xx: the other side failed (500 to 599).
	Upstream5xx Code = "UPSTREAM_5XX"
	// ExpressionError: an expression failed at run time.
	ExpressionError Code = "EXPRESSION_ERROR"
	// ExpressionLimit: an expression was stopped at its cost, size or time limit.
	ExpressionLimit Code = "EXPRESSION_LIMIT"
	// OutputInvalid: the result does not fit the recipe's output schema.
	OutputInvalid Code = "OUTPUT_INVALID"
	// StateTooLarge: state, outputs or response grew over the limit.
	StateTooLarge Code = "STATE_TOO_LARGE"
	// RecipeUnavailable: the pinned recipe version cannot be found.
	RecipeUnavailable Code = "RECIPE_UNAVAILABLE"
	// Cancelled: somebody ended the execution.
	Cancelled Code = "CANCELLED"
	// Rejected: somebody decided against what an approval asked for.
	Rejected Code = "REJECTED"
	// TooManyItems: a foreach was given more items than it may have.
	TooManyItems Code = "TOO_MANY_ITEMS"
	// TooDeep: an execution would run an execution more than eight levels deep.
	TooDeep Code = "TOO_DEEP"
	// ChildFailed: the execution that a step ran has failed.
	ChildFailed Code = "CHILD_FAILED"
	// SecretUnavailable: a secret that the step reads is not there.
	SecretUnavailable Code = "SECRET_UNAVAILABLE"
	// CircuitOpen: the other side has failed so often of late that it is not called for a while.
	CircuitOpen Code = "CIRCUIT_OPEN"
	// UpstreamRejected: the other side understood and refused: a mail server, a database, a language model.
	UpstreamRejected Code = "UPSTREAM_REJECTED"
	// ModelOutputInvalid: a language model did not answer in the form that was asked for, also not when it was told what is wrong.
	ModelOutputInvalid Code = "MODEL_OUTPUT_INVALID"
	// FileUnavailable: a file that the step refers to is not there.
	FileUnavailable Code = "FILE_UNAVAILABLE"
	// WorkerUnavailable: no worker of this name is there.
	WorkerUnavailable Code = "WORKER_UNAVAILABLE"
	// WorkerLost: a worker that had the call was not heard of any more.
	WorkerLost Code = "WORKER_LOST"
	// SubscriptionRequired: the customer's plan, features or balance are not what the step asks for.
	SubscriptionRequired Code = "SUBSCRIPTION_REQUIRED"
	// ChargeAboveMax: a step would charge more than its price allows.
	ChargeAboveMax Code = "CHARGE_ABOVE_MAX"
)

// Error is one error of the standard response. It never holds a stack trace, an internal address or a secret.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Step is the id of the step that failed, empty when the execution failed as a whole.
	Step string `json:"step,omitempty"`
	// Attempt is the try that failed last, from 1; 0 where no step was tried.
	Attempt int `json:"attempt,omitempty"`
	// Retryable tells that the same request may succeed later.
	Retryable bool `json:"retryable"`
}

// Error is "CODE: message".
func (e *Error) Error() string {
	return string(e.Code) + ": " + e.Message
}

// Failure is an error that would come again if the same were tried again.
func Failure(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Retryable is an error after which another attempt may succeed.
func Retryable(code Code, format string, args ...any) *Error {
	failure := Failure(code, format, args...)
	failure.Retryable = true
	return failure
}

// Public makes err one that a caller may see: an [*Error] in it stays as it is; anything else is UNAVAILABLE with the message, its cause
// for the log.
func Public(err error, message string) error {
	if _, public := errors.AsType[*Error](err); public {
		return err
	}
	return fmt.Errorf("%w: %w", &Error{Code: Unavailable, Message: message, Retryable: true}, err)
}

// Violation is one place of a document that breaks a rule.
type Violation struct {
	// Path is a JSON pointer (RFC 6901) into the document, "" for the whole of it.
	Path    string `json:"path"`
	Message string `json:"message"`
}
