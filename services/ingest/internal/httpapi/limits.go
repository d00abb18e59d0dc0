package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

func (a *API) registerLimits(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "set-limits", Method: http.MethodPut, Path: prefix + "/customers/{customer_id}/limits", Tags: []string{"customers"},
		Summary: "Replace the customer's limits (operator)",
		Description: "A limit that is null or absent is none. Executions that are accepted afterwards have the new ones; " +
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

type limitsOutput struct{ Body catalogue.Limits }

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
	return &limitsOutput{Body: wanted}, nil
}
