package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

// end ends an execution that nobody has ended by its deadline: failed, TIMEOUT, nothing charged. When it moves on meanwhile it is not
// stuck, and is left alone.
func (w *Watch) end(ctx context.Context, execution subject.Execution) error {
	last, err := w.journal.Last(ctx, execution)
	if err != nil {
		return err
	}
	if last.Kind == event.Completed {
		return nil
	}
	first, err := w.journal.First(ctx, execution)
	if err != nil {
		return err
	}
	response, err := w.response(&first, &last)
	if err != nil {
		return err
	}
	data, err := json.Marshal(response)
	if err != nil {
		return fmt.Errorf("encode response: %w", err)
	}
	header := endHeader(&first, &response)
	result := w.journal.Append(ctx, journal.Entry{
		Execution: execution, Kind: event.Completed, Expect: last.Sequence, Source: query.ServiceIngest, Time: w.clock(),
		Header: header, Data: data,
	})[0]
	var moved *journal.MovedError
	switch {
	case errors.As(result.Err, &moved):
		return nil
	case result.Err != nil:
		return result.Err
	}
	// The end stands. Those who miss it find it in the journal.
	err = errors.Join(w.journal.Reply(ctx, first.Header, header, data), w.bus.Conn.Publish(execution.Notify(), nil))
	if err != nil {
		w.log.Warn().Err(err).Str("execution", execution.ID).Msg("ended, but not everybody was told")
	}
	return nil
}

func (w *Watch) response(first, last *journal.Record) (event.Response, error) {
	recipe, err := event.ParseRecipeVersion(first.Header.Get(event.HeaderSubject))
	if err != nil {
		return event.Response{}, fmt.Errorf("event %s: %w", first.ID(), err)
	}
	began := first.Stored
	var checkpoint event.Checkpoint
	switch last.Kind {
	case event.Started, event.Step, event.Waiting:
		if err := json.Unmarshal(last.Data, &checkpoint); err != nil {
			return event.Response{}, fmt.Errorf("decode %s: %w", last.ID(), err)
		}
		began = checkpoint.StartedAt
	case event.Accepted, event.Funded, event.Completed:
	}
	now := w.clock()
	response := event.Response{
		RecipeID: recipe.RecipeID, AgentID: recipe.AgentID, RecipeVersion: recipe.Version, ExecutionID: first.Execution.ID,
		CustomerID: first.Execution.Customer, Status: event.StatusFailed, Data: json.RawMessage("null"),
		Metadata: event.Metadata{
			DurationMS: max(0, now.Sub(began).Milliseconds()), Timestamp: now, Steps: make([]event.StepSummary, 0, len(checkpoint.Steps)),
		},
		Errors: []problem.Error{{Code: problem.Timeout, Message: "the execution has not ended before its deadline", Retryable: true}},
	}
	for i := range checkpoint.Steps {
		step := cutOff(&checkpoint.Steps[i])
		if step.Attempts > 0 {
			response.Metadata.ComponentsExecuted++
		}
		response.Metadata.Steps = append(response.Metadata.Steps, step)
	}
	return response, nil
}

// cutOff is what the response tells of a step. Prices are given back, and a foreach under way has come to nothing.
func cutOff(outcome *event.StepOutcome) event.StepSummary {
	step := outcome.StepSummary
	step.Credits = 0
	if step.Status == event.StepRunning {
		step.Status, step.Attempts = event.StepFailed, 0
		for i := range outcome.Items {
			step.Attempts += outcome.Items[i].Attempts
		}
	}
	return step
}

func endHeader(first *journal.Record, response *event.Response) nats.Header {
	header := journal.NewHeader()
	actor := event.Actor{Type: "service", ID: query.ServiceIngest}
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
