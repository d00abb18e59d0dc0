package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

func (a *API) registerPlans(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "publish-plan", Method: http.MethodPost, Path: prefix + "/plans", Tags: []string{"plans"},
		Summary: "Publish a plan (operator)",
		Description: "Content that was published before is the version that it was then (200), anything else is the next version (201). A version " +
			"is never changed: one that is named in the body and has another content is refused (409).",
		Responses: response(http.StatusCreated, "A new version", documented[query.Plan](routes, "application/json")),
	}, documented[PlanBody](routes, "application/json"), a.publishPlan)
	register(a, routes, huma.Operation{
		OperationID: "list-plans", Method: http.MethodGet, Path: prefix + "/plans", Tags: []string{"plans"},
		Summary:     "List plans in their newest versions",
		Description: "Those that are retired are listed for the operator alone.",
	}, nil, a.listPlans)
	register(a, routes, huma.Operation{
		OperationID: "get-plan", Method: http.MethodGet, Path: prefix + "/plans/{plan_id}", Tags: []string{"plans"},
		Summary: "Get a version of a plan",
	}, nil, a.getPlan)
	register(a, routes, huma.Operation{
		OperationID: "retire-plan", Method: http.MethodPost, Path: prefix + "/plans/{plan_id}/retire", Tags: []string{"plans"},
		Summary:     "Close a plan to new subscriptions, for good (operator)",
		Description: "Subscriptions to it go on.",
	}, nil, a.retirePlan)
}

// PlanBody documents the body.
type PlanBody struct {
	PlanID         id                `json:"plan_id"`
	Version        int               `json:"version,omitempty" minimum:"1" doc:"The version that this is to be; the next one when absent"`
	Name           string            `json:"name" maxLength:"200"`
	MonthlyCredits credit.Micro      `json:"monthly_credits" doc:"What each period begins with"`
	Rollover       *query.Rollover   `json:"rollover,omitempty" doc:"What becomes of credits that are left at the end of a period: they expire (none, also when absent), are kept (all), or are carried into the next period up to a maximum (capped)"`
	Features       []id              `json:"features,omitempty" maxItems:"100"`
	Limits         *query.PlanLimits `json:"limits,omitempty" doc:"overdraft is set while the plan holds; max_concurrency is shown, and set with the limits of the customer"`
	PriceList      []query.Price     `json:"price_list,omitempty" maxItems:"100" doc:"What is charged for it in money; it is shown, not collected"`
	Priority       int               `json:"priority,omitempty" minimum:"0" maximum:"100" default:"50" doc:"Credits of a lower priority are burnt first"`
}

type publishPlanInput struct{ JSONBody }

type planOutput struct{ Body query.Plan }

type publishPlanOutput struct {
	Status   int
	Location string `header:"Location"`
	Body     query.Plan
}

func (a *API) publishPlan(ctx context.Context, caller *caller, input *publishPlanInput) (*publishPlanOutput, error) {
	if err := caller.requireOperator(); err != nil {
		return nil, err
	}
	wanted := query.PublishPlanRequest{Actor: caller.actor()}
	wanted.Rollover.Rule, wanted.Priority = query.RolloverNone, query.DefaultPriority
	const amount = "an amount of credits with at most six decimal places"
	err := input.decode(
		identifier("plan_id", &wanted.PlanID), field{name: "version", into: &wanted.Version, must: "a whole number"},
		field{name: "name", required: true, into: &wanted.Name, must: "a string"},
		field{name: "monthly_credits", required: true, into: &wanted.MonthlyCredits, must: amount},
		field{name: "rollover", into: &exact{&wanted.Rollover}, must: "an object of rule, a string, and max, " + amount},
		field{name: "features", into: &wanted.Features, must: "a list of strings"},
		field{name: "limits", into: &exact{&wanted.Limits}, must: "an object of max_concurrency, a whole number, and overdraft, " + amount},
		field{name: "price_list", into: &exact{&wanted.PriceList}, must: "a list of objects of item, amount and currency, all strings"},
		field{name: "priority", into: &wanted.Priority, must: "a whole number"},
	)
	if err != nil {
		return nil, err
	}
	if found := planPlaces(&wanted); len(found) > 0 {
		return nil, invalid(found...)
	}
	reply, err := bus.Ask[query.PublishPlanReply](ctx, a.bus, query.ServiceBilling, query.PublishPlan, wanted)
	if err != nil {
		return nil, err
	}
	return &publishPlanOutput{
		Status: created(!reply.Repeated), Body: reply.Plan,
		Location: prefix + "/plans/" + reply.Plan.PlanID + "?version=" + strconv.Itoa(reply.Plan.Version),
	}, nil
}

// exact fills in a value from JSON that has no fields which the value has not.
type exact struct{ into any }

// UnmarshalJSON implements json.Unmarshaler.
func (e *exact) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	return decoder.Decode(e.into)
}

// planPlaces are those that break a rule.
func planPlaces(wanted *query.PublishPlanRequest) (found []Place) {
	if !subject.ValidID(wanted.PlanID) {
		found = append(found, Place{Path: "/plan_id", Message: subject.ErrInvalidID.Error()})
	}
	if wanted.Version < 0 {
		found = append(found, Place{Path: "/version", Message: "must be at least 1"})
	}
	for _, violation := range wanted.Violations() {
		found = append(found, Place{Path: violation.Path, Message: violation.Message})
	}
	return found
}

type listPlansInput struct{ Paging }

func (a *API) listPlans(ctx context.Context, caller *caller, input *listPlansInput) (*listOutput[query.Plan], error) {
	after, err := cursor[string](&input.Paging)
	if err != nil {
		return nil, err
	}
	wanted := query.PlansRequest{Limit: input.Limit, Retired: caller.operator}
	if after != nil {
		wanted.After = *after
	}
	reply, err := bus.Ask[query.PlansReply](ctx, a.bus, query.ServiceBilling, query.Plans, wanted)
	if err != nil {
		return nil, err
	}
	var next *string
	if reply.More {
		next = &reply.Plans[len(reply.Plans)-1].PlanID
	}
	return page(reply.Plans, next)
}

type getPlanInput struct {
	PlanID  id  `path:"plan_id"`
	Version int `query:"version" minimum:"1" maximum:"2147483647" doc:"The newest when absent"`
}

func (a *API) getPlan(ctx context.Context, _ *caller, input *getPlanInput) (*planOutput, error) {
	found, err := bus.Ask[query.Plan](ctx, a.bus, query.ServiceBilling, query.OnePlan, query.PlanRequest{
		PlanID: string(input.PlanID), Version: input.Version,
	})
	if err != nil {
		return nil, err
	}
	return &planOutput{Body: found}, nil
}

type retirePlanInput struct {
	PlanID id `path:"plan_id"`
}

func (a *API) retirePlan(ctx context.Context, caller *caller, input *retirePlanInput) (*planOutput, error) {
	if err := caller.requireOperator(); err != nil {
		return nil, err
	}
	retired, err := bus.Ask[query.Plan](ctx, a.bus, query.ServiceBilling, query.RetirePlan, query.RetirePlanRequest{
		PlanID: string(input.PlanID), Actor: caller.actor(),
	})
	if err != nil {
		return nil, err
	}
	return &planOutput{Body: retired}, nil
}
