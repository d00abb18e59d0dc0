package engine

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// writer has one strand at a time write to the journal. A checkpoint holds everything that is done at its moment, so those who
// come while one is being written share the next.
type writer struct {
	free    *sync.Cond // over run.mu
	writing bool
	// changes counts what has been done, durable is how much of that is in the journal.
	changes, durable int
	// began: this worker has appended an event, so nobody else has gone further.
	began bool
	// err is what became of an append that failed: nothing is written after it.
	err error
}

// restore makes the scope of the expressions from what the checkpoint holds.
func (r *run) restore() *problem.Error {
	r.writer.free = sync.NewCond(&r.mu)
	r.places = make([]int, len(r.execution.Recipe.Steps))
	r.scope = recipe.Scope{
		Input: r.execution.Input, State: r.progress.State, Vars: r.execution.Vars,
		Execution: r.execution.ExecutionID, Customer: r.execution.CustomerID,
	}
	for i := range r.progress.Steps {
		outcome := &r.progress.Steps[i]
		step := r.execution.Recipe.Step(outcome.ID)
		if step == nil || outcome.Status == event.StepRunning && step.ForEach == nil {
			r.log.Error().Str("execution", r.execution.ExecutionID).Str("step", outcome.ID).Msg("checkpoint does not fit its recipe")
			return &problem.Error{Code: problem.Internal, Message: "the checkpoint does not fit the recipe"}
		}
		r.places[step.Index] = i + 1
		for j := range outcome.Items {
			r.outputs += size(outcome.Items[j].Output, MaxBytes)
		}
		if outcome.Status != event.StepRunning {
			r.outputs += size(outcome.Output, MaxBytes)
			r.show(step, outcome)
		}
	}
	return nil
}

// show makes an outcome readable for expressions.
func (r *run) show(step *recipe.Step, outcome *event.StepOutcome) {
	var stepError any
	if outcome.Error != nil {
		stepError = map[string]any{
			"code": string(outcome.Error.Code), "message": outcome.Error.Message, "step": outcome.Error.Step,
			"attempt": float64(outcome.Error.Attempt), "retryable": outcome.Error.Retryable,
		}
	}
	if step.ForEach == nil {
		r.scope.SetStep(outcome.ID, string(outcome.Status), outcome.Output, stepError)
		return
	}
	r.scope.SetOutputs(outcome.ID, string(outcome.Status), outputs(outcome), stepError)
}

// outputs are those of a foreach, in the order of its items; that of one that failed is nil.
func outputs(outcome *event.StepOutcome) []any {
	if outcome.StepSummary.Items == nil {
		return []any{} // it was skipped, or there was no list
	}
	outputs := make([]any, outcome.StepSummary.Items.Total)
	for i := range outcome.Items {
		outputs[outcome.Items[i].Index] = outcome.Items[i].Output
	}
	return outputs
}

// known gives what there is of a step's outcome, and whether that is all.
func (r *run) known(step *recipe.Step) (outcome event.StepOutcome, done bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if found := r.outcome(step); found != nil {
		return *found, found.Status != event.StepRunning
	}
	return event.StepOutcome{}, false
}

// outcome is what there is of a step's outcome, or nil. It is called with mu held, if only for reading.
func (r *run) outcome(step *recipe.Step) *event.StepOutcome {
	if place := r.places[step.Index]; place > 0 {
		return &r.progress.Steps[place-1]
	}
	return nil
}

// record stores the outcome of a step, in the place of what was known of it.
func (r *run) record(step *recipe.Step, outcome *event.StepOutcome) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writer.changes++
	if known := r.outcome(step); known != nil {
		*known = *outcome
	} else {
		r.progress.Steps = append(r.progress.Steps, *outcome)
		r.places[step.Index] = len(r.progress.Steps)
	}
	if outcome.Status == event.StepRunning {
		return nil
	}
	r.strands.done(outcome.ID, nil)
	r.show(step, outcome)
	r.outputs += size(outcome.Output, MaxBytes)
	return r.checkSize()
}

// write changes the shared state. Outputs of earlier steps may share memory with the old one, so that stays as it is.
func (r *run) write(result *component.Result) {
	if len(result.Set) == 0 && len(result.Delete) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	state := make(map[string]any, len(r.progress.State)+len(result.Set))
	maps.Copy(state, r.progress.State)
	maps.Copy(state, result.Set)
	for _, name := range result.Delete {
		delete(state, name)
	}
	r.progress.State, r.scope.State = state, state
}

// state is the shared state as it is now. It is never changed in place.
func (r *run) state() map[string]any {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.progress.State
}

// checkSize is called with mu held.
func (r *run) checkSize() error {
	if r.outputs+size(r.progress.State, MaxBytes) > MaxBytes {
		return tooLarge("the state with all outputs")
	}
	return nil
}

// begin makes sure, before the first effect of this worker, that no other one has gone further. A first delivery proves nothing: a
// NATS server that was killed forgets deliveries.
func (r *run) begin(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.writer.writing {
		r.writer.free.Wait()
	}
	if r.writer.began || r.writer.err != nil {
		return r.writer.err
	}
	return r.append(func(data []byte) error { return r.journal.Start(ctx, data) })
}

// checkpoint makes everything durable that is done so far.
func (r *run) checkpoint(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := r.writer.changes
	for r.writer.writing {
		r.writer.free.Wait()
	}
	if r.writer.durable >= wanted || r.writer.err != nil {
		return r.writer.err
	}
	number := r.progress.Checkpoints
	r.progress.Checkpoints++
	return r.append(func(data []byte) error { return r.journal.Checkpoint(ctx, number, data) })
}

// note makes durable what is waited for.
func (r *run) note(ctx context.Context) error {
	r.mu.Lock()
	r.writer.changes++
	r.mu.Unlock()
	return r.checkpoint(ctx)
}

// append writes the progress as it is now. It is called with mu held, and lets go of it meanwhile.
func (r *run) append(store func(data []byte) error) error {
	r.progress.Waits = r.strands.waits()
	data, err := event.Encode(&r.progress)
	if err != nil {
		return fmt.Errorf("encode checkpoint: %w", err)
	}
	if len(data) > MaxBytes {
		return tooLarge("the checkpoint")
	}
	changes := r.writer.changes
	r.writer.writing = true
	func() {
		r.mu.Unlock()
		defer r.mu.Lock()
		err = store(data)
	}()
	r.writer.writing = false
	r.writer.free.Broadcast()
	if err != nil {
		r.writer.err = err
		return err
	}
	r.writer.began, r.writer.durable = true, changes
	return nil
}

// park puts the execution down, when all strands have stopped.
func (r *run) park(ctx context.Context) error {
	wake := r.strands.wake(r.deadline)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.writer.err != nil {
		return r.writer.err
	}
	err := r.append(func(data []byte) error {
		return r.journal.Park(context.WithoutCancel(ctx), data, wake, r.strands.news)
	})
	if err != nil {
		return err
	}
	return ErrParked
}
