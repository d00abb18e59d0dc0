package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
)

const auditPath = prefix + "/audit"

func (a *API) registerAudit(routes huma.API) {
	tags := []string{"audit"}
	register(a, routes, huma.Operation{
		OperationID: "list-audit-events", Method: http.MethodGet, Path: auditPath + "/events", Tags: tags,
		Summary: "List audit events, newest first",
		Description: "The operator gets everybody's, and those of nobody, unless a customer is named. A page may have fewer items than the limit, " +
			"even none, and still have a `next_cursor`: so many events were looked at without more that fit, and the search goes on from there.",
	}, nil, a.listAuditEvents)
	register(a, routes, huma.Operation{
		OperationID: "get-audit-tree-head", Method: http.MethodGet, Path: auditPath + "/tree-head", Tags: tags,
		Summary:     "Get the newest signed tree head of the audit log",
		Description: "Who keeps it can prove later that nothing of the log was changed, with `/audit/consistency`.",
	}, nil, a.getTreeHead)
	register(a, routes, huma.Operation{
		OperationID: "get-audit-proof", Method: http.MethodGet, Path: auditPath + "/proof", Tags: tags,
		Summary: "Prove that an event is in the audit log",
		Description: "The leaf's hash and the path give the root of the signed tree head (RFC 6962, section 2.1.1). A new event is covered by " +
			"a tree head within about a second, which is waited for.",
	}, nil, a.getAuditProof)
	register(a, routes, huma.Operation{
		OperationID: "get-audit-consistency", Method: http.MethodGet, Path: auditPath + "/consistency", Tags: tags,
		Summary:     "Prove that the audit log of an older tree head is the beginning of a newer one",
		Description: "RFC 6962, section 2.1.2.",
	}, nil, a.getAuditConsistency)
	register(a, routes, huma.Operation{
		OperationID: "export-audit-log", Method: http.MethodGet, Path: auditPath + "/export", Tags: tags,
		Summary: "Export the audit log",
		Description: "Lines of JSON: the customer's leaves, the parts of the tree that lead from them to the root, and in the end the signed tree " +
			"head of the moment when the export began. Without that last line it broke off. The operator gets the whole log, unless a customer " +
			"is named. `galley audit verify --file` verifies it. It is recorded as `audit.exported`.",
		Responses: response(http.StatusOK, "The export, a line each", map[string]*huma.MediaType{
			lines: documented[audit.Line](routes, lines)[lines],
		}),
	}, nil, a.exportAudit)
}

// auditScope is whose rows a request is about: without a name, the operator's is about everybody's.
func auditScope(caller *caller, scope *Scope) (string, error) {
	if caller.operator && scope.CustomerID == "" {
		return audit.Everyone, nil
	}
	return scope.customer(caller)
}

type listAuditEventsInput struct {
	Scope
	Paging
	Nobody       bool      `query:"nobody" doc:"Only events that belong to no customer (operator)"`
	ExecutionID  id        `query:"execution_id" doc:"Short for this resource_id"`
	ActionType   string    `query:"action_type" maxLength:"256" doc:"What was done, <resource>.<verb>" example:"recipe.published"`
	ResourceType string    `query:"resource_type" maxLength:"256"`
	ResourceID   string    `query:"resource_id" maxLength:"256"`
	ActorType    string    `query:"actor_type" maxLength:"256" example:"api_key"`
	ActorID      string    `query:"actor_id" maxLength:"256"`
	Outcome      string    `query:"outcome" maxLength:"256" example:"failed"`
	From         time.Time `query:"from" doc:"The earliest time at which they were recorded, by recorded_at"`
	To           time.Time `query:"to" doc:"Until when they were recorded; the moment itself does not belong to it"`
}

