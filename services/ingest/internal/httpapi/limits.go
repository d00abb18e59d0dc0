package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

func (a *API) registerLimits(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "get-limits", Method: http.MethodGet, Path: prefix + "/customers/{customer_id}/limits", Tags: []string{"customers"},
		Summary: "Get the limits of the customer, those of the plan, and which hold",
	}, nil, a.getLimits)
	register(a, routes, huma.Operation{
		OperationID: "set-limits", Method: http.MethodPut, Path: prefix + "/customers/{customer_id}/limits", Tags: []string{"customers"},
		Summary: "Replace the customer's own limits (operator)",
		Description: "A limit of the customer's own holds, whatever the plan says; where it is null or absent, that of the plan does. Executions that are accepted afterwards have the new ones; " +
			"where the number of executions under way is limited, those that wait for their turn follow the newest.",
	}, documented[LimitsRequest](routes, "application/json"), a.setLimits)
}

// LimitsRequest documents the body.
type LimitsRequest struct {
	MaxConcurrency *int `json:"max_concurrency,omitempty" minimum:"1" maximum:"1000" doc:"How many executions may be under way at the same time"`
}

type setLimitsInput struct {
	CustomerID id `path:"customer_id"`
	JSONBody
}

type limitsOutput struct{ Body catalogue.CustomerLimits }

type getLimitsInput struct {
	CustomerID id `path:"customer_id"`
}

func (a *API) getLimits(ctx context.Context, caller *caller, input *getLimitsInput) (*limitsOutput, error) {
	customer, err := caller.actFor(string(input.CustomerID), Place{In: "path", Path: "/customer_id"})
	if err != nil {
		return nil, err
	}
	found, err := a.catalogue.Limits(ctx, customer)
	if err != nil {
		return nil, err
	}
	return &limitsOutput{Body: found}, nil
}

func (a *API) setLimits(ctx context.Context, caller *caller, input *setLimitsInput) (*limitsOutput, error) {
	if err := caller.requireOperator(); err != nil {
		return nil, err
	}
	var wanted catalogue.Limits
	if err := input.decode(field{name: "max_concurrency", into: &wanted.MaxConcurrency, must: "a whole number"}); err != nil {
		return nil, err
	}
	if err := a.catalogue.SetLimits(ctx, string(input.CustomerID), wanted, requestOf(ctx).author()); err != nil {
		return nil, err
	}
	return a.getLimits(ctx, caller, &getLimitsInput{CustomerID: input.CustomerID})
}
