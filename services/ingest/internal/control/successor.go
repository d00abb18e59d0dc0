package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
)

// Wish is how another execution is to follow from one that has ended.
type Wish struct {
	Verb event.Verb
	// Version is what the new execution runs; 0 for the version that the old one ran.
	Version int
	// Step is where a VerbRerunFrom begins.
	Step string
}

// Successor gives the command for an execution of the same recipe and input that follows from one that has ended. What the old one does
// not allow is a CONFLICT.
func (c *Controller) Successor(ctx context.Context, execution subject.Execution, wish Wish) (accept.Command, error) {
	old, err := c.past(ctx, execution)
	if err != nil {
		return accept.Command{}, expired(err, conflict("the journal of execution %s has expired, it can no longer be followed", execution.ID))
	}
	if wish.Verb == event.VerbResume && old.status() != event.StatusFailed {
		return accept.Command{}, conflict("only a failed execution can be resumed, %s ended as %s", execution.ID, old.status())
	}
	command := accept.Command{
		Customer: execution.Customer, Agent: old.request.AgentID, Recipe: old.request.RecipeID, Version: wish.Version,
		Input: old.request.Input, Origin: &event.Origin{ExecutionID: execution.ID, Verb: wish.Verb, Step: wish.Step},
	}
	if command.Version == 0 {
		command.Version = old.request.RecipeVersion
	}
	if wish.Verb == event.VerbRerun {
		return command, nil
	}
	pinned, err := c.Catalogue.Resolve(ctx, command.Customer, command.Agent, command.Recipe, command.Version)
	if err != nil {
		return accept.Command{}, err
	}
	keeping := &keeping{steps: pinned.Recipe.Steps, version: pinned.Version, failed: old.failedStep()}
	var from progress
	if wish.Verb == event.VerbResume {
		from, err = c.latest(ctx, old)
	} else {
		place := keeping.place(wish.Step)
		if place < 0 {
			return accept.Command{}, accept.Malformed("/from_step", fmt.Sprintf("is not a step of version %d of the recipe", pinned.Version))
		}
		from, err = c.before(ctx, old, func(id string) bool { return keeping.place(id) < place })
	}
	if err != nil {
		return accept.Command{}, expired(err, conflict("the journal of an execution that %s goes on from has expired", execution.ID))
	}
	command.Origin.State, command.Origin.Steps = from.state, keeping.keep(&from)
	if err := keeping.check(pinned.Recipe.Stages); err != nil {
		return accept.Command{}, err
	}
	if wish.Verb == event.VerbResume {
		command.Origin.Step = keeping.begin()
	}
	return command, nil
}

// Followed records that an execution follows from another one. The successor stands: an activity that cannot be stored is logged, and what
// it would tell is in the journal of the successor.
func (c *Controller) Followed(ctx context.Context, execution, successor subject.Execution, wish Wish, author Author) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer stop()
	after := map[string]any{"execution_id": successor.ID}
	if wish.Version != 0 {
		after["version"] = wish.Version
	}
	if wish.Step != "" {
		after["from_step"] = wish.Step
	}
	entry := activity.Entry{Action: event.ActionExecutionRerun, Author: author, After: after}
	if wish.Verb == event.VerbResume {
		entry.Action = event.ActionExecutionResumed
	}
	err := c.transact(ctx, execution.Customer, func(tx pgx.Tx) error { return c.record(ctx, tx, execution, entry) })
	if err != nil {
		c.Log.Warn().Err(err).Str("execution", successor.ID).Msg("accepted, but cannot record the activity")
	}
}

// past is an execution that has ended, as the journal has it.
type past struct {
	execution subject.Execution
	request   event.Request
	end       journal.Record
}