func (i *listAuditEventsInput) read(caller *caller) (query.AuditEventsRequest, error) {
	asked := query.AuditEventsRequest{
		ActionType: i.ActionType, ResourceType: i.ResourceType, ResourceID: i.ResourceID, ActorType: i.ActorType, ActorID: i.ActorID,
		Outcome: i.Outcome, Limit: i.Limit,
	}
	var err error
	if asked.CustomerID, err = auditScope(caller, &i.Scope); err != nil {
		return asked, err
	}
	if i.Nobody {
		if err := caller.requireOperator(); err != nil {
			return asked, err
		}
		if i.CustomerID != "" {
			return asked, invalid(Place{In: "query", Path: "/nobody", Message: "must not be given together with customer_id"})
		}
		asked.CustomerID = query.AuditNobody
	}
	if i.ExecutionID != "" {
		if i.ResourceID != "" {
			return asked, invalid(Place{In: "query", Path: "/execution_id", Message: "must not be given together with resource_id"})
		}
		asked.ResourceID = string(i.ExecutionID)
	}
	if !i.From.IsZero() {
		asked.From = &i.From
	}
	if !i.To.IsZero() {
		asked.To = &i.To
	}
	if asked.From != nil && asked.To != nil && !asked.From.Before(*asked.To) {
		return asked, invalid(Place{In: "query", Path: "/to", Message: "must be after from"})
	}
	asked.Before, err = before(&i.Paging)
	return asked, err
}

func (a *API) listAuditEvents(ctx context.Context, caller *caller, input *listAuditEventsInput) (*listOutput[query.AuditEvent], error) {
	asked, err := input.read(caller)
	if err != nil {
		return nil, err
	}
	reply, err := bus.Ask[query.AuditEventsReply](ctx, a.bus, query.ServiceAudit, query.AuditEvents, asked)
	if err != nil {
		return nil, err
	}
	return page(reply.Events, after(reply.Next))
}

type treeHeadOutput struct{ Body query.AuditTreeHeadReply }

func (a *API) getTreeHead(ctx context.Context, _ *caller, _ *struct{}) (*treeHeadOutput, error) {
	reply, err := bus.Ask[query.AuditTreeHeadReply](ctx, a.bus, query.ServiceAudit, query.AuditTreeHead, query.AuditTreeHeadRequest{})
	if err != nil {
		return nil, err
	}
	return &treeHeadOutput{Body: reply}, nil
}

type auditProofInput struct {
	Scope
	EventID string `query:"event_id" required:"true" minLength:"1" maxLength:"200" example:"018f3a5e-0000-7000-8000-0000000000a1/completed"`
}

type auditProofOutput struct{ Body audit.Inclusion }

func (a *API) getAuditProof(ctx context.Context, caller *caller, input *auditProofInput) (*auditProofOutput, error) {
	customer, err := auditScope(caller, &input.Scope)
	if err != nil {
		return nil, err
	}
	reply, err := bus.Ask[audit.Inclusion](ctx, a.bus, query.ServiceAudit, query.AuditInclusion, query.AuditInclusionRequest{
		CustomerID: customer, EventID: input.EventID,
	})
	if err != nil {
		return nil, err
	}
	return &auditProofOutput{Body: reply}, nil
}

type auditConsistencyInput struct {
	From int64 `query:"from" required:"true" minimum:"1" doc:"The size of the older tree head"`
	To   int64 `query:"to" minimum:"1" doc:"The size of the newer one; the newest when absent"`
}

type auditConsistencyOutput struct{ Body audit.Consistency }

func (a *API) getAuditConsistency(ctx context.Context, _ *caller, input *auditConsistencyInput) (*auditConsistencyOutput, error) {
	if input.To != 0 && input.To < input.From {
		return nil, newProblem(problem.InvalidRequest, "to must not be before from")
	}
	reply, err := bus.Ask[audit.Consistency](ctx, a.bus, query.ServiceAudit, query.AuditConsistency, query.AuditConsistencyRequest{
		Older: input.From, Newer: input.To,
	})
	if err != nil {
		return nil, err
	}
	return &auditConsistencyOutput{Body: reply}, nil
}
