package workercall

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/galley-engine/galley/schemas/call"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// phase is how far a call has come.
type phase int

const (
	// asking: whoever works on the call from an earlier attempt is asked to answer here.
	asking phase = iota
	// called: the call was made, and no sign of life came yet.
	called
	// working: a worker works on it.
	working
	// missing: the worker was not heard of for too long, and is asked whether it is still there.
	missing
	// pausing: the worker gave the call back, or there is none, and it is about to be made again.
	pausing
)

// talk is one call, from the question whether somebody works on it already to its outcome.
type talk struct {
	*Component
	call   *component.Call
	waiter *waiter
	// control and progress are subjects.
	control, progress string

	phase phase
	// timer ends the phase.
	timer *time.Timer
	// absent is for how long there was no worker.
	absent time.Duration
	// told counts what was passed on to those who watch the execution.
	told int
}

func (t *talk) run(ctx context.Context) (component.Result, error) {
	t.timer = time.NewTimer(t.patience.Attach)
	defer t.timer.Stop()
	if err := t.ask(ctx); err != nil {
		return component.Result{}, err
	}
	for {
		select {
		case <-ctx.Done():
			if news := t.waiter.take(); news.answer != nil {
				return answer(news.answer.Data)
			}
			return component.Result{}, t.abandon(ctx)
		case <-t.waiter.news:
			news := t.waiter.take()
			t.pass(news.progress)
			if news.answer != nil {
				return answer(news.answer.Data)
			}
			if err := t.react(ctx, news); err != nil {
				return component.Result{}, err
			}
		case <-t.timer.C:
			if err := t.goOn(ctx); err != nil {
				return component.Result{}, err
			}
		}
	}
}

func (t *talk) enter(next phase, patience time.Duration) {
	t.phase = next
	t.timer.Reset(patience)
}

// ask has whoever works on the call answer here as well. The server says at once when there is nobody.
func (t *talk) ask(ctx context.Context) error {
	return t.tell(call.Control{Attach: true, TimeoutMS: t.timeout(ctx).Milliseconds()}, t.waiter.question)
}

// send makes the call.
func (t *talk) send(ctx context.Context) error {
	message, err := t.request(ctx)
	if err != nil {
		return err
	}
	t.enter(called, t.patience.First)
	return t.publish(message)
}

// react goes on after what was heard, which is no answer.
func (t *talk) react(ctx context.Context, news heard) error {
	switch {
	case news.flood:
		_ = t.tell(call.Control{Cancel: true, Reason: call.ReasonCancelled}, "")
		return component.Failure(problem.ComponentError, "the worker sent more than %d messages in %s", maxSigns, window)
	case news.busy:
		t.absent = 0
		t.enter(pausing, t.patience.Again)
	case news.alive:
		t.absent = 0
		t.enter(working, t.patience.Silence)
	case news.unserved && t.phase != working:
		if t.absent += t.patience.Again; t.absent > t.patience.Absent {
			return component.Retryable(problem.WorkerUnavailable, "no worker serves %s", t.worker())
		}
		t.enter(pausing, t.patience.Again)
	case news.unworked && t.phase == asking:
		return t.send(ctx)
	case news.unworked && t.phase == missing:
		return t.lost()
	}
	return nil
}

// goOn goes on when the time of the phase is over.
func (t *talk) goOn(ctx context.Context) error {
	switch t.phase {
	case asking:
		return t.send(ctx)
	case pausing:
		t.enter(asking, t.patience.Attach)
		return t.ask(ctx)
	case called, working:
		t.enter(missing, t.patience.Attach)
		if t.ask(ctx) != nil {
			// Without a connection nobody can be heard. That is not the worker's fault, and the step's time-out bounds it.
			t.enter(working, t.patience.Silence)
		}
	case missing:
		return t.lost()
	}
	return nil
}

func (t *talk) lost() error {
	return component.Retryable(problem.WorkerLost, "the worker that got the call was not heard of any more: one that works sends a heartbeat every %s",
		call.Heartbeat)
}

// abandon tells the worker that nobody waits any more, unless this process stops: then the next one asks for the call. Whoever ends a step or an
// execution gives a cause for it; nobody does who stops a process.
func (t *talk) abandon(ctx context.Context) error {
	if !errors.Is(context.Cause(ctx), context.Canceled) {
		reason := call.ReasonCancelled
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			reason = call.ReasonTimeout
		}
		_ = t.tell(call.Control{Cancel: true, Reason: reason}, "") // a worker that does not hear it stops at its deadline
	}
	return component.Retryable(problem.Timeout, "the worker had no result in time")
}

// pass tells whoever watches the execution what the worker told.
func (t *talk) pass(texts []string) {
	for _, text := range texts {
		text = t.call.Public(text)
		t.told++
		data, err := json.Marshal(told{Step: t.call.Step, Item: t.call.Item, Attempt: t.call.Attempt, Sequence: t.told, Text: text})
		if err == nil {
			_ = t.conn.Publish(t.progress, data) // whoever watches may miss something
		}
	}
}

// told is what is published of a worker's progress.
type told struct {
	Step     string `json:"step"`
	Item     *int   `json:"item,omitempty"`
	Attempt  int    `json:"attempt"`
	Sequence int    `json:"sequence"`
	Text     string `json:"text"`
}
