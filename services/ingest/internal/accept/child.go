package accept

import (
	"context"
	"errors"
	"fmt"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
)

// AnswerChildren serves the query by which executions run executions, until ctx ends.
func (a *Acceptor) AnswerChildren(ctx context.Context) error {
	return bus.Answer(ctx, a.bus, query.ServiceIngest, query.Start, a.startChild)
}

// startChild accepts an execution for a step of another one. The same key is the same execution, so an answer that gets lost is no harm.
func (a *Acceptor) startChild(ctx context.Context, request query.StartRequest) (query.StartReply, error) {
	outcome, err := a.Execute(ctx, Command{
		Customer: request.CustomerID, Agent: request.AgentID, Recipe: request.RecipeID, Version: request.Version, Input: request.Input,
		IdempotencyKey: "child:" + request.Key, Actor: request.Actor, Trace: request.TraceParent, Parent: &request.Parent,
	})
	if invalid, ok := errors.AsType[*InvalidInput](err); ok {
		refused := &problem.Error{Code: invalid.Code, Message: "the input of the execution is not valid"}
		if len(invalid.Violations) > 0 {
			refused.Message += fmt.Sprintf(": %s: %s", invalid.Violations[0].Path, invalid.Violations[0].Message)
		}
		return query.StartReply{}, refused
	}
	return query.StartReply{ExecutionID: outcome.ExecutionID}, err
}
