package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/projection"
)

const executionsAway = "the executions cannot be read at the moment"

func (a *API) registerExecutions(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "list-executions", Method: http.MethodGet, Path: prefix + "/executions", Tags: []string{"executions"},
		Summary: "List executions, newest first",
		Description: "An execution appears here within about a second of its acceptance; by its id it is found at once, and what it waits for is " +
			"told there. A page of those that are `accepted`, `running` or `waiting` may have fewer items than its limit, or none, before the last.",
	}, nil, a.listExecutions)
	register(a, routes, huma.Operation{
		OperationID: "get-execution", Method: http.MethodGet, Path: prefix + "/executions/{execution_id}", Tags: []string{"executions"},
		Summary: "Get an execution",
		Description: "The standard response. With it, what an execution waits for and how it belongs to other executions, as long as the " +
			"journal has it.",
		Responses: response(http.StatusOK, "How the execution stands", documented[projection.Standing](routes, "application/json")),
	}, nil, a.getExecution)
}

type listExecutionsInput struct {
	Scope
	Paging
	RecipeID id     `query:"recipe_id"`
	Status   string `query:"status" enum:"accepted,running,waiting,success,partial,failed"`
}

func (a *API) listExecutions(ctx context.Context, caller *caller, input *listExecutionsInput) (*listOutput[projection.Execution], error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	after, err := cursor[projection.Cursor](&input.Paging)
	if err != nil {
		return nil, err
	}
	items, next, err := a.executions.List(ctx, projection.Filter{
		Customer: customer, Recipe: string(input.RecipeID), Status: event.Status(input.Status), After: after, Limit: input.Limit,
	})
	if err != nil {
		return nil, unavailable(executionsAway, err)
	}
	return page(items, next)
}

type getExecutionInput struct {
	Scope
	ExecutionID id `path:"execution_id"`
}

type rawOutput struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

func (a *API) getExecution(ctx context.Context, caller *caller, input *getExecutionInput) (*rawOutput, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	found, err := a.standing(ctx, subject.Execution{Customer: customer, ID: string(input.ExecutionID)})
	if err != nil {
		return nil, err
	}
	body, err := found.Body()
	if err != nil {
		return nil, err
	}
	return &rawOutput{ContentType: "application/json", Body: body}, nil
}
