// Package subscription runs subscription.charge, which charges for units that a recipe counts, and subscription.check, which asks billing
// for what the customer has subscribed to.
package subscription

import (
	"context"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// The kinds of this package.
const (
	KindCharge recipe.Kind = "subscription.charge"
	KindCheck  recipe.Kind = "subscription.check"
)

// Components are the components of this package by their kinds.
func Components(messages *bus.Bus) component.Registry {
	return component.Registry{KindCharge: component.Func(Charge), KindCheck: NewCheck(messages)}
}

// Charge runs subscription.charge. The units are the usage of the step: the engine prices them, and refuses more than the price allows.
func Charge(_ context.Context, call *component.Call) (component.Result, error) {
	input, err := component.Input[struct {
		Units  int64  `json:"units"`
		Reason string `json:"reason"`
	}](call)
	if err != nil {
		return component.Result{}, err
	}
	if input.Units < 0 {
		return component.Result{}, component.Failure(problem.ComponentError, "units must not be negative")
	}
	output := map[string]any{"units": float64(input.Units)}
	if input.Reason != "" {
		output["reason"] = input.Reason
	}
	return component.Result{Output: output, Usage: &event.Usage{Units: input.Units}}, nil
}
