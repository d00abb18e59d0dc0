package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

// waitFor runs a step that waits. What it waits for was settled when it began: a checkpoint has it.
func (r *run) waitFor(ctx context.Context, t *turn, earlier *event.Wait) (any, error) {
	with, err := r.input(ctx, t, nil)
	if err != nil {
		return nil, err
	}
	fields, _ := with.(map[string]any)
	t.attempts = 1
	switch t.step.Kind {
	case recipe.KindWaitFor:
		duration, err := r.duration(fields, "duration")
		if err != nil {
			return nil, err
		}
		return r.waitUntil(ctx, t, t.began.Add(duration))
	case recipe.KindWaitUntil:
		text, _ := fields["time"].(string)
		until, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return nil, refused("%.100q is not a time of RFC 3339", text)
		}
		return r.waitUntil(ctx, t, until)
	case recipe.KindWaitEvent:
		name, _ := fields["name"].(string)
		if !subject.ValidID(name) {
			return nil, refused("%.100q is not the name of an event: a letter or digit, then up to 63 letters, digits, - and _", name)
		}
		w := t.wait(time.Time{})
		w.Event = name
		return r.waitSignal(ctx, fields, w, subject.SignalEvent, name)
	case recipe.KindApproval:
		w := t.wait(time.Time{})
		w.Approval, _ = fields["title"].(string)
		name := t.step.ID
		if t.item != nil {
			name += "." + strconv.Itoa(*t.item)
		}
		decision, err := r.waitSignal(ctx, fields, w, subject.SignalApproval, name)
		if err != nil {
			return nil, err
		}
		return decided(decision)
	case recipe.KindRecipeRun:
		return r.runChild(ctx, t, fields, earlier)
	default:
		return nil, &problem.Error{Code: problem.Internal, Message: "nothing waits for " + string(t.step.Kind)}
	}
}

func refused(format string, args ...any) *problem.Error {
	return &problem.Error{Code: problem.ComponentError, Message: fmt.Sprintf(format, args...)}
}

func (r *run) duration(fields map[string]any, name string) (time.Duration, error) {
	text, _ := fields[name].(string)
	duration, err := recipe.ParseDuration(text)
	if err != nil {
		return 0, refused("%s: %.100q is not a duration such as 30s, 5m or 1h30m", name, text)
	}
	return duration, nil
}

func (r *run) waitUntil(ctx context.Context, t *turn, until time.Time) (any, error) {
	if _, err := r.strands.await(ctx, &waiter{Wait: t.wait(until)}); err != nil {
		return nil, err
	}
	return map[string]any{"until": until.UTC().Format(time.RFC3339Nano)}, nil
}

// waitSignal waits for an event or a decision, as long as the time-out among the fields.
func (r *run) waitSignal(ctx context.Context, fields map[string]any, w event.Wait, kind subject.SignalKind, name string) (any, error) {
	timeout, err := r.duration(fields, "timeout")
	if err != nil {
		return nil, err
	}
	w.Until = w.Since.Add(timeout)
	var data []byte
	came, err := r.strands.await(ctx, &waiter{Wait: w, ready: func(ctx context.Context) (found bool, err error) {
		data, found, err = r.outside.Signal(ctx, r.execution.subject(), kind, name)
		return found, err
	}})
	if err != nil {
		return nil, err
	}
	if !came {
		return nil, &problem.Error{Code: problem.Timeout, Message: fmt.Sprintf("nothing came for %s", w.Until.Sub(w.Since).Round(time.Millisecond))}
	}
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		return nil, refused("what came is not JSON")
	}
	return value, nil
}

// decided gives a decision as the output of its step.
func decided(value any) (any, error) {
	decision, _ := value.(map[string]any)
	if approved, _ := decision["approved"].(bool); approved {
		return value, nil
	}
	message := "rejected"
	if comment, _ := decision["comment"].(string); comment != "" {
		message += ": " + comment
	}
	return nil, &problem.Error{Code: problem.Rejected, Message: message}
}

// runChild has another recipe run and waits for its end.
func (r *run) runChild(ctx context.Context, t *turn, fields map[string]any, earlier *event.Wait) (any, error) {
	w := t.wait(t.began.Add(t.step.Timeout))
	w.Execution = earlier.Execution
	begun := w.Execution == ""
	if begun {
		child, err := r.child(t, fields)
		if err != nil {
			return nil, err
		}
		if err := r.mayAct(ctx); err != nil {
			return nil, err
		}
		if w.Execution, err = r.outside.StartChild(ctx, child); err != nil {
			return nil, err
		}
	}
	id := subject.Execution{Customer: r.execution.CustomerID, ID: w.Execution}
	var data []byte
	ended, err := r.strands.await(ctx, &waiter{Wait: w, begun: begun, ready: func(ctx context.Context) (ended bool, err error) {
		data, ended, err = r.outside.ChildResponse(ctx, id)
		return ended, err
	}})
	switch {
	case err != nil:
		return nil, err
	case !ended:
		return nil, &problem.Error{Code: problem.Timeout, Message: fmt.Sprintf("the execution %s has not ended within %s", id.ID, t.step.Timeout)}
	}
	return childOutput(id.ID, data)
}

func (r *run) child(t *turn, fields map[string]any) (*query.StartRequest, error) {
	child := &query.StartRequest{
		CustomerID: r.execution.CustomerID, Key: r.execution.ExecutionID + "/" + t.step.ID, Actor: r.execution.Actor,
		Parent: event.Parent{ExecutionID: r.execution.ExecutionID, Step: t.step.ID, Depth: 1}, TraceParent: r.execution.TraceParent,
	}
	if t.item != nil {
		child.Key += "/" + strconv.Itoa(*t.item)
	}
	if parent := r.execution.Parent; parent != nil {
		child.Parent.Depth = parent.Depth + 1
	}
	if child.Parent.Depth > event.MaxDepth {
		return nil, &problem.Error{Code: problem.TooDeep, Message: fmt.Sprintf("executions run executions at most %d levels deep", event.MaxDepth)}
	}
	child.AgentID, _ = fields["agent"].(string)
	child.RecipeID, _ = fields["recipe"].(string)
	version, _ := fields["version"].(float64)
	child.Version = int(version)
	input := fields["input"]
	if input == nil {
		input = map[string]any{}
	}
	var err error
	if child.Input, err = event.Encode(input); err != nil {
		return nil, fmt.Errorf("encode the input of a child: %w", err)
	}
	return child, nil
}

// childOutput is the response of an execution as the output of the step that ran it. When that failed, so does the step.
func childOutput(id string, data []byte) (any, error) {
	var output map[string]any
	var response event.Response
	if err := errors.Join(json.Unmarshal(data, &output), json.Unmarshal(data, &response)); err != nil {
		return nil, fmt.Errorf("decode the response of execution %s: %w", id, err)
	}
	if response.Status != event.StatusFailed {
		return output, nil
	}
	message := "execution " + id + " has failed"
	if len(response.Errors) > 0 {
		message += ": " + response.Errors[0].Error()
	}
	return nil, &problem.Error{Code: problem.ChildFailed, Message: message}
}
