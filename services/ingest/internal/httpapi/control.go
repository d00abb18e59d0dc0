package httpapi

import (
	"bytes"
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/control"
)

const ofExecution = prefix + "/executions/{execution_id}"

func (a *API) registerControl(routes huma.API) {
	tags := []string{"executions"}
	register(a, routes, huma.Operation{
		OperationID: "cancel-execution", Method: http.MethodPost, Path: ofExecution + "/cancel", Tags: tags,
		Summary: "Cancel an execution",
		Description: "Ends it wherever it is, and the executions that its steps wait for; only what was measured is charged. One that has ended is a 409 " +
			"with the code EXECUTION_ENDED.",
		Responses: response(http.StatusOK, "The execution was cancelled", documented[event.Response](routes, "application/json")),
	}, documented[CancelRequest](routes, "application/json"), a.cancel)
	a.registerSuccessor(routes, huma.Operation{
		OperationID: "resume-execution", Path: ofExecution + "/resume", Summary: "Go on from where an execution failed",
		Description: "Makes a new execution that keeps everything that was done and begins at the step that failed. An execution that has " +
			"not failed, or that the version of the recipe does not fit, is a 409.",
	}, documented[ResumeRequest](routes, "application/json"), a.resume)
	a.registerSuccessor(routes, huma.Operation{
		OperationID: "rerun-execution", Path: ofExecution + "/rerun", Summary: "Repeat an execution, as a whole or from a step on",
		Description: "Makes a new execution with the same input. With from_step, it keeps what was done before that step. An execution that " +
			"has not ended, or that the version of the recipe does not fit, is a 409.",
	}, documented[RerunRequest](routes, "application/json"), a.rerun)
	register(a, routes, huma.Operation{
		OperationID: "signal-execution", Method: http.MethodPost, Path: ofExecution + "/signals/{name}", Tags: tags,
		Summary: "Give an execution an event",
		Description: "The body is any JSON of at most 64 KiB. The event may come before a step waits for it. The same event again changes " +
			"nothing, other data for its name is a 409.",
		DefaultStatus: http.StatusAccepted,
	}, documented[any](routes, "application/json"), a.signal)
	register(a, routes, huma.Operation{
		OperationID: "decide-approval", Method: http.MethodPost, Path: ofExecution + "/approvals/{step}", Tags: tags,
		Summary:       "Decide about an approval",
		Description:   "The step is <step>.<index> for an item of a foreach. The same decision again changes nothing, another one is a 409.",
		DefaultStatus: http.StatusAccepted,
	}, documented[DecisionRequest](routes, "application/json"), a.decide)
	for _, verb := range []string{"/cancel", "/resume", "/rerun"} {
		routes.OpenAPI().Paths[ofExecution+verb].Post.RequestBody.Required = false
	}
}

// CancelRequest documents the body.
type CancelRequest struct {
	Reason string `json:"reason,omitempty" maxLength:"500" doc:"Why, for the response and the audit log"`
}

// ResumeRequest documents the body.
type ResumeRequest struct {
	Version int `json:"version,omitempty" minimum:"1" doc:"The version that the execution ran when absent"`
}

// RerunRequest documents the body.
type RerunRequest struct {
	Version  int `json:"version,omitempty" minimum:"1" doc:"The version that the execution ran when absent"`
	FromStep id  `json:"from_step,omitempty" doc:"Where to begin; the first step when absent"`
}

// DecisionRequest documents the body.
type DecisionRequest struct {
	Approved bool   `json:"approved"`
	Comment  string `json:"comment,omitempty" maxLength:"500"`
}

// Target is the execution that a request is about.
type Target struct {
	Scope
	ExecutionID id `path:"execution_id"`
}

func (t *Target) execution(c *caller) (subject.Execution, error) {
	customer, err := t.customer(c)
	return subject.Execution{Customer: customer, ID: string(t.ExecutionID)}, err
}

// optional reads a body that may be left out.
func (b *JSONBody) optional(fields ...field) error {
	if len(bytes.TrimSpace(b.RawBody)) == 0 {
		return nil
	}
	return b.decode(fields...)
}

