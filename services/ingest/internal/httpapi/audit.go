package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/query"
)

func (a *API) registerAudit(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "list-audit-events", Method: http.MethodGet, Path: prefix + "/audit/events", Tags: []string{"audit"},
		Summary: "List audit events, newest first",
	}, nil, a.listAuditEvents)
}

type listAuditEventsInput struct {
	Scope
	Paging
	ExecutionID id `query:"execution_id"`
}

func (a *API) listAuditEvents(ctx context.Context, caller *caller, input *listAuditEventsInput) (*listOutput[query.AuditEvent], error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	before, err := before(&input.Paging)
	if err != nil {
		return nil, err
	}
	reply, err := bus.Ask[query.AuditEventsReply](ctx, a.bus, query.ServiceAudit, query.AuditEvents, query.AuditEventsRequest{
		CustomerID: customer, ResourceID: string(input.ExecutionID), Before: before, Limit: input.Limit,
	})
	if err != nil {
		return nil, err
	}
	return page(reply.Events, after(reply.Next))
}
