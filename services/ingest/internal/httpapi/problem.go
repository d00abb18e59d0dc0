package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"

	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

const problemType = "application/problem+json"

// Problem is the body of every refusal: problem details (RFC 9457) with a machine-readable code.
type Problem struct {
	Type   string `json:"type" format:"uri" doc:"Names the kind of problem; it has the code in it"`
	Title  string `json:"title" doc:"The kind of problem in words"`
	Status int    `json:"status" doc:"The HTTP status"`
	Detail string `json:"detail" doc:"What happened here"`
	Code   string `json:"code" doc:"The kind of problem for programs" example:"INSUFFICIENT_CREDITS"`
	// Retryable tells that the same request may succeed later.
	Retryable   bool    `json:"retryable" doc:"The same request may succeed later"`
	TraceID     string  `json:"trace_id,omitempty" doc:"Finds this request in galley's log"`
	ExecutionID string  `json:"execution_id,omitempty" doc:"The execution that was refused"`
	Errors      []Place `json:"errors,omitempty" doc:"Every place of the request that breaks a rule"`

	header http.Header
}

// Place is one place of a request that breaks a rule.
type Place struct {
	In      string `json:"in,omitempty" enum:"query,path,header" doc:"Where the place is; the body when it is absent"`
	Path    string `json:"path" doc:"A JSON pointer (RFC 6901) into the body, or /<name of the parameter>"`
	Message string `json:"message"`
	// The rest is given for recipe documents.
	Code   string `json:"code,omitempty" doc:"The kind of mistake in a recipe document"`
	Line   int    `json:"line,omitempty" doc:"The line of a recipe document, from 1"`
	Column int    `json:"column,omitempty" doc:"The column of a recipe document, from 1"`
}

// Error is "CODE: detail".
func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header { return p.header }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return problemType }

