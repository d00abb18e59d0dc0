// Package engine runs one execution: the stages of a recipe in their order, from wherever a checkpoint says that they got to. It
// knows no NATS and no database; what must outlive the process goes through [Journal].
//
// An outcome becomes durable with the next event of the journal. So a checkpoint is written after a step, or an item of a
// foreach, that has an effect outside the process (or whose author asked for one), unless nothing follows: then the completed event
// carries it. Steps without an effect are simply run again after a crash.
//
// The branches of a parallel group and the items of a foreach run as strands. When all strands wait, and for long, the
// execution is parked: what it waits for goes into the journal, and the worker is free for something else.
package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// MaxBytes bounds the state and outputs of an execution, each checkpoint and the response, as JSON.
const MaxBytes = 512 << 10

// ErrInterrupted says that the context ended: the execution is neither done nor failed, and another worker can go on with it.
var ErrInterrupted = errors.New("execution interrupted")

// ErrParked says that the execution waits and has been put down: it goes on when it is woken up.
var ErrParked = errors.New("execution parked")

var (
	errDeadline    = errors.New("the execution is past its deadline") // cause of the end of an execution's context
	errStepTimeout = errors.New("the attempt took too long")          // cause of the end of an attempt's context
	errHalted      = errors.New("another strand ended the execution") // what keeps a strand from going on
)

// Journal is where an execution makes its progress durable. One method is called at a time. Whatever error they return stops the
// execution, which then is neither done nor failed.
type Journal interface {
	// Start appends the checkpoint before the first effect outside the process, unless this worker has appended something
	// already: from here on no other worker can have gone further.
	Start(ctx context.Context, checkpoint []byte) error
	// Checkpoint appends a checkpoint. number counts them from 0.
	Checkpoint(ctx context.Context, number int, checkpoint []byte) error
	// Park appends the checkpoint of an execution that waits, and sees to it that it is woken up at a time, or at once if news, asked
	// after the append, says that what it waits for has come.
	Park(ctx context.Context, checkpoint []byte, wake time.Time, news func(ctx context.Context) (bool, error)) error
	// Hold fails when the execution may have been given to another worker in the meantime. It is asked before each effect.
	Hold() error
}

// Outside is what executions need of the rest of galley while they run.
type Outside interface {
	// Signal gives the event or decision with this name, if it has come.
	Signal(ctx context.Context, execution subject.Execution, kind subject.SignalKind, name string) (data []byte, found bool, err error)
	// StartChild has a recipe run as an execution of its own, once for each key, and gives its id. A refusal is a *problem.Error.
	StartChild(ctx context.Context, child *query.StartRequest) (id string, err error)
	// ChildResponse gives the response of an execution that has ended.
	ChildResponse(ctx context.Context, execution subject.Execution) (response []byte, ended bool, err error)
	// Secrets gives the values of a customer's secrets. One that is missing is a *problem.Error.
	Secrets(ctx context.Context, customer string, names []string) (map[string]any, error)
}

// Execution is what is to be run.
type Execution struct {
	event.Funding
	// Input shadows the undecoded input of the request.
	Input  map[string]any
	Recipe *recipe.Recipe
	// TraceParent is the W3C trace context, or "".
	TraceParent string
	// News has strands that wait look again.
	News News
}

func (e *Execution) subject() subject.Execution {
	return subject.Execution{Customer: e.CustomerID, ID: e.ExecutionID}
}

// Completion is how an execution ended. Data is Response as JSON.
type Completion struct {
	Response event.Response
	Data     []byte
}

// Engine runs executions. It is safe for concurrent use.
type Engine struct {
	components component.Registry
	outside    Outside
	clock      clock.Clock
	log        zerolog.Logger
}

// New makes an engine.
func New(components component.Registry, outside Outside, now clock.Clock, log zerolog.Logger) *Engine {
	return &Engine{components: components, outside: outside, clock: now, log: log}
}

// Begin is the checkpoint of an execution that nobody has worked on.
func (e *Engine) Begin(execution *Execution) event.Checkpoint {
	begin := event.Checkpoint{ExecutionID: execution.ExecutionID, Delivery: 1, StartedAt: e.clock(), Steps: []event.StepOutcome{}}
	if origin := execution.Origin; origin != nil {
		begin.State, begin.Steps = origin.State, append(begin.Steps, origin.Steps...)
	}
	return begin
}

// Run goes on from a checkpoint until the execution has ended. The error is ErrParked, ErrInterrupted or one of the journal's or of
// the outside: then the execution has not ended.
func (e *Engine) Run(ctx context.Context, execution *Execution, from event.Checkpoint, journal Journal) (Completion, error) {
	r := &run{Engine: e, execution: execution, journal: journal, progress: from, deadline: deadline(execution, &from)}
	if err := r.restore(); err != nil {
		return r.fail(err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.deadline.Sub(e.clock()), errDeadline)
	defer cancel()
	r.strands = newStrands(r, ctx)
	defer r.strands.end()
	err := r.stages(ctx, execution.Recipe.Stages)
	if errors.Is(err, ErrParked) {
		err = r.park(ctx)
	}
	if ended, ok := errors.AsType[*problem.Error](err); ok {
		return r.fail(ended)
	}
	if err != nil {
		return Completion{}, err
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
	deadline  time.Time
	strands   *strands

	// mu guards what follows. Expressions are evaluated under its read lock.
	mu       sync.RWMutex
	progress event.Checkpoint
	// places are the indexes in progress.Steps, plus one, by the index of the step; 0 where there is no outcome.
	places []int
	scope  recipe.Scope
	// outputs is the size of all outputs so far.
	outputs int
	writer  writer
}

// stages runs a list of stages. A *problem.Error ends the execution as failed; any other error means that this worker has to let go of it.
func (r *run) stages(ctx context.Context, stages []recipe.Stage) error {
	for i := range stages {
		if err := r.mayGoOn(ctx); err != nil {
			return err
		}
		var err error
		if step := stages[i].Step; step != nil {
			err = r.step(ctx, step)
		} else {
			err = r.branches(ctx, stages[i].Branches)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mayGoOn is asked before each step and item.
func (r *run) mayGoOn(ctx context.Context) error {
	if ctx.Err() != nil {
		return cutOff(ctx)
	}
	return r.strands.halted()
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
