// Package engine runs one execution: the steps of a recipe in their order, from wherever a checkpoint says that they got to. It
// knows no NATS and no database; what must outlive the process goes through [Journal].
//
// An outcome becomes durable with the next event of the journal. So a checkpoint is written after a step that has an effect
// outside the process (or whose author asked for one), unless nothing follows: then the completed event carries it. Steps
// without an effect are simply run again after a crash.
package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// MaxBytes bounds the state and outputs of an execution, each checkpoint and the response, as JSON.
const MaxBytes = 512 << 10

// ErrInterrupted says that the context ended: the execution is neither done nor failed, and another worker can go on with it.
var ErrInterrupted = errors.New("execution interrupted")

var (
	errDeadline    = errors.New("the execution is past its deadline") // cause of the end of an execution's context
	errStepTimeout = errors.New("the attempt took too long")          // cause of the end of an attempt's context
)

// Journal is where an execution makes its progress durable. Whatever error its methods return stops the execution, which then
// is neither done nor failed.
type Journal interface {
	// Start appends the checkpoint before the first effect outside the process, unless this worker has appended something
	// already: from here on no other worker can have gone further.
	Start(ctx context.Context, checkpoint []byte) error
	// Checkpoint appends the checkpoint after the step with this index.
	Checkpoint(ctx context.Context, step int, checkpoint []byte) error
	// Hold fails when the execution may have been given to another worker in the meantime. It is asked before each effect.
	Hold() error
}

// Execution is what is to be run.
type Execution struct {
	event.Funding
	// Input shadows the undecoded input of the request.
	Input  map[string]any
	Recipe *recipe.Recipe
	// TraceParent is the W3C trace context, or "".
	TraceParent string
}

// Completion is how an execution ended. Data is Response as JSON.
type Completion struct {
	Response event.Response
	Data     []byte
}

// Engine runs executions. It is safe for concurrent use.
type Engine struct {
	components component.Registry
	clock      clock.Clock
	log        zerolog.Logger
}

// New makes an engine.
func New(components component.Registry, now clock.Clock, log zerolog.Logger) *Engine {
	return &Engine{components: components, clock: now, log: log}
}

// Begin is the checkpoint of an execution that nobody has worked on.
func (e *Engine) Begin(execution string) event.Checkpoint {
	return event.Checkpoint{ExecutionID: execution, Delivery: 1, StartedAt: e.clock()}
}