// newProblem is the only place where codes become HTTP statuses.
func newProblem(code problem.Code, detail string) *Problem {
	p := &Problem{
		Type: "urn:galley:problem:" + strings.ReplaceAll(strings.ToLower(string(code)), "_", "-"),
		Code: string(code), Detail: detail, Status: http.StatusInternalServerError, Title: "Internal error",
	}
	switch code { //nolint:exhaustive // the other codes are those of steps; they travel inside of a response
	case problem.InvalidRequest:
		p.Status, p.Title = http.StatusUnprocessableEntity, "Invalid request"
	case problem.InputInvalid:
		p.Status, p.Title = http.StatusUnprocessableEntity, "Input does not fit the recipe"
	case problem.InvalidRecipe:
		p.Status, p.Title = http.StatusUnprocessableEntity, "Invalid recipe"
	case problem.Unauthenticated:
		p.Status, p.Title = http.StatusUnauthorized, "Not authenticated"
		p.header = http.Header{}
		p.header.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="galley"`)
	case problem.Forbidden:
		p.Status, p.Title = http.StatusForbidden, "Not allowed"
	case problem.NotFound:
		p.Status, p.Title = http.StatusNotFound, "Not found"
	case problem.Conflict:
		p.Status, p.Title = http.StatusConflict, "Conflict"
	case problem.ExecutionEnded:
		p.Status, p.Title = http.StatusConflict, "Execution has ended"
	case problem.PayloadTooLarge:
		p.Status, p.Title = http.StatusRequestEntityTooLarge, "Too large"
	case problem.InsufficientCredits:
		p.Status, p.Title = http.StatusPaymentRequired, "Insufficient credits"
	case problem.Unavailable:
		p.Status, p.Title, p.Retryable = http.StatusServiceUnavailable, "Unavailable", true
		p.header = http.Header{}
		p.header.Set(fiber.HeaderRetryAfter, "1")
	}
	return p
}

// malformed is a request that cannot even be read.
func malformed(detail string) *Problem {
	p := newProblem(problem.InvalidRequest, detail)
	p.Status = http.StatusBadRequest
	return p
}

func invalid(places ...Place) *Problem {
	p := newProblem(problem.InvalidRequest, "the request breaks a rule")
	p.Errors = places
	return p
}

// describe makes every error a Problem. What is not meant for callers stays out of it.
func describe(err error) *Problem {
	if done, ok := errors.AsType[*Problem](err); ok {
		return done
	}
	known := &problem.Error{Code: problem.Internal, Message: "galley failed; its log says more under this trace id"}
	errors.As(err, &known)
	p := newProblem(known.Code, known.Message)
	if p.Retryable = known.Retryable; !p.Retryable {
		p.header.Del(fiber.HeaderRetryAfter)
	}
	p.Errors = places(err)
	return p
}

func places(err error) []Place {
	var found []Place
	add := func(violations []problem.Violation) {
		for _, violation := range violations {
			found = append(found, Place{Path: violation.Path, Message: violation.Message})
		}
	}
	var (
		input    *accept.InvalidInput
		field    *catalogue.InvalidError
		document *catalogue.RecipeError
	)
	switch {
	case errors.As(err, &input):
		add(input.Violations)
	case errors.As(err, &field):
		add(field.Violations)
	case errors.As(err, &document):
		for _, mistake := range document.Problems {
			found = append(found, Place{
				Path: mistake.Path, Message: mistake.Message, Code: string(mistake.Code), Line: mistake.Line, Column: mistake.Column,
			})
		}
	}
	return found
}

// unavailable is what a caller hears when the cause is that something could not be reached.
func unavailable(detail string, cause error) error {
	return errors.Join(newProblem(problem.Unavailable, detail), cause)
}

// ofFramework describes what Fiber refuses before a handler runs. Its own texts repeat parts of the request.
func ofFramework(err *fiber.Error) *Problem {
	switch err.Code {
	case http.StatusNotFound:
		return newProblem(problem.NotFound, "there is nothing at this path")
	case http.StatusRequestEntityTooLarge:
		return newProblem(problem.PayloadTooLarge, "the body is over the limit of 1 MiB")
	}
	p := newProblem(problem.InvalidRequest, "the request is not valid HTTP")
	p.Status, p.Title = err.Code, http.StatusText(err.Code)
	switch err.Code {
	case http.StatusMethodNotAllowed:
		p.Detail = "this path does not have that method"
	case http.StatusRequestHeaderFieldsTooLarge:
		p.Detail = "the headers are over the limit of 16 KiB"
	case http.StatusRequestTimeout:
		p.Detail = "the request did not arrive in time"
	}
	return p
}

// ofHuma is a huma.Transformer: it turns the errors that Huma makes itself, about parameters, into Problems. A transformer belongs
// to one API, unlike the variable huma.NewError.
func ofHuma(ctx huma.Context, _ string, body any) (any, error) {
	model, isError := body.(*huma.ErrorModel)
	if !isError {
		return body, nil
	}
	p := newProblem(problem.InvalidRequest, model.Detail)
	if model.Status >= http.StatusInternalServerError {
		p = newProblem(problem.Internal, "galley failed; its log says more under this trace id")
	} else if model.Status != http.StatusUnprocessableEntity {
		p.Title = http.StatusText(model.Status)
	}
	p.Status = model.Status
	for _, detail := range model.Errors {
		in, name, _ := strings.Cut(detail.Location, ".")
		p.Errors = append(p.Errors, Place{In: in, Path: "/" + name, Message: detail.Message})
	}
	p.TraceID = requestOf(ctx.Context()).traceID()
	return p, nil
}

// finish completes a Problem for its request and logs it when it is a failure of galley's.
func (a *API) finish(ctx context.Context, err error) *Problem {
	p := *problemOf(err)
	p.TraceID = requestOf(ctx).traceID()
	if p.Status >= http.StatusInternalServerError {
		a.failures.Error().Err(err).Str("trace", p.TraceID).Str("code", p.Code).Msg("request failed")
	}
	return &p
}
