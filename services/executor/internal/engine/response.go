package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
)

// succeed ends an execution all of whose steps are done: as success, as partial where a step failed that may, or as failed where
// the result is not what the recipe promises.
func (r *run) succeed(ctx context.Context) (Completion, error) {
	data, err := r.result(ctx)
	if err == nil {
		err = r.checkOutput(data)
	}
	var reason *problem.Error
	switch {
	case errors.As(err, &reason):
		return r.fail(reason)
	case err != nil:
		return Completion{}, err
	}
	encoded, err := event.Encode(data)
	if err != nil {
		return Completion{}, fmt.Errorf("encode result: %w", err)
	}
	response := r.response(event.StatusSuccess)
	response.Data = encoded
	response.Metadata.RecordsProcessed = r.records(data)
	if len(response.Errors) > 0 {
		response.Status = event.StatusPartial
	}
	response.Metadata.Settle(response.Metadata.Charged(), r.execution.Quoted, r.execution.Debit.Amount)
	completion, err := complete(response)
	if err != nil {
		return Completion{}, err
	}
	if len(completion.Data) > MaxBytes {
		return r.fail(tooLarge("the response"))
	}
	return completion, nil
}

// fail ends an execution as failed. Its error comes first, then those that the execution had gone on after. Fixed prices are given
// back; what was measured is spent.
func (r *run) fail(reason *problem.Error) (Completion, error) {
	response := r.response(event.StatusFailed)
	response.Data = json.RawMessage("null")
	response.Metadata.Settle(response.Metadata.GiveBack(), r.execution.Quoted, r.execution.Debit.Amount)
	earlier := slices.DeleteFunc(response.Errors, func(e problem.Error) bool { return e == *reason })
	response.Errors = append([]problem.Error{*reason}, earlier...)
	return complete(response)
}

func complete(response event.Response) (Completion, error) {
	data, err := event.Encode(&response)
	if err != nil {
		return Completion{}, fmt.Errorf("encode response: %w", err)
	}
	return Completion{Response: response, Data: data}, nil
}

// response is the envelope without data and charges.
func (r *run) response(status event.Status) event.Response {
	now := r.clock()
	request := &r.execution.Request
	response := event.Response{
		RecipeID: request.RecipeID, AgentID: request.AgentID, RecipeVersion: request.RecipeVersion,
		ExecutionID: request.ExecutionID, CustomerID: request.CustomerID, Status: status,
		Metadata: event.Metadata{
			DurationMS: max(0, now.Sub(r.progress.StartedAt).Milliseconds()), Timestamp: now,
			Steps: make([]event.StepSummary, 0, len(r.progress.Steps)),
		},
		Errors: []problem.Error{},
	}
	for _, outcome := range r.outcomes() {
		response.Metadata.Steps = append(response.Metadata.Steps, outcome.StepSummary)
		if outcome.Attempts > 0 {
			response.Metadata.ComponentsExecuted++
		}
		if outcome.Error != nil {
			response.Errors = append(response.Errors, *outcome.Error)
		}
		response.Errors = append(response.Errors, itemErrors(outcome)...)
	}
	return response
}

// outcomes are what there is, in the order of the document. A foreach that was cut short counts as failed. Where the recipe cannot be had,
// or the checkpoint is not its, the order is that of the checkpoint.
func (r *run) outcomes() []*event.StepOutcome {
	outcomes := make([]*event.StepOutcome, 0, len(r.progress.Steps))
	if r.strands == nil {
		for i := range r.progress.Steps {
			outcome := r.progress.Steps[i]
			if outcome.Status == event.StepRunning {
				outcome.Status = event.StepFailed
			}
			outcomes = append(outcomes, &outcome)
		}
		return outcomes
	}
	for _, step := range r.execution.Recipe.Steps {
		outcome := r.outcome(step)
		if outcome == nil {
			continue
		}
		if outcome.Status == event.StepRunning {
			cut := *outcome
			r.sum(step, &cut, len(cut.Items))
			cut.Status = event.StepFailed
			outcome = &cut
		}
		outcomes = append(outcomes, outcome)
	}
	return outcomes
}

// itemErrors are the failures of a foreach after the first, which is that of its step.
func itemErrors(outcome *event.StepOutcome) []problem.Error {
	var failures []problem.Error
	for i := range outcome.Items {
		if failed := outcome.Items[i].Error; failed != nil {
			failures = append(failures, itemError(&outcome.Items[i]))
		}
	}
	if len(failures) > 0 {
		failures = failures[1:min(len(failures), maxItemErrors)]
	}
	return failures
}

func itemError(item *event.ItemOutcome) problem.Error {
	failed := *item.Error
	failed.Message = fmt.Sprintf("item %d: %s", item.Index, failed.Message)
	return failed
}

// result is the recipe's result, else the final state, else the output of the last step that has one.
func (r *run) result(ctx context.Context) (any, error) {
	if template := r.execution.Recipe.Result; template != nil {
		data, err := template.Eval(ctx, &r.scope)
		if err != nil {
			return nil, r.evaluation(ctx, err)
		}
		return data, nil
	}
	if r.progress.State != nil {
		return r.progress.State, nil
	}
	for _, outcome := range slices.Backward(r.outcomes()) {
		switch {
		case outcome.StepSummary.Items != nil && outcome.Status != event.StepFailed:
			return outputs(outcome), nil
		case outcome.Status == event.StepSuccess:
			return outcome.Output, nil
		}
	}
	return nil, nil
}

func (r *run) checkOutput(data any) error {
	err := r.execution.Recipe.ValidateOutput(data)
	var violations recipe.Violations
	switch {
	case err == nil:
		return nil
	case errors.As(err, &violations):
		message := "the result does not fit the recipe's output schema: " + violations[:1].Error()
		return &problem.Error{Code: problem.OutputInvalid, Message: message}
	}
	return fmt.Errorf("check the result: %w", err)
}

// records is the number of records that the execution handled: the items of its foreach steps, else the length of the first array in
// the result, as its JSON is written, else 1.
func (r *run) records(data any) int {
	items, looped := 0, false
	for i := range r.progress.Steps {
		if count := r.progress.Steps[i].StepSummary.Items; count != nil {
			items, looped = items+count.Total, true
		}
	}
	if looped {
		return items
	}
	if length, found := firstArray(data); found {
		return length
	}
	return 1
}

func firstArray(value any) (length int, found bool) {
	switch value := value.(type) {
	case []any:
		return len(value), true
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			if length, found = firstArray(value[key]); found {
				return length, true
			}
		}
	}
	return 0, false
}
