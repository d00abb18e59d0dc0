package queryapi

import (
	"context"
	"slices"

	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

const maxFeatures = 100

func (a *API) subscription(ctx context.Context, request query.SubscriptionRequest) (query.SubscriptionReply, error) {
	if !subject.ValidID(request.CustomerID) {
		return query.SubscriptionReply{}, invalidCustomer()
	}
	return a.subscriptions.Get(ctx, request.CustomerID)
}

func (a *API) subscribe(ctx context.Context, request query.SubscribeRequest) (query.SubscriptionReply, error) {
	switch {
	case !subject.ValidID(request.CustomerID):
		return query.SubscriptionReply{}, invalidCustomer()
	case !subject.ValidID(request.Plan):
		return query.SubscriptionReply{}, invalid("plan %v", subject.ErrInvalidID)
	case request.Status != query.SubscriptionActive && request.Status != query.SubscriptionCancelled:
		return query.SubscriptionReply{}, invalid("status must be active or cancelled")
	case len(request.Features) > maxFeatures:
		return query.SubscriptionReply{}, invalid("there may be at most %d features", maxFeatures)
	case slices.ContainsFunc(request.Features, func(feature string) bool { return !subject.ValidID(feature) }):
		return query.SubscriptionReply{}, invalid("each of the features %v", subject.ErrInvalidID)
	case request.Version < 0 || request.Anchor < 0:
		return query.SubscriptionReply{}, invalid("version and anchor_day must not be negative")
	case !isLine(request.Actor.String(), maxID):
		return query.SubscriptionReply{}, invalid("actor must be a line of at most %d bytes", maxID)
	}
	return a.subscriptions.Set(ctx, &request)
}

func (a *API) cancelSubscription(ctx context.Context, request query.CancelSubscriptionRequest) (query.SubscriptionReply, error) {
	switch {
	case !subject.ValidID(request.CustomerID):
		return query.SubscriptionReply{}, invalidCustomer()
	case !isLine(request.Actor.String(), maxID):
		return query.SubscriptionReply{}, invalid("actor must be a line of at most %d bytes", maxID)
	}
	return a.subscriptions.Cancel(ctx, &request)
}