type cancelInput struct {
	Target
	JSONBody
}

func (a *API) cancel(ctx context.Context, caller *caller, input *cancelInput) (*rawOutput, error) {
	execution, err := input.execution(caller)
	if err != nil {
		return nil, err
	}
	var reason string
	if err := input.optional(text("reason", &reason)); err != nil {
		return nil, err
	}
	body, err := a.control.Cancel(ctx, execution, reason, requestOf(ctx).author())
	if err != nil {
		return nil, err
	}
	return &rawOutput{ContentType: "application/json", Body: body}, nil
}

// registerSuccessor adds an operation that makes an execution out of another one.
func (a *API) registerSuccessor(
	routes huma.API, operation huma.Operation, body map[string]*huma.MediaType,
	handle func(ctx context.Context, caller *caller, input *successorInput) (*executeOutput, error),
) {
	operation.Method, operation.Tags = http.MethodPost, []string{"executions"}
	operation.Description += " Answers like the execution of a recipe."
	register(a, routes, executing(routes, operation), body, handle)
}

type successorInput struct {
	Target
	Asking
}

func (a *API) resume(ctx context.Context, caller *caller, input *successorInput) (*executeOutput, error) {
	wish := control.Wish{Verb: event.VerbResume}
	if err := input.optional(version(&wish.Version)); err != nil {
		return nil, err
	}
	return a.successor(ctx, caller, input, wish)
}

func (a *API) rerun(ctx context.Context, caller *caller, input *successorInput) (*executeOutput, error) {
	wish := control.Wish{Verb: event.VerbRerun}
	if err := input.optional(version(&wish.Version), text("from_step", &wish.Step)); err != nil {
		return nil, err
	}
	if wish.Step != "" {
		wish.Verb = event.VerbRerunFrom
	}
	return a.successor(ctx, caller, input, wish)
}

func version(into *int) field {
	return field{name: "version", into: into, must: "a whole number"}
}

func (a *API) successor(ctx context.Context, caller *caller, input *successorInput, wish control.Wish) (*executeOutput, error) {
	if wish.Version < 0 {
		return nil, invalid(Place{Path: "/version", Message: "must not be negative"})
	}
	execution, err := input.execution(caller)
	if err != nil {
		return nil, err
	}
	command, err := a.control.Successor(ctx, execution, wish)
	if err != nil {
		return nil, err
	}
	author := requestOf(ctx).author()
	command.Accepted = func(successor subject.Execution) { a.control.Followed(ctx, execution, successor, wish, author) }
	return a.ask(ctx, caller, &command, &input.Asking)
}

type signalInput struct {
	Target
	Name id `path:"name"`
	JSONBody
}

// acceptedOutput is the answer where there is nothing to tell.
type acceptedOutput struct{}

func (a *API) signal(ctx context.Context, caller *caller, input *signalInput) (*acceptedOutput, error) {
	execution, err := input.execution(caller)
	if err != nil {
		return nil, err
	}
	if err := input.checkType("application/json"); err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(input.RawBody)) == 0 {
		return nil, malformed("the body is empty")
	}
	return &acceptedOutput{}, a.control.Signal(ctx, execution, string(input.Name), input.RawBody, requestOf(ctx).author())
}

type decideInput struct {
	Target
	Step string `path:"step" pattern:"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}(\\.[0-9]{1,4})?$" doc:"The id of the step; <step>.<index> for an item of a foreach"`
	JSONBody
}

func (a *API) decide(ctx context.Context, caller *caller, input *decideInput) (*acceptedOutput, error) {
	execution, err := input.execution(caller)
	if err != nil {
		return nil, err
	}
	var approved bool
	var comment string
	err = input.decode(field{name: "approved", required: true, into: &approved, must: "true or false"}, text("comment", &comment))
	if err != nil {
		return nil, err
	}
	return &acceptedOutput{}, a.control.Decide(ctx, execution, input.Step, approved, comment, requestOf(ctx).author())
}
