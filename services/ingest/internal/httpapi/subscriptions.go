package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	subscriptionPath = prefix + "/customers/{customer_id}/subscription"
	maxFeatures      = 100
)

func (a *API) registerSubscriptions(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "get-subscription", Method: http.MethodGet, Path: subscriptionPath, Tags: []string{"customers"},
		Summary:     "Get the customer's subscription",
		Description: "The status is none, with no plan, when the customer has never had one.",
	}, nil, a.getSubscription)
	register(a, routes, huma.Operation{
		OperationID: "set-subscription", Method: http.MethodPut, Path: subscriptionPath, Tags: []string{"customers"},
		Summary:     "Replace the customer's subscription (operator)",
		Description: "Recipes ask for it with `subscription.check`. Nothing is charged.",
	}, documented[SubscriptionBody](routes, "application/json"), a.setSubscription)
}

type getSubscriptionInput struct {
	CustomerID id `path:"customer_id"`
}

type subscriptionOutput struct{ Body query.SubscriptionReply }

func (a *API) getSubscription(ctx context.Context, caller *caller, input *getSubscriptionInput) (*subscriptionOutput, error) {
	customer, err := caller.actFor(string(input.CustomerID), Place{In: "path", Path: "/customer_id"})
	if err != nil {
		return nil, err
	}
	if err := a.catalogue.RequireCustomer(ctx, customer); err != nil {
		return nil, err
	}
	reply, err := bus.Ask[query.SubscriptionReply](ctx, a.bus, query.ServiceBilling, query.Subscription,
		query.SubscriptionRequest{CustomerID: customer})
	if err != nil {
		return nil, err
	}
	return &subscriptionOutput{Body: reply}, nil
}

// SubscriptionBody documents the body.
type SubscriptionBody struct {
	Plan     id     `json:"plan" doc:"The name of the plan"`
	Status   string `json:"status,omitempty" enum:"active,cancelled" default:"active"`
	Features []id   `json:"features,omitempty" maxItems:"100" doc:"The names of what the customer may use"`
}

type setSubscriptionInput struct {
	CustomerID id `path:"customer_id"`
	JSONBody
}

func (a *API) setSubscription(ctx context.Context, caller *caller, input *setSubscriptionInput) (*subscriptionOutput, error) {
	if err := caller.requireOperator(); err != nil {
		return nil, err
	}
	wanted := query.SubscribeRequest{
		CustomerID: string(input.CustomerID), Status: query.SubscriptionActive, Features: []string{}, Actor: caller.actor(),
	}
	err := input.decode(identifier("plan", &wanted.Plan), field{name: "status", into: &wanted.Status, must: "a string"},
		field{name: "features", into: &wanted.Features, must: "a list of strings"})
	if err != nil {
		return nil, err
	}
	if found := subscriptionPlaces(&wanted); len(found) > 0 {
		return nil, invalid(found...)
	}
	// Billing takes every customer for real.
	if err := a.catalogue.RequireCustomer(ctx, wanted.CustomerID); err != nil {
		return nil, err
	}
	reply, err := bus.Ask[query.SubscriptionReply](ctx, a.bus, query.ServiceBilling, query.Subscribe, wanted)
	if err != nil {
		return nil, err
	}
	return &subscriptionOutput{Body: reply}, nil
}

// subscriptionPlaces are those that break a rule.
func subscriptionPlaces(wanted *query.SubscribeRequest) (found []Place) {
	if !subject.ValidID(wanted.Plan) {
		found = append(found, Place{Path: "/plan", Message: subject.ErrInvalidID.Error()})
	}
	if wanted.Status != query.SubscriptionActive && wanted.Status != query.SubscriptionCancelled {
		found = append(found, Place{Path: "/status", Message: "must be active or cancelled"})
	}
	if len(wanted.Features) > maxFeatures {
		return append(found, Place{Path: "/features", Message: "must have at most 100 items"})
	}
	for i, feature := range wanted.Features {
		if !subject.ValidID(feature) {
			found = append(found, Place{Path: "/features/" + strconv.Itoa(i), Message: subject.ErrInvalidID.Error()})
		}
	}
	return found
}