func (c *Controller) past(ctx context.Context, execution subject.Execution) (*past, error) {
	last, err := c.last(ctx, execution)
	if err != nil {
		return nil, err
	}
	if last.Kind != event.Completed {
		return nil, conflict("execution %s has not ended: cancel it, or wait for its end", execution.ID)
	}
	first, err := c.first(ctx, execution)
	if err != nil {
		return nil, err
	}
	p := &past{execution: execution, end: last}
	if err := json.Unmarshal(first.Data, &p.request); err != nil {
		return nil, fmt.Errorf("decode %s: %w", first.ID(), err)
	}
	return p, nil
}

func (p *past) status() event.Status {
	return event.Status(p.end.Header.Get(event.HeaderStatus))
}

// charged tells whether the prices of the steps were kept.
func (p *past) charged() bool {
	return p.status() != event.StatusFailed
}

// failedStep is the step that ended a failed execution; empty when no single one did.
func (p *past) failedStep() string {
	var response event.Response
	if p.charged() || json.Unmarshal(p.end.Data, &response) != nil || len(response.Errors) == 0 {
		return ""
	}
	return response.Errors[0].Step
}

// progress is how far an execution had come at some moment.
type progress struct {
	state map[string]any
	steps []event.StepOutcome
	// charged tells that the outcomes are paid for: by the execution itself, or by one that went on from it.
	charged bool
}

// latest is how far an execution had come in the end, as far as that is durable.
func (c *Controller) latest(ctx context.Context, old *past) (progress, error) {
	var last journal.Record
	for record, err := range c.Journal.Events(ctx, old.execution) {
		if err != nil {
			return progress{}, unread(err)
		}
		if record.Kind.HasCheckpoint() && !record.WaitsForCredits() {
			last = record
		}
	}
	if last.Sequence == 0 {
		return old.beginning(), nil
	}
	return old.at(&last)
}

// before is how far an execution had come when every outcome was one that may be kept. Where it began with more than that, the
// execution that it went on from is looked at.
func (c *Controller) before(ctx context.Context, old *past, may func(step string) bool) (progress, error) {
	only := func(p progress) bool {
		return !slices.ContainsFunc(p.steps, func(outcome event.StepOutcome) bool { return !may(outcome.ID) })
	}
	charged := false
	for {
		found := old.beginning()
		if only(found) {
			for record, err := range c.Journal.Events(ctx, old.execution) {
				if err != nil {
					return progress{}, unread(err)
				}
				if !record.Kind.HasCheckpoint() || record.WaitsForCredits() {
					continue
				}
				next, err := old.at(&record)
				if err != nil {
					return progress{}, err
				}
				if !only(next) {
					break
				}
				found = next
			}
			found.charged = found.charged || charged
			return found, nil
		}
		charged = charged || old.charged()
		var err error
		old, err = c.past(ctx, subject.Execution{Customer: old.execution.Customer, ID: old.request.Origin.ExecutionID})
		if err != nil {
			return progress{}, err
		}
	}
}

// beginning is what an execution took over from another one.
func (p *past) beginning() progress {
	if p.request.Origin == nil {
		return progress{}
	}
	return progress{state: p.request.Origin.State, steps: p.request.Origin.Steps, charged: p.charged()}
}

func (p *past) at(record *journal.Record) (progress, error) {
	checkpoint, _, err := record.Checkpoint()
	if err != nil {
		return progress{}, err
	}
	return progress{state: checkpoint.State, steps: checkpoint.Steps, charged: p.charged()}, nil
}

// unread is the error of a journal that may expire while it is read.
func unread(err error) error {
	if errors.Is(err, journal.ErrNotFound) {
		return errExpired
	}
	return unavailable(err)
}

// keeping decides which outcomes of an execution another one keeps, for the version of the recipe that it runs.
type keeping struct {
	// steps are those of the recipe, in the order of the document.
	steps   []*recipe.Step
	version int
	// failed is the step that ended the earlier execution.
	failed string
	kept   []event.StepOutcome
}

