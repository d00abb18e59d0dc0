package engine_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/state"
	"github.com/galley-engine/galley/services/executor/internal/component/subscription"
	"github.com/galley-engine/galley/services/executor/internal/engine"
)

// chat is a component in the place of ai.chat: each attempt reads a thousand tokens and writes a thousand. It fails as often as it is told.
func chat(failures int) component.Component {
	return component.Func(func(_ context.Context, c *component.Call) (component.Result, error) {
		result := component.Result{Usage: &event.Usage{InputTokens: 1000, OutputTokens: 1000}}
		if c.Attempt <= failures {
			return result, &problem.Error{Code: problem.Upstream5xx, Message: "not now", Retryable: true}
		}
		result.Output = map[string]any{"text": "hello"}
		return result, nil
	})
}

func chargingEngine(failures int) *engine.Engine {
	components := component.Registry{
		recipe.KindHTTP:         refuse(&problem.Error{Code: problem.Upstream4xx, Message: "refused"}),
		recipe.KindStateSet:     component.Func(state.Set),
		"ai.chat":               chat(failures),
		subscription.KindCharge: component.Func(subscription.Charge),
	}
	return engine.New(components, nil, clock.System, zerolog.Nop())
}

// bill is what is charged for a step.
type bill struct {
	credits string
	units   int64
	metered bool
}

func bills(response *event.Response) map[string]bill {
	found := map[string]bill{}
	for _, step := range response.Metadata.Steps {
		made := bill{credits: step.Credits.String(), metered: step.Metered}
		if step.Usage != nil {
			made.units = step.Usage.Units
		}
		found[step.ID] = made
	}
	return found
}

func TestCharges(t *testing.T) {
	t.Parallel()
	const charge = `{id: bill, uses: subscription.charge, with: {units: 3}, price: {per_unit: "0.01", max: `
	tests := map[string]struct {
		steps  string
		status event.Status
		total  string
		bills  map[string]bill
		code   problem.Code
	}{
		"as measured": {
			charge + `1}}`, event.StatusSuccess, "0.03", map[string]bill{"bill": {"0.03", 3, true}}, "",
		},
		"just the most": {
			charge + `"0.03"}}`, event.StatusSuccess, "0.03", map[string]bill{"bill": {"0.03", 3, true}}, "",
		},
		"above the most": {
			charge + `"0.029999"}}`, event.StatusFailed, "0", map[string]bill{"bill": {"0", 0, true}}, problem.ChargeAboveMax,
		},
		"above the most, and it may fail": {
			charge + `"0.02"}, on_error: continue}
    - {id: set, uses: state.set, with: {x: "${steps.bill.error.code}"}, price: 1}`,
			event.StatusPartial, "1",
			map[string]bill{"bill": {"0", 0, true}, "set": {"1", 0, false}},
			problem.ChargeAboveMax,
		},
		"for nothing": {
			`{id: bill, uses: subscription.charge, with: {units: 0}, price: {per_unit: 1, max: 1}}`,
			event.StatusSuccess, "0",
			map[string]bill{"bill": {"0", 0, true}},
			"",
		},
		"of a step that is skipped": {
			`{id: bill, uses: subscription.charge, if: "${input.notify}", with: {units: 1}, price: {per_unit: 1, max: 1}}`,
			event.StatusSuccess, "0",
			map[string]bill{"bill": {"0", 0, false}},
			"",
		},
		"of an execution that fails afterwards": {
			charge + `1}}
    - {id: set, uses: state.set, with: {x: 1}, price: 1}
    - {id: call, uses: action.http, with: {url: "https://x"}, price: 1}`,
			event.StatusFailed, "0.03",
			map[string]bill{"bill": {"0.03", 3, true}, "set": {"0", 0, false}, "call": {"0", 0, false}},
			problem.Upstream4xx,
		},
		"of the items of a foreach": {
			`{id: bill, foreach: {in: "${[1, 2, 4]}", as: n, max_items: 3}, uses: subscription.charge, with: {units: "${n}"},
       price: {per_unit: "0.01", max: "0.04"}}`,
			event.StatusSuccess, "0.07",
			map[string]bill{"bill": {"0.07", 7, true}},
			"",
		},
		"of those items that may be charged": {
			`{id: bill, foreach: {in: "${[1, 9, 2]}", as: n, max_items: 3}, uses: subscription.charge, with: {units: "${n}"},
       price: {per_unit: "0.01", max: "0.02"}, on_error: continue}`,
			event.StatusPartial, "0.03",
			map[string]bill{"bill": {"0.03", 3, true}},
			problem.ChargeAboveMax,
		},
		"of the items before the one that fails": {
			`{id: bill, foreach: {in: "${[1, 9, 2]}", as: n, max_items: 3}, uses: subscription.charge, with: {units: "${n}"},
       price: {per_unit: "0.01", max: "0.02"}}`,
			event.StatusFailed, "0.01",
			map[string]bill{"bill": {"0.01", 1, true}},
			problem.ChargeAboveMax,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, x := chargingEngine(0), execution(t, "\n  steps:\n    - "+test.steps)
			completion, err := e.Run(t.Context(), x, e.Begin(x), &notes{})
			require.NoError(t, err)
			response := completion.Response
			assert.Equal(t, test.status, response.Status, "%v", response.Errors)
			assert.Equal(t, test.total, response.Metadata.CreditsConsumed.String())
			assert.Equal(t, test.bills, bills(&response))
			if test.code != "" {
				require.NotEmpty(t, response.Errors)
				assert.Equal(t, test.code, response.Errors[0].Code)
				assert.False(t, response.Errors[0].Retryable)
				assert.Equal(t, 1, response.Errors[0].Attempt)
			}
		})
	}
}

