package subscription

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// Check is subscription.check.
type Check struct{ bus *bus.Bus }

// NewCheck makes the component.
func NewCheck(messages *bus.Bus) *Check {
	return &Check{bus: messages}
}

// requirements are what a step asks for. Nothing is asked for by what is empty or nil.
type requirements struct {
	plans      []string
	feature    string
	minBalance *credit.Micro
}

// Execute asks billing.
func (c *Check) Execute(ctx context.Context, call *component.Call) (component.Result, error) {
	wanted, err := readRequirements(call)
	if err != nil {
		return component.Result{}, err
	}
	found, err := bus.Ask[query.SubscriptionReply](ctx, c.bus, query.ServiceBilling, query.Subscription,
		query.SubscriptionRequest{CustomerID: call.Execution.Customer})
	if err != nil {
		return component.Result{}, err
	}
	if missing := wanted.missing(&found); len(missing) > 0 {
		return component.Result{}, component.Failure(problem.SubscriptionRequired, "%s", strings.Join(missing, "; "))
	}
	features := make([]any, len(found.Features))
	for i, feature := range found.Features {
		features[i] = feature
	}
	return component.Result{Output: map[string]any{
		"plan": found.Plan, "status": string(found.Status), "features": features,
		"balance": float64(found.Balance) / float64(credit.One),
	}}, nil
}

func readRequirements(call *component.Call) (requirements, error) {
	input, err := component.Input[struct {
		Plan       any    `json:"plan"`
		Feature    string `json:"feature"`
		MinBalance any    `json:"min_balance"`
	}](call)
	if err != nil {
		return requirements{}, err
	}
	wanted := requirements{feature: input.Feature}
	switch plan := input.Plan.(type) {
	case nil:
	case string:
		wanted.plans = []string{plan}
	case []any:
		for _, item := range plan {
			name, ok := item.(string)
			if !ok {
				return requirements{}, errPlan()
			}
			wanted.plans = append(wanted.plans, name)
		}
	default:
		return requirements{}, errPlan()
	}
	if input.MinBalance != nil {
		amount, err := credits(input.MinBalance)
		if err != nil {
			return requirements{}, component.Failure(problem.ComponentError, "min_balance must be an amount of credits with at most six decimal places")
		}
		wanted.minBalance = &amount
	}
	return wanted, nil
}

func errPlan() error {
	return component.Failure(problem.ComponentError, "plan must be a string or a list of strings")
}

// credits reads a decimal amount, as a text or as a number.
func credits(value any) (credit.Micro, error) {
	switch value := value.(type) {
	case string:
		return credit.Parse(value)
	case float64:
		return credit.Parse(strconv.FormatFloat(value, 'f', -1, 64))
	}
	return 0, credit.ErrSyntax
}

// missing says, in words, which requirements are not met.
func (r *requirements) missing(found *query.SubscriptionReply) (missing []string) {
	switch {
	case len(r.plans) == 0 && r.feature == "":
	case found.Status == query.SubscriptionNone:
		missing = append(missing, "there is no subscription")
	case found.Status != query.SubscriptionActive:
		missing = append(missing, "the subscription is "+string(found.Status))
	default:
		if len(r.plans) > 0 && !slices.Contains(r.plans, found.Plan) {
			missing = append(missing, fmt.Sprintf("the plan is %s, not %s", found.Plan, strings.Join(r.plans, " or ")))
		}
		if r.feature != "" && !slices.Contains(found.Features, r.feature) {
			missing = append(missing, "the feature "+r.feature+" is not part of the subscription")
		}
	}
	if r.minBalance != nil && found.Balance < *r.minBalance {
		missing = append(missing, fmt.Sprintf("the balance is %s credits, less than %s", found.Balance, *r.minBalance))
	}
	return missing
}
