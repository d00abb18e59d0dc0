package engine

import (
	"context"
	"errors"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
)

// step runs a step, unless it is done, and makes its outcome durable where the recipe asks for it. A *problem.Error ends the
// execution as failed.
func (r *run) step(ctx context.Context, step *recipe.Step) error {
	outcome, done := r.known(step)
	if !done {
		var err error
		if outcome, err = r.perform(ctx, step, outcome); err != nil {
			return err
		}
		if err := r.record(step, &outcome); err != nil {
			return err
		}
	}
	switch {
	case outcome.Status == event.StepFailed && (step.OnError == recipe.OnErrorFail || ctx.Err() != nil):
		return outcome.Error
	case done, !step.Checkpoint, outcome.Status == event.StepSkipped, r.last(step):
		return nil
	}
	return r.checkpoint(ctx)
}

// last tells whether nothing comes after the step, so that the completed event holds its outcome.
func (r *run) last(step *recipe.Step) bool {
	stages := r.execution.Recipe.Stages
	return stages[len(stages)-1].Step == step
}

// perform runs a step to its outcome. outcome is what is known of a foreach under way.
func (r *run) perform(ctx context.Context, step *recipe.Step, outcome event.StepOutcome) (event.StepOutcome, error) {
	if outcome.Status != event.StepRunning {
		outcome = event.StepOutcome{StepSummary: event.StepSummary{ID: step.ID}}
		if _, resumed := r.strands.resume(step.ID, nil); !resumed {
			wanted, err := r.shouldRun(ctx, step)
			if failed, ok := errors.AsType[*problem.Error](err); ok {
				outcome.Status, outcome.Error = event.StepFailed, attribute(failed, step, 0)
				return outcome, nil
			}
			if err != nil {
				return outcome, err
			}
			if !wanted {
				outcome.Status = event.StepSkipped
				return outcome, nil
			}
		}
	}
	if step.ForEach != nil {
		return r.forEach(ctx, step, outcome)
	}
	once, err := r.turn(ctx, &turn{step: step})
	outcome.Status, outcome.Attempts, outcome.DurationMS = once.Status, once.Attempts, once.DurationMS
	outcome.Credits, outcome.Output, outcome.Error = once.Credits, once.Output, once.Error
	outcome.Usage, outcome.Metered = once.Usage, step.Price.Metered()
	return outcome, err
}

func (r *run) shouldRun(ctx context.Context, step *recipe.Step) (bool, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	wanted, err := step.ShouldRun(ctx, &r.scope)
	if err != nil {
		return false, r.evaluation(ctx, err)
	}
	return wanted, nil
}

// attribute copies a failure, saying where it was.
func attribute(failed *problem.Error, step *recipe.Step, attempts int) *problem.Error {
	copied := *failed
	copied.Step, copied.Attempt = step.ID, attempts
	return &copied
}

// evaluation turns the error of an expression into a failure of the step.
func (r *run) evaluation(ctx context.Context, err error) error {
	var failed *recipe.EvalError
	switch {
	case errors.As(err, &failed):
		return &problem.Error{Code: failed.Code, Message: failed.Path + ": " + failed.Message}
	case ctx.Err() != nil:
		return cutOff(ctx)
	}
	r.log.Error().Err(err).Str("execution", r.execution.ExecutionID).Msg("expression failed in an unknown way")
	return &problem.Error{Code: problem.Internal, Message: "a defect in galley stopped an expression"}
}
