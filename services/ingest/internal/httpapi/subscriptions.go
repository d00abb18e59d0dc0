package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	subscriptionPath = prefix + "/customers/{customer_id}/subscription"
	maxFeatures      = 100
	maxAnchor        = 31
)

func (a *API) registerSubscriptions(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "get-subscription", Method: http.MethodGet, Path: subscriptionPath, Tags: []string{"customers"},
		Summary:     "Get the customer's subscription",
		Description: "The status is none, with no plan, when the customer has never had one.",
	}, nil, a.getSubscription)
	register(a, routes, huma.Operation{
		OperationID: "set-subscription", Method: http.MethodPut, Path: subscriptionPath, Tags: []string{"customers"},
		Summary: "Replace the customer's subscription (operator)",
		Description: "A published plan is subscribed to: its credits are granted now and at the start of each period. A customer who has another plan " +
			"changes to this one, at once where it has as many credits a month or more, which are granted for the rest of the period; else at the end of " +
			"the period. The plan that the customer has withdraws a change or cancellation that is to come. A plan that is not published is a note, from " +
			"which nothing follows. Recipes ask for the subscription with `subscription.check`.",
	}, documented[SubscriptionBody](routes, "application/json"), a.setSubscription)
	register(a, routes, huma.Operation{
		OperationID: "cancel-subscription", Method: http.MethodPost, Path: subscriptionPath + "/cancel", Tags: []string{"customers"},
		Summary: "Cancel the customer's subscription (operator)",
		Description: "It ends with its period, and its credits stay until they expire; or it ends at once, and what is left of the credits of the " +
			"period expires now. A note ends at once.",
	}, documented[CancelSubscriptionBody](routes, "application/json"), a.cancelSubscription)
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
	Plan     id         `json:"plan" doc:"The name of the plan"`
	Status   string     `json:"status,omitempty" enum:"active,cancelled" default:"active" doc:"cancelled is for a plan that is not published"`
	Features []id       `json:"features,omitempty" maxItems:"100" doc:"The names of what the customer may use, for a plan that is not published"`
	Version  int        `json:"version,omitempty" minimum:"1" doc:"The version of a published plan; the newest when absent"`
	Start    *time.Time `json:"start,omitempty" doc:"When the first period begins, not in the future; now when absent"`
	Anchor   int        `json:"anchor_day,omitempty" minimum:"1" maximum:"31" doc:"The day of the month on which periods begin, or the last one of a shorter month; that of the start when absent"`
	TimeZone string     `json:"time_zone,omitempty" doc:"The IANA name of the time zone in which days begin; UTC when absent"`
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
		field{name: "features", into: &wanted.Features, must: "a list of strings"},
		field{name: "version", into: &wanted.Version, must: "a whole number"},
		field{name: "start", into: &wanted.Start, must: "a time as in RFC 3339"},
		field{name: "anchor_day", into: &wanted.Anchor, must: "a whole number"}, text("time_zone", &wanted.TimeZone))
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
	if wanted.Version < 0 {
		found = append(found, Place{Path: "/version", Message: "must be at least 1"})
	}
	if wanted.Anchor < 0 || wanted.Anchor > maxAnchor {
		found = append(found, Place{Path: "/anchor_day", Message: "must be 1 to 31"})
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

// CancelSubscriptionBody documents the body.
type CancelSubscriptionBody struct {
	At string `json:"at,omitempty" enum:"period_end,now" default:"period_end"`
}

type cancelSubscriptionInput struct {
	CustomerID id `path:"customer_id"`
	JSONBody
}

func (a *API) cancelSubscription(ctx context.Context, caller *caller, input *cancelSubscriptionInput) (*subscriptionOutput, error) {
	if err := caller.requireOperator(); err != nil {
		return nil, err
	}
	at := "period_end"
	if err := input.decode(text("at", &at)); err != nil {
		return nil, err
	}
	if at != "period_end" && at != "now" {
		return nil, invalid(Place{Path: "/at", Message: "must be period_end or now"})
	}
	if err := a.catalogue.RequireCustomer(ctx, string(input.CustomerID)); err != nil {
		return nil, err
	}
	reply, err := bus.Ask[query.SubscriptionReply](ctx, a.bus, query.ServiceBilling, query.CancelSubscription,
		query.CancelSubscriptionRequest{CustomerID: string(input.CustomerID), AtOnce: at == "now", Actor: caller.actor()})
	if err != nil {
		return nil, err
	}
	return &subscriptionOutput{Body: reply}, nil
}
