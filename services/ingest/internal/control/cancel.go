package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	maxText = 500
	// patience bounds how long a cancellation runs after an execution that moves on, and what follows it.
	patience = 10 * time.Second
)

// Cancel ends an execution wherever it is, and those that its steps wait for, and gives the response with which it ended. One that has
// ended, also while this tries, is EXECUTION_ENDED: the journal decides who came first. reason may be empty.
func (c *Controller) Cancel(ctx context.Context, execution subject.Execution, reason string, author Author) ([]byte, error) {
	if err := checkText("/reason", reason); err != nil {
		return nil, err
	}
	last, err := c.underWay(ctx, execution)
	if err != nil {
		return nil, err
	}
	first, err := c.first(ctx, execution)
	if err != nil {
		return nil, expired(err, ended(execution))
	}
	trying, stop := context.WithTimeout(ctx, patience)
	defer stop()
	for last.Kind != event.Completed {
		cancellation, err := c.cancellation(&first, &last, reason, author.Actor)
		if err != nil {
			return nil, err
		}
		result := c.journal.Append(trying, cancellation.Entry)[0]
		var moved *journal.MovedError
		switch {
		case result.Err == nil:
			following, stop := context.WithTimeout(context.WithoutCancel(ctx), patience)
			defer stop()
			c.tell(following, &first, cancellation, reason, author)
			return cancellation.Data, nil
		case trying.Err() != nil, !errors.As(result.Err, &moved), moved.Last.Sequence == 0:
			return nil, unavailable(result.Err)
		}
		last = moved.Last
	}
	return nil, ended(execution)
}

// cancellation is the event that ends an execution.
type cancellation struct {
	journal.Entry
	// children are the executions whose ends steps waited for.
	children []string
}

func (c *Controller) cancellation(first, last *journal.Record, reason string, actor event.Actor) (*cancellation, error) {
	recipe, err := event.ParseRecipeVersion(first.Header.Get(event.HeaderSubject))
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", first.ID(), err)
	}
	began := first.Stored
	var checkpoint event.Checkpoint
	if isCheckpoint(last.Kind) {
		if err := json.Unmarshal(last.Data, &checkpoint); err != nil {
			return nil, fmt.Errorf("decode %s: %w", last.ID(), err)
		}
		began = checkpoint.StartedAt
	}
	now := c.clock()
	response := event.Response{
		RecipeID: recipe.RecipeID, AgentID: recipe.AgentID, RecipeVersion: recipe.Version, ExecutionID: first.Execution.ID,
		CustomerID: first.Execution.Customer, Status: event.StatusFailed, Data: json.RawMessage("null"),
		Metadata: event.Metadata{
			DurationMS: max(0, now.Sub(began).Milliseconds()), Timestamp: now, Steps: make([]event.StepSummary, 0, len(checkpoint.Steps)),
		},
		Errors: []problem.Error{{Code: problem.Cancelled, Message: message(reason)}},
	}
	for i := range checkpoint.Steps {
		step := cutOff(&checkpoint.Steps[i])
		if step.Attempts > 0 {
			response.Metadata.ComponentsExecuted++
		}
		response.Metadata.Steps = append(response.Metadata.Steps, step)
	}
	data, err := json.Marshal(response)
	if err != nil {
		return nil, fmt.Errorf("encode response: %w", err)
	}
	end := &cancellation{Entry: journal.Entry{
		Execution: first.Execution, Kind: event.Completed, Expect: last.Sequence, Source: query.ServiceIngest, Time: now,
		Header: endHeader(first, &response, actor), Data: data,
	}}
	for _, wait := range checkpoint.Waits {
		if wait.Execution != "" {
			end.children = append(end.children, wait.Execution)
		}
	}
	return end, nil
}

func message(reason string) string {
	if reason == "" {
		return "the execution was cancelled"
	}
	return "the execution was cancelled: " + reason
}

// cutOff is what the response tells of a step. Prices are given back, and a foreach under way has failed with the items that it had.
func cutOff(outcome *event.StepOutcome) event.StepSummary {
	step := outcome.StepSummary
	step.Credits = 0
	if step.Status != event.StepRunning {
		return step
	}
	step.Status, step.Attempts, step.Items = event.StepFailed, 0, &event.ItemCount{Total: len(outcome.Items)}
	for i := range outcome.Items {
		step.Attempts += outcome.Items[i].Attempts
		if outcome.Items[i].Status == event.StepFailed {
			step.Items.Failed++
		} else {
			step.Items.Succeeded++
		}
	}
	return step
}

func endHeader(first *journal.Record, response *event.Response, actor event.Actor) nats.Header {
	header := journal.NewHeader()
	for name, value := range map[string]string{
		event.HeaderSubject: first.Header.Get(event.HeaderSubject), event.HeaderActor: actor.String(), event.HeaderCredits: "0",
		event.HeaderStatus: string(response.Status), event.HeaderCode: string(response.Errors[0].Code),
		event.HeaderDuration:    strconv.FormatInt(response.Metadata.DurationMS, 10),
		event.HeaderTraceParent: first.Header.Get(event.HeaderTraceParent),
	} {
		if value != "" {
			header[name] = []string{value}
		}
	}
	return header
}

func isCheckpoint(kind event.Kind) bool {
	return kind == event.Step || kind == event.Started || kind == event.Waiting
}

// tell tells everybody of the end: the caller and the execution that wait for this one, the process that works on it, the audit log
// and the executions that this one waited for. The end stands: what cannot be reached is logged, and finds out later from the journal.
func (c *Controller) tell(ctx context.Context, first *journal.Record, end *cancellation, reason string, author Author) {
	report := func(doing string, err error) {
		if err != nil {
			c.log.Warn().Err(err).Str("execution", end.Execution.ID).Msg("cancelled, but cannot " + doing)
		}
	}
	report("tell those who wait for it", c.journal.Reply(ctx, first.Header, end.Header, end.Data))
	report("notify the worker", c.bus.Conn.Publish(end.Execution.Notify(), nil))
	report("record the activity", c.transact(ctx, end.Execution.Customer, func(tx pgx.Tx) error {
		return c.record(ctx, tx, end.Execution, "cancelled", map[string]any{"reason": reason}, author)
	}))
	for _, child := range end.children {
		_, err := c.Cancel(ctx, subject.Execution{Customer: end.Execution.Customer, ID: child},
			"execution "+end.Execution.ID+", which ran it, was cancelled", author)
		if refused, ok := errors.AsType[*problem.Error](err); !ok || refused.Code != problem.ExecutionEnded {
			report("cancel the execution "+child, err)
		}
	}
}

// checkText checks what a person writes for people.
func checkText(path, text string) error {
	for _, r := range text {
		if r == utf8.RuneError || unicode.IsControl(r) {
			return invalid(path, "must not hold control characters")
		}
	}
	if utf8.RuneCountInString(text) > maxText {
		return invalid(path, fmt.Sprintf("must have at most %d characters", maxText))
	}
	return nil
}