// TestEveryAttemptIsMeasured: what a failed attempt has used is spent as well.
func TestEveryAttemptIsMeasured(t *testing.T) {
	t.Parallel()
	const price = `price: {per_1k_input_tokens: "0.01", per_1k_output_tokens: "0.02", max: `
	tests := map[string]struct {
		failures int
		rest     string
		status   event.Status
		total    string
		tokens   int64
	}{
		"at once":                   {0, `retry: {max_attempts: 3, initial: 1ms}, ` + price + `1}`, event.StatusSuccess, "0.03", 1000},
		"after failures":            {2, `retry: {max_attempts: 3, initial: 1ms}, ` + price + `1}`, event.StatusSuccess, "0.09", 3000},
		"in vain":                   {9, `retry: {max_attempts: 2, initial: 1ms}, ` + price + `1}`, event.StatusFailed, "0.06", 2000},
		"in vain, and it may":       {9, `retry: {max_attempts: 2, initial: 1ms}, on_error: continue, ` + price + `1}`, event.StatusPartial, "0.06", 2000},
		"never more than the most":  {2, `retry: {max_attempts: 3, initial: 1ms}, ` + price + `"0.05"}`, event.StatusSuccess, "0.05", 3000},
		"at a fixed price":          {2, `retry: {max_attempts: 3, initial: 1ms}, price: 1`, event.StatusSuccess, "1", 3000},
		"at a fixed price, in vain": {9, `retry: {max_attempts: 2, initial: 1ms}, price: 1`, event.StatusFailed, "0", 2000},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, x := chargingEngine(test.failures), execution(t, "\n  steps:\n    - {id: ask, uses: ai.chat, with: {prompt: hello}, "+test.rest+"}")
			completion, err := e.Run(t.Context(), x, e.Begin(x), &notes{})
			require.NoError(t, err)
			assert.Equal(t, test.status, completion.Response.Status)
			assert.Equal(t, test.total, completion.Response.Metadata.CreditsConsumed.String())
			assert.Equal(t, &event.Usage{InputTokens: test.tokens, OutputTokens: test.tokens}, completion.Response.Metadata.Steps[0].Usage)
		})
	}
}

// TestNothingIsChargedTwice: neither when another worker goes on, nor by an execution that goes on from one that has paid.
func TestNothingIsChargedTwice(t *testing.T) {
	t.Parallel()
	const spec = `
  steps:
    - {id: ask, uses: ai.chat, with: {prompt: hello}, retry: {max_attempts: 2, initial: 1h, max: 1h}, price: {per_1k_input_tokens: "0.01", max: 1}}
    - {id: bill, uses: subscription.charge, with: {units: 3}, price: {per_unit: "0.01", max: 1}, checkpoint: true}
    - {id: set, uses: state.set, with: {x: 1}, price: 1}`
	done := func(paid credit.Micro) []event.StepOutcome {
		return []event.StepOutcome{
			{StepSummary: event.StepSummary{
				ID: "ask", Status: event.StepSuccess, Attempts: 1, Credits: paid, Usage: &event.Usage{InputTokens: 1000}, Metered: true,
			}},
			{StepSummary: event.StepSummary{
				ID: "bill", Status: event.StepSuccess, Attempts: 1, Credits: 3 * paid, Usage: &event.Usage{Units: 3}, Metered: true,
			}},
		}
	}
	t.Run("another worker", func(t *testing.T) {
		t.Parallel()
		e, x := chargingEngine(0), execution(t, spec)
		from := e.Begin(x)
		from.Steps = done(10_000)
		completion, err := e.Run(t.Context(), x, from, &notes{})
		require.NoError(t, err)
		assert.Equal(t, "1.04", completion.Response.Metadata.CreditsConsumed.String())
	})
	t.Run("another execution", func(t *testing.T) {
		t.Parallel()
		e, x := chargingEngine(0), execution(t, spec)
		x.Origin = &event.Origin{ExecutionID: "e0", Verb: event.VerbResume, Step: "set", Steps: done(0)}
		completion, err := e.Run(t.Context(), x, e.Begin(x), &notes{})
		require.NoError(t, err)
		assert.Equal(t, "1", completion.Response.Metadata.CreditsConsumed.String())
	})
	t.Run("a step that was put down between two attempts", func(t *testing.T) {
		t.Parallel()
		e, x, journal := chargingEngine(1), execution(t, "\n  timeout: 2h"+spec), &notes{}
		x.Deadline = clock.System().Add(3 * time.Hour)
		_, err := e.Run(t.Context(), x, e.Begin(x), journal)
		require.ErrorIs(t, err, engine.ErrParked)
		require.Equal(t, &event.Usage{InputTokens: 1000, OutputTokens: 1000}, journal.last.Waits[0].Usage)
		// What is in the journal is all that the next worker knows.
		text, err := json.Marshal(journal.last)
		require.NoError(t, err)
		var from event.Checkpoint
		require.NoError(t, json.Unmarshal(text, &from))
		from.Waits[0].Since, from.Waits[0].Until = from.Waits[0].Since.Add(-time.Hour), from.Waits[0].Until.Add(-time.Hour)
		completion, err := e.Run(t.Context(), x, from, journal)
		require.NoError(t, err)
		assert.Equal(t, event.StatusSuccess, completion.Response.Status, "%v", completion.Response.Errors)
		assert.Equal(t, "1.05", completion.Response.Metadata.CreditsConsumed.String())
		assert.EqualValues(t, 2000, completion.Response.Metadata.Steps[0].Usage.InputTokens)
	})
}
