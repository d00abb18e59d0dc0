package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/secret"
)

// turn is one run of a step: of the step itself, or for one item of its foreach.
type turn struct {
	step *recipe.Step
	// item is the index in a foreach, value what is there; nil without one.
	item  *int
	value any

	began    time.Time
	attempts int
	// usage is that of all attempts.
	usage *event.Usage
}

// wait is the turn's wait until some moment: for its next attempt, or for what steps of its kind wait for.
func (t *turn) wait(until time.Time) event.Wait {
	w := event.Wait{Step: t.step.ID, Item: t.item, Since: t.began, Until: until}
	if !t.step.Waits() {
		w.Attempts, w.Usage = t.attempts, t.usage
	}
	return w
}

// turn runs a step, or one item, to its outcome. An error says that there is none.
func (r *run) turn(ctx context.Context, t *turn) (event.ItemOutcome, error) {
	t.began = r.clock()
	earlier, resumed := r.strands.resume(t.step.ID, t.item)
	if resumed {
		t.began, t.attempts, t.usage = earlier.Since, earlier.Attempts, earlier.Usage
	}
	outcome := event.ItemOutcome{Status: event.StepSuccess}
	if t.item != nil {
		outcome.Index = *t.item
	}
	var output any
	var err error
	if t.step.Waits() {
		output, err = r.waitFor(ctx, t, &earlier)
	} else {
		output, err = r.try(ctx, t, &earlier)
	}
	outcome.Attempts, outcome.DurationMS = t.attempts, max(0, r.clock().Sub(t.began).Milliseconds())
	outcome.Usage = t.usage
	if t.step.Price.Metered() {
		outcome.Credits, _ = t.step.Price.Charge(t.usage)
	} else if err == nil {
		outcome.Credits = t.step.Price.Fixed
	}
	if failed, ok := errors.AsType[*problem.Error](err); ok {
		outcome.Status, outcome.Error = event.StepFailed, attribute(failed, t.step, t.attempts)
		return outcome, nil
	}
	outcome.Output = output
	return outcome, err
}

// input fills in the step's with.
func (r *run) input(ctx context.Context, t *turn, secrets map[string]any) (any, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	scope := &r.scope
	if t.item != nil || secrets != nil {
		scope = scope.ForItem("", nil, 0)
		if t.item != nil {
			scope = scope.ForItem(t.step.ForEach.Name, t.value, *t.item)
		}
		scope.Secrets = secrets
	}
	with, err := t.step.Input(ctx, scope)
	// What is wrong is told, what was given is not: it may be a secret.
	if violations, ok := errors.AsType[recipe.Violations](err); ok {
		return nil, component.Failure(problem.ComponentError, "with%s", violations[:1].Error())
	}
	if err != nil {
		return nil, r.evaluation(ctx, err)
	}
	return with, nil
}

// try calls the component until it succeeds or fails for good. A failure of the step is a *problem.Error.
func (r *run) try(ctx context.Context, t *turn, earlier *event.Wait) (any, error) {
	runner, ok := r.components.Find(t.step.Kind)
	if !ok {
		return nil, &problem.Error{Code: problem.Internal, Message: "no component runs " + string(t.step.Kind)}
	}
	if t.attempts > 0 { // it was put down between two attempts
		if _, err := r.strands.await(ctx, &waiter{Wait: *earlier}); err != nil {
			return nil, err
		}
	}
	secrets, err := r.secrets(ctx, t.step)
	if err != nil {
		return nil, err
	}
	with, err := r.input(ctx, t, secrets)
	if err != nil {
		return nil, redacted(err, secrets)
	}
	call := component.Call{
		Execution: r.execution.subject(), Step: t.step.ID, Kind: t.step.Kind, Item: t.item, Actor: r.execution.Actor,
		TraceParent: r.execution.TraceParent, With: with, State: r.state(),
	}
	if len(secrets) > 0 {
		call.Redact = func(text string) string { return secret.RedactText(text, secrets) }
	}
	for {
		if t.step.Effect() {
			if err := r.mayAct(ctx); err != nil {
				return nil, err
			}
		}
		t.attempts++
		call.Attempt = t.attempts
		result, err := r.attempt(ctx, t.step, runner, &call)
		t.usage = t.usage.Plus(result.Usage)
		if err == nil {
			err = t.checkCharge()
		}
		if err == nil {
			r.write(&result)
			return redact(result.Output, secrets), nil
		}
		if ctx.Err() != nil {
			return nil, cutOff(ctx)
		}
		failed, delay, again := r.judge(t.step, t.attempts, err)
		if !again {
			return nil, redacted(failed, secrets)
		}
		if _, err := r.strands.await(ctx, &waiter{Wait: t.wait(r.clock().Add(delay))}); err != nil {
			return nil, err
		}
	}
}

// checkCharge refuses a step that exists to be paid for, and asks for more than it may.
func (t *turn) checkCharge() error {
	if !t.step.Charges() {
		return nil
	}
	if _, above := t.step.Price.Charge(t.usage); above {
		t.usage = nil // nothing of it is charged
		return component.Failure(problem.ChargeAboveMax, "the charge is above the most that the price allows, %s credits", t.step.Price.Max)
	}
	return nil
}

// secrets gives what the step's with reads. An error that is no *problem.Error means that nobody can say at the moment.
func (r *run) secrets(ctx context.Context, step *recipe.Step) (map[string]any, error) {
	if len(step.SecretsUsed) == 0 {
		return nil, nil
	}
	return r.outside.Secrets(ctx, r.execution.CustomerID, step.SecretsUsed)
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
	if step.Effect() {
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
