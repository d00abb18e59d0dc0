package queryapi

import (
	"context"

	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

func (a *API) publishPlan(ctx context.Context, request query.PublishPlanRequest) (query.PublishPlanReply, error) {
	switch found := request.Violations(); {
	case !subject.ValidID(request.PlanID):
		return query.PublishPlanReply{}, invalid("plan_id %v", subject.ErrInvalidID)
	case request.Version < 0:
		return query.PublishPlanReply{}, invalid("version must not be negative")
	case len(found) > 0:
		return query.PublishPlanReply{}, invalid("%s %s", found[0].Path, found[0].Message)
	case !isLine(request.Actor.String(), maxID):
		return query.PublishPlanReply{}, invalid("actor must be a line of at most %d bytes", maxID)
	}
	return a.catalogue.Publish(ctx, &request)
}

func (a *API) plans(ctx context.Context, request query.PlansRequest) (query.PlansReply, error) {
	if request.Limit < 1 || request.Limit > maxPage {
		return query.PlansReply{}, invalid("limit must be 1 to %d", maxPage)
	}
	return a.catalogue.List(ctx, &request)
}

func (a *API) plan(ctx context.Context, request query.PlanRequest) (query.Plan, error) {
	switch {
	case !subject.ValidID(request.PlanID):
		return query.Plan{}, invalid("plan_id %v", subject.ErrInvalidID)
	case request.Version < 0:
		return query.Plan{}, invalid("version must not be negative")
	}
	return a.catalogue.Get(ctx, request.PlanID, request.Version)
}

func (a *API) retirePlan(ctx context.Context, request query.RetirePlanRequest) (query.Plan, error) {
	switch {
	case !subject.ValidID(request.PlanID):
		return query.Plan{}, invalid("plan_id %v", subject.ErrInvalidID)
	case !isLine(request.Actor.String(), maxID):
		return query.Plan{}, invalid("actor must be a line of at most %d bytes", maxID)
	}
	return a.catalogue.Retire(ctx, &request)
}
