package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

func (a *API) registerAgents(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "create-agent", Method: http.MethodPost, Path: prefix + "/agents", Tags: []string{"agents"},
		Summary: "Create an agent", DefaultStatus: http.StatusCreated,
	}, documented[AgentRequest](routes, "application/json"), a.createAgent)
	register(a, routes, huma.Operation{
		OperationID: "list-agents", Method: http.MethodGet, Path: prefix + "/agents", Tags: []string{"agents"},
		Summary: "List agents",
	}, nil, a.listAgents)
}

// AgentRequest documents the body.
type AgentRequest struct {
	CustomerID  id     `json:"customer_id,omitempty" doc:"Needed by the operator only"`
	AgentID     id     `json:"agent_id"`
	Name        string `json:"name,omitempty" maxLength:"200"`
	Description string `json:"description,omitempty" maxLength:"2000"`
}

type agentOutput struct{ Body catalogue.Agent }

func (a *API) createAgent(ctx context.Context, caller *caller, input *JSONBody) (*agentOutput, error) {
	var agent catalogue.Agent
	err := input.decode(identifier("agent_id", &agent.AgentID), text("customer_id", &agent.CustomerID),
		text("name", &agent.Name), text("description", &agent.Description))
	if err != nil {
		return nil, err
	}
	if agent.CustomerID, err = caller.actFor(agent.CustomerID, Place{Path: "/customer_id"}); err != nil {
		return nil, err
	}
	made, err := a.catalogue.CreateAgent(ctx, agent, requestOf(ctx).author())
	if err != nil {
		return nil, err
	}
	return &agentOutput{Body: made}, nil
}

type listAgentsInput struct {
	Scope
	Paging
}

func (a *API) listAgents(ctx context.Context, caller *caller, input *listAgentsInput) (*listOutput[catalogue.Agent], error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	after, err := cursor[string](&input.Paging)
	if err != nil {
		return nil, err
	}
	from := ""
	if after != nil {
		from = *after
	}
	items, more, err := a.catalogue.Agents(ctx, customer, from, input.Limit)
	if err != nil {
		return nil, err
	}
	var next *string
	if more {
		next = &items[len(items)-1].AgentID
	}
	return page(items, next)
}
