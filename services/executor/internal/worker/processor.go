package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/catalogue"
	"github.com/galley-engine/galley/services/executor/internal/engine"
)

// Journal is what the worker needs of the journal.
type Journal interface {
	Append(ctx context.Context, entries ...journal.Entry) []journal.Result
	Last(ctx context.Context, execution subject.Execution) (journal.Record, error)
	Funded(ctx context.Context, execution subject.Execution) (journal.Record, error)
	Reply(ctx context.Context, asked, header nats.Header, data []byte) error
}

// Delays has executions woken up.
type Delays interface {
	Delay(ctx context.Context, delay, due string, at time.Time) error
	Due(ctx context.Context, due string) error
}

// Recipes gives compiled recipes.
type Recipes interface {
	Recipe(ctx context.Context, key catalogue.Key) (*recipe.Recipe, error)
}

// verdict is what becomes of a delivery.
type verdict string

const (
	// done: nothing is left to do for this delivery. The execution has ended, is parked, or goes on by another one.
	done verdict = "done"
	// handOver: another worker should go on at once.
	handOver verdict = "hand over"
	// later: something that this worker needs does not answer.
	later verdict = "later"
	// leave: another worker has the execution, or will get it when AckWait has passed.
	leave verdict = "leave"
	// dead: the message can never be processed.
	dead verdict = "dead"
)

// processor takes one delivery of a funded event through to its verdict.
type processor struct {
	journal Journal
	delays  Delays
	recipes Recipes
	slots   Slots
	live    *live
	engine  *engine.Engine
	clock   clock.Clock
	log     zerolog.Logger
}

// process runs the execution. The error says why the verdict is not done. It ends early, with handOver, when ctx does. held is nil
// while the execution is this worker's.
func (p *processor) process(ctx context.Context, g given, held func() error) (verdict, error) {
	s := &session{processor: p, given: g, held: held, turn: 1}
	if err := s.find(ctx); err != nil {
		return s.conclude(ctx, err)
	}
	s.expect = s.record.Sequence
	execution := s.decode()
	checkpoint := p.engine.Begin(execution)
	if s.call > 0 || s.deliveries > 1 {
		var err error
		if checkpoint, err = s.takeOver(ctx, execution); err != nil {
			if hasEnded(err) && s.damage == nil { // its worker may have died before it gave the slots back
				execution.Recipe, _ = s.recipes.Recipe(ctx, recipeOf(execution))
			}
			return s.settle(ctx, execution, err)
		}
	}
	ctx, leave := p.live.enter(ctx, execution)
	defer leave()
	completion, err := s.run(ctx, execution, checkpoint)
	if err == nil {
		err = s.complete(ctx, completion)
	}
	return s.settle(ctx, execution, err)
}

// settle gives the verdict when this worker is through with the execution, which has ended unless there is an error.
func (s *session) settle(ctx context.Context, execution *engine.Execution, err error) (outcome verdict, reason error) {
	switch {
	case err != nil:
		outcome, reason = s.conclude(ctx, err)
	case s.damage != nil:
		outcome, reason = dead, s.damage
	default:
		outcome = done
	}
	if failed := s.leaveSlots(execution, err); failed != nil && outcome == done {
		return later, failed
	}
	return outcome, reason
}

// decode reads the request. Damaged data was paid for all the same, so what the headers tell is enough to end the execution.
func (s *session) decode() *engine.Execution {
	header, ids := s.record.Header, s.execution
	execution := &engine.Execution{TraceParent: header.Get(event.HeaderTraceParent)}
	data := struct {
		*event.Funding
		Input map[string]any `json:"input_data"`
	}{Funding: &execution.Funding}
	err := json.Unmarshal(s.record.Data, &data)
	if err == nil && (execution.ExecutionID != ids.ID || execution.CustomerID != ids.Customer) {
		err = errors.New("the ids in the data are not those of the subject")
	}
	if err == nil {
		execution.Input = data.Input
		return execution
	}
	s.damage = fmt.Errorf("decode funded event: %w", err)
	recipe, _ := s.record.Recipe()
	execution.Funding = event.Funding{Request: event.Request{
		ExecutionID: ids.ID, CustomerID: ids.Customer,
		AgentID: recipe.AgentID, RecipeID: recipe.RecipeID, RecipeVersion: recipe.Version,
	}}
	return execution
}

func (s *session) run(ctx context.Context, execution *engine.Execution, from event.Checkpoint) (engine.Completion, error) {
	if s.damage != nil {
		s.log.Error().Err(s.damage).Str("execution", execution.ExecutionID).Msg("execution cannot be read and fails")
		return s.engine.Refuse(execution, from, &problem.Error{Code: problem.Internal, Message: "what is stored of the execution is damaged"})
	}
	var err error
	execution.Recipe, err = s.recipes.Recipe(ctx, recipeOf(execution))
	if errors.Is(err, catalogue.ErrUnavailable) {
		s.log.Error().Err(err).Str("execution", execution.ExecutionID).Msg("recipe version not available, the execution fails")
		return s.engine.Refuse(execution, from, &problem.Error{
			Code: problem.RecipeUnavailable, Message: "the recipe version of this execution cannot be found",
		})
	}
	if err != nil {
		return engine.Completion{}, err
	}
	err = s.enter(ctx, execution, &from)
	if refused, ok := errors.AsType[*problem.Error](err); ok {
		return s.engine.Refuse(execution, from, refused)
	}
	if err != nil {
		return engine.Completion{}, err
	}
	return s.engine.Run(ctx, execution, from, s)
}

func recipeOf(execution *engine.Execution) catalogue.Key {
	return catalogue.Key{
		Customer: execution.CustomerID, Agent: execution.AgentID, Recipe: execution.RecipeID, Version: execution.RecipeVersion,
	}
}

// conclude turns the error that stopped this worker into a verdict.
func (s *session) conclude(ctx context.Context, err error) (verdict, error) {
	var moved *journal.MovedError
	switch isMoved := errors.As(err, &moved); {
	case isMoved && moved.Last.Kind == event.Completed:
		s.reply(ctx, moved.Last.Header, moved.Last.Data)
		return done, nil
	case errors.Is(err, engine.ErrParked), errors.Is(err, errElsewhere), errors.Is(err, errEnded):
		return done, nil
	case isMoved && moved.Last.Sequence == 0, errors.Is(err, journal.ErrNotFound):
		return dead, err // the journal was lost or made anew
	case isMoved, errors.Is(err, errNotHeld):
		return leave, err
	case errors.Is(err, engine.ErrInterrupted):
		return handOver, err
	}
	return later, err
}

// reply tells the caller who waits. A reply that is lost is no failure of the execution: the caller finds it in the journal.
func (s *session) reply(ctx context.Context, header nats.Header, data []byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), replyTime)
	defer cancel()
	if err := s.journal.Reply(ctx, s.record.Header, header, data); err != nil {
		s.log.Warn().Err(err).Str("execution", s.execution.ID).Msg("caller not told")
	}
}