// place is where a step stands in the document, -1 for one that is not there.
func (k *keeping) place(id string) int {
	return slices.IndexFunc(k.steps, func(step *recipe.Step) bool { return step.ID == id })
}

// keep takes over what is done: all but the failure that ended the execution. Of a foreach that is under way or has failed, what
// succeeded is done.
func (k *keeping) keep(from *progress) []event.StepOutcome {
	for _, outcome := range from.steps {
		open := outcome.Status == event.StepRunning || outcome.Status == event.StepFailed && !k.tolerated(outcome.ID)
		if open {
			if outcome.Items = succeeded(outcome.Items); len(outcome.Items) == 0 {
				continue
			}
			outcome = event.StepOutcome{
				StepSummary: event.StepSummary{
					ID: outcome.ID, Status: event.StepRunning, DurationMS: outcome.DurationMS, Metered: outcome.Metered,
				},
				Items: outcome.Items,
			}
		}
		paid := from.charged || outcome.Metered
		// What was counted is in the response of the execution that did the work.
		outcome.Usage, outcome.Items = nil, slices.Clone(outcome.Items)
		if paid {
			outcome.Credits = 0
		}
		for i := range outcome.Items {
			outcome.Items[i].Usage = nil
			if paid {
				outcome.Items[i].Credits = 0
			}
		}
		k.kept = append(k.kept, outcome)
	}
	return k.kept
}

// tolerated tells whether the execution went on after the failure of a step.
func (k *keeping) tolerated(id string) bool {
	place := k.place(id)
	return id != k.failed && place >= 0 && k.steps[place].OnError == recipe.OnErrorContinue
}

func succeeded(items []event.ItemOutcome) []event.ItemOutcome {
	return slices.DeleteFunc(slices.Clone(items), func(item event.ItemOutcome) bool { return item.Status == event.StepFailed })
}

// done tells whether a step is kept, and whether wholly.
func (k *keeping) done(id string) (kept, wholly bool) {
	i := slices.IndexFunc(k.kept, func(outcome event.StepOutcome) bool { return outcome.ID == id })
	return i >= 0, i >= 0 && k.kept[i].Status != event.StepRunning
}

// begin is the first step that is run: the one that failed, unless that is done.
func (k *keeping) begin() string {
	if _, wholly := k.done(k.failed); k.place(k.failed) >= 0 && !wholly {
		return k.failed
	}
	for _, step := range k.steps {
		if _, wholly := k.done(step.ID); !wholly {
			return step.ID
		}
	}
	return ""
}

// check refuses what the recipe could not have come to: an outcome of a step that it does not have, or that it comes to only after one
// that is to be run.
func (k *keeping) check(stages []recipe.Stage) error {
	for i := range k.kept {
		id, place := k.kept[i].ID, k.place(k.kept[i].ID)
		if place < 0 {
			return conflict("step %s is done, and version %d of the recipe does not have it", id, k.version)
		}
		if k.kept[i].Status == event.StepRunning && k.steps[place].ForEach == nil {
			return conflict("step %s has done a part of its items, and in version %d of the recipe it has none", id, k.version)
		}
	}
	_, err := k.list(stages, "")
	return err
}

// list checks stages that follow one another, after a step that is to be run if waiting names one. It returns such a step.
func (k *keeping) list(stages []recipe.Stage, waiting string) (string, error) {
	for _, stage := range stages {
		if stage.Step != nil {
			kept, wholly := k.done(stage.Step.ID)
			switch {
			case kept && waiting != "":
				return "", conflict("step %s is done, and in version %d of the recipe it comes after %s, which is to be run", stage.Step.ID, k.version, waiting)
			case !wholly && waiting == "":
				waiting = stage.Step.ID
			}
		}
		after := waiting
		for _, branch := range stage.Branches {
			open, err := k.list(branch, waiting)
			if err != nil {
				return "", err
			}
			if after == "" {
				after = open
			}
		}
		waiting = after
	}
	return waiting, nil
}
