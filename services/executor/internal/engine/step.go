package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// perform runs a step to its outcome. state is the new shared state, nil when the step left it alone. err says that there is no
// outcome: ErrInterrupted, or an error of the journal.
func (r *run) perform(ctx context.Context, step *recipe.Step) (outcome event.StepOutcome, state map[string]any, err error) {
	started := r.clock()
	outcome = event.StepOutcome{StepSummary: event.StepSummary{ID: step.ID, Status: event.StepSuccess}}
	defer func() { outcome.DurationMS = max(0, r.clock().Sub(started).Milliseconds()) }()

	result, err := r.evaluateAndTry(ctx, step, &outcome)
	var failed *problem.Error
	switch {
	case errors.As(err, &failed):
		copied := *failed
		copied.Step, copied.Attempt = step.ID, outcome.Attempts
		outcome.Status, outcome.Error = event.StepFailed, &copied
	case err != nil:
		return outcome, nil, err
	case outcome.Status == event.StepSuccess:
		outcome.Output, outcome.Credits = result.Output, step.Price
	}
	return outcome, result.State, nil
}

// evaluateAndTry sets the number of attempts in outcome, and the status when the step is skipped. A failure of the step is a
// *problem.Error.
func (r *run) evaluateAndTry(ctx context.Context, step *recipe.Step, outcome *event.StepOutcome) (component.Result, error) {
	wanted, err := step.ShouldRun(ctx, &r.scope)
	if err != nil {
		return component.Result{}, r.evaluation(ctx, err)
	}
	if !wanted {
		outcome.Status = event.StepSkipped
		return component.Result{}, nil
	}
	with, err := step.With.Eval(ctx, &r.scope)
	if err != nil {
		return component.Result{}, r.evaluation(ctx, err)
	}
	runner, ok := r.components[step.Kind]
	if !ok {
		return component.Result{}, &problem.Error{Code: problem.Internal, Message: "no component runs " + string(step.Kind)}
	}
	call := component.Call{
		Execution: subject.Execution{Customer: r.execution.CustomerID, ID: r.execution.ExecutionID}, Step: step.ID,
		TraceParent: r.execution.TraceParent, With: with, State: r.progress.State,
	}
	for {
		if step.Kind.Effect() {
			if err := r.mayAct(ctx); err != nil {
				return component.Result{}, err
			}
		}
		outcome.Attempts++
		call.Attempt = outcome.Attempts
		result, err := r.attempt(ctx, step, runner, &call)
		if err == nil {
			return result, nil
		}
		if ctx.Err() != nil {
			return component.Result{}, cutOff(ctx)
		}
		failed, delay, again := r.judge(step, outcome.Attempts, err)
		if !again {
			return component.Result{}, failed
		}
		lifecycle.Sleep(ctx, delay)
		if ctx.Err() != nil {
			return component.Result{}, cutOff(ctx)
		}
	}
}

// mayAct makes sure that an effect outside the process is this worker's to have.
func (r *run) mayAct(ctx context.Context) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	return r.journal.Hold()
}

// attempt calls the component once, at most for the step's time-out. A component without an effect outside the process has nothing
// to wait for, and is spared the timer.
func (r *run) attempt(
	ctx context.Context, step *recipe.Step, runner component.Component, call *component.Call,
) (result component.Result, err error) {
	if step.Kind.Effect() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, step.Timeout, errStepTimeout)
		defer cancel()
	}
	defer func() {
		if cause := recover(); cause != nil {
			r.log.Error().Str("execution", r.execution.ExecutionID).Str("step", step.ID).Any("panic", cause).Bytes("stack", debug.Stack()).
				Msg("component panicked")
			err = &problem.Error{Code: problem.Internal, Message: "a defect in galley stopped the step"}
		}
	}()
	result, err = runner.Execute(ctx, call)
	if err != nil && errors.Is(context.Cause(ctx), errStepTimeout) {
		return result, &problem.Error{Code: problem.Timeout, Message: fmt.Sprintf("no result within %s", step.Timeout), Retryable: true}
	}
	return result, err
}

// judge gives the failure of an attempt, and whether and after which delay another one is due. It is not when it would begin
// past the execution's deadline.
func (r *run) judge(step *recipe.Step, attempt int, err error) (failed *problem.Error, delay time.Duration, again bool) {
	if !errors.As(err, &failed) {
		r.log.Error().Err(err).Str("execution", r.execution.ExecutionID).Str("step", step.ID).Msg("component failed in an unknown way")
		return &problem.Error{Code: problem.Internal, Message: "a defect in galley stopped the step"}, 0, false
	}
	if !failed.Retryable || attempt >= step.Retry.MaxAttempts || !step.Retry.Applies(string(failed.Code)) {
		return failed, 0, false
	}
	delay = pause(step.Retry, attempt)
	if asked, ok := errors.AsType[*component.DelayError](err); ok {
		delay = max(delay, min(asked.After, step.Retry.Max))
	}
	return failed, delay, r.clock().Add(delay).Before(r.deadline)
}

// pause is the delay after an attempt: Initial · Multiplier^(attempt-1), at most Max; with jitter between half of it and all.
func pause(retry recipe.Retry, attempt int) time.Duration {
	exact := float64(retry.Initial) * math.Pow(retry.Multiplier, float64(attempt-1))
	delay := retry.Max
	if exact < float64(retry.Max) {
		delay = time.Duration(exact)
	}
	if half := delay / 2; retry.Jitter && half > 0 {
		delay = half + rand.N(half) //nolint:gosec // spreads load, hides nothing
	}
	return delay
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
