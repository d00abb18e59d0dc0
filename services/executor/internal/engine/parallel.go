package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
)

// maxItemErrors is how many failed items of one foreach the response names.
const maxItemErrors = 20

// branches runs lists of stages at the same time. When one of them ends the execution, the others begin nothing more.
func (r *run) branches(ctx context.Context, branches [][]recipe.Stage) error {
	return r.strands.each(len(branches), len(branches), func(i int) error { return r.stages(ctx, branches[i]) })
}

// forEach runs the items that are not done, and sums them up.
func (r *run) forEach(ctx context.Context, step *recipe.Step, outcome event.StepOutcome) (event.StepOutcome, error) {
	items, err := r.items(ctx, step)
	if failed, ok := errors.AsType[*problem.Error](err); ok {
		outcome.Status, outcome.Error = event.StepFailed, attribute(failed, step, 0)
		return outcome, nil
	}
	if err != nil {
		return outcome, err
	}
	began := r.clock()
	outcome.Status, outcome.Metered = event.StepRunning, step.Price.Metered()
	if err := r.record(step, &outcome); err != nil {
		return outcome, err
	}
	finished := make([]bool, len(items))
	for i := range outcome.Items {
		if index := outcome.Items[i].Index; index < len(items) {
			finished[index] = true
		}
	}
	remaining := make([]int, 0, len(items))
	for i := range items {
		if !finished[i] {
			remaining = append(remaining, i)
		}
	}
	width := step.ForEach.MaxParallel
	if !step.Effect() && !step.Waits() {
		width = 1 // nothing to wait for: strands would only take turns
	}
	err = r.each(len(remaining), width, func(i int) error {
		index := remaining[i]
		return r.item(ctx, step, &index, items[index])
	})
	if err != nil && !errors.Is(err, errItem) {
		return outcome, err
	}
	outcome, _ = r.known(step)
	r.sum(step, &outcome, len(items))
	outcome.DurationMS += max(0, r.clock().Sub(began).Milliseconds())
	return outcome, nil
}

// errItem says that an item has failed that may not: no other one is begun.
var errItem = errors.New("an item failed")

// each runs the items of a foreach.
func (r *run) each(n, width int, do func(i int) error) error {
	if width > 1 {
		return r.strands.each(n, width, do)
	}
	for i := range n {
		if err := do(i); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) items(ctx context.Context, step *recipe.Step) ([]any, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	items, err := step.ForEach.Items(ctx, &r.scope)
	if err != nil {
		return nil, r.evaluation(ctx, err)
	}
	return items, nil
}

// item runs one item and makes its outcome durable where the recipe asks for it.
func (r *run) item(ctx context.Context, step *recipe.Step, index *int, value any) error {
	if err := r.mayGoOn(ctx); err != nil {
		return err
	}
	outcome, err := r.turn(ctx, &turn{step: step, item: index, value: value})
	if err != nil {
		return err
	}
	if err := r.recordItem(step, &outcome); err != nil {
		return err
	}
	if outcome.Status == event.StepFailed && step.OnError == recipe.OnErrorFail {
		return errItem
	}
	if !step.Checkpoint {
		return nil
	}
	return r.checkpoint(ctx)
}

func (r *run) recordItem(step *recipe.Step, item *event.ItemOutcome) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writer.changes++
	outcome := r.outcome(step)
	outcome.Items = append(outcome.Items, *item)
	r.strands.done(step.ID, &item.Index)
	r.outputs += size(item.Output, MaxBytes)
	return r.checkSize()
}

// sum makes the outcome of a foreach of those of its items.
func (r *run) sum(step *recipe.Step, outcome *event.StepOutcome, total int) {
	outcome.Items = slices.Clone(outcome.Items)
	slices.SortFunc(outcome.Items, func(a, b event.ItemOutcome) int { return a.Index - b.Index })
	count := &event.ItemCount{Total: total}
	var charged credit.Micro
	outcome.Attempts, outcome.Error, outcome.Usage, outcome.Metered = 0, nil, nil, step.Price.Metered()
	for i := range outcome.Items {
		item := &outcome.Items[i]
		outcome.Attempts += item.Attempts
		charged += item.Credits
		outcome.Usage = outcome.Usage.Plus(item.Usage)
		if item.Status == event.StepFailed {
			count.Failed++
			if outcome.Error == nil {
				failed := itemError(item)
				outcome.Error = &failed
			}
			continue
		}
		count.Succeeded++
	}
	outcome.StepSummary.Items, outcome.Credits = count, charged
	switch {
	case count.Failed == 0:
		outcome.Status = event.StepSuccess
	case step.OnError == recipe.OnErrorFail || count.Succeeded == 0:
		outcome.Status = event.StepFailed
	default:
		outcome.Status = event.StepPartial
	}
}