// Run goes on from a checkpoint until the execution has ended. The error is ErrInterrupted or one of the journal's: then the
// execution has not ended.
func (e *Engine) Run(ctx context.Context, execution *Execution, from event.Checkpoint, journal Journal) (Completion, error) {
	r := &run{Engine: e, execution: execution, journal: journal, progress: from, deadline: deadline(execution, &from)}
	if err := r.restore(); err != nil {
		return r.fail(err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.deadline.Sub(e.clock()), errDeadline)
	defer cancel()
	for r.progress.Next < len(execution.Recipe.Steps) {
		err := r.advance(ctx)
		if ended, ok := errors.AsType[*problem.Error](err); ok {
			return r.fail(ended)
		}
		if err != nil {
			return Completion{}, err
		}
	}
	return r.succeed(ctx)
}

// Refuse ends an execution that cannot be run any further, with this error. execution needs no Recipe.
func (e *Engine) Refuse(execution *Execution, from event.Checkpoint, reason *problem.Error) (Completion, error) {
	r := &run{Engine: e, execution: execution, progress: from}
	return r.fail(reason)
}

func deadline(execution *Execution, from *event.Checkpoint) time.Time {
	end := from.StartedAt.Add(execution.Recipe.Timeout)
	if execution.Deadline.Before(end) {
		return execution.Deadline
	}
	return end
}

// run is an execution under way.
type run struct {
	*Engine
	execution *Execution
	journal   Journal
	progress  event.Checkpoint
	scope     recipe.Scope
	deadline  time.Time
	// outputs is the size of all outputs so far.
	outputs int
	// began: this worker has appended an event, so nobody else has gone further.
	began bool
}

// restore makes the scope of the expressions from what the checkpoint holds.
func (r *run) restore() *problem.Error {
	if r.progress.Next != len(r.progress.Steps) || r.progress.Next > len(r.execution.Recipe.Steps) {
		r.log.Error().Str("execution", r.execution.ExecutionID).Int("next", r.progress.Next).Msg("checkpoint does not fit its recipe")
		return &problem.Error{Code: problem.Internal, Message: "the checkpoint does not fit the recipe"}
	}
	r.scope = recipe.Scope{
		Input: r.execution.Input, State: r.progress.State, Vars: r.execution.Vars,
		Execution: r.execution.ExecutionID, Customer: r.execution.CustomerID,
	}
	for i := range r.progress.Steps {
		r.show(&r.progress.Steps[i])
	}
	return nil
}

// show makes an outcome readable for expressions and counts its size.
func (r *run) show(outcome *event.StepOutcome) {
	var stepError any
	if outcome.Error != nil {
		stepError = map[string]any{
			"code": string(outcome.Error.Code), "message": outcome.Error.Message, "step": outcome.Error.Step,
			"attempt": float64(outcome.Error.Attempt), "retryable": outcome.Error.Retryable,
		}
	}
	r.scope.SetStep(outcome.ID, string(outcome.Status), outcome.Output, stepError)
	r.outputs += size(outcome.Output, MaxBytes)
}

// advance runs the next step and makes its outcome durable where the recipe asks for it. A *problem.Error ends the execution as
// failed; any other error means that this worker has to let go of it.
func (r *run) advance(ctx context.Context) error {
	if ctx.Err() != nil {
		return cutOff(ctx)
	}
	index := r.progress.Next
	step := r.execution.Recipe.Steps[index]
	outcome, state, err := r.perform(ctx, step)
	if err != nil {
		return err
	}
	if state != nil {
		r.progress.State, r.scope.State = state, state
	}
	r.progress.Steps = append(r.progress.Steps, outcome)
	r.progress.Next++
	r.show(&outcome)
	switch {
	case outcome.Status == event.StepFailed && (step.OnError == recipe.OnErrorFail || ctx.Err() != nil):
		return outcome.Error
	case r.outputs+size(r.progress.State, MaxBytes) > MaxBytes:
		return tooLarge("the state with all outputs")
	case !step.Checkpoint || outcome.Status == event.StepSkipped || r.progress.Next == len(r.execution.Recipe.Steps):
		return nil
	}
	return r.checkpoint(func(data []byte) error { return r.journal.Checkpoint(ctx, index, data) })
}

// begin makes sure, before the first effect of this worker, that no other one has gone further. A first delivery proves nothing: a
// NATS server that was killed forgets deliveries.
func (r *run) begin(ctx context.Context) error {
	if r.began {
		return nil
	}
	return r.checkpoint(func(data []byte) error { return r.journal.Start(ctx, data) })
}

func (r *run) checkpoint(store func(data []byte) error) error {
	data, err := encode(&r.progress)
	if err != nil {
		return fmt.Errorf("encode checkpoint: %w", err)
	}
	if len(data) > MaxBytes {
		return tooLarge("the checkpoint")
	}
	if err := store(data); err != nil {
		return err
	}
	r.began = true
	return nil
}

// cutOff is what the end of ctx means: an execution that is out of time fails, one whose worker has to stop does not.
func cutOff(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), errDeadline) {
		return &problem.Error{Code: problem.Timeout, Message: "the execution ran out of time", Retryable: true}
	}
	return fmt.Errorf("%w: %w", ErrInterrupted, context.Cause(ctx))
}

func tooLarge(what string) *problem.Error {
	return &problem.Error{Code: problem.StateTooLarge, Message: what + " is larger than 512 KiB"}
}
