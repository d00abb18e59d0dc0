// Package ending makes the event that ends an execution from outside: by whoever cancels it, or because nobody else does.
package ending

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
)

// End is the event that ends an execution.
type End struct {
	journal.Entry
	// Children are the executions whose ends steps waited for.
	Children []string
}

// Failed is the end of an execution as failed for a reason, after its last event. Nothing is charged but what was measured. first is its
// accepted event.
func Failed(first, last *journal.Record, reason problem.Error, actor event.Actor, now time.Time) (*End, error) {
	recipe, err := first.Recipe()
	if err != nil {
		return nil, err
	}
	began := first.Stored
	checkpoint, found, err := last.Checkpoint()
	if err != nil {
		return nil, err
	}
	if found {
		began = checkpoint.StartedAt
	}
	response := event.Response{
		RecipeID: recipe.RecipeID, AgentID: recipe.AgentID, RecipeVersion: recipe.Version, ExecutionID: first.Execution.ID,
		CustomerID: first.Execution.Customer, Status: event.StatusFailed, Data: json.RawMessage("null"),
		Metadata: event.Metadata{
			DurationMS: max(0, now.Sub(began).Milliseconds()), Timestamp: now, Steps: make([]event.StepSummary, 0, len(checkpoint.Steps)),
		},
		Errors: []problem.Error{reason},
	}
	for i := range checkpoint.Steps {
		step := cutOff(&checkpoint.Steps[i])
		if step.Attempts > 0 {
			response.Metadata.ComponentsExecuted++
		}
		response.Metadata.Steps = append(response.Metadata.Steps, step)
	}
	quoted, err := first.Credits()
	if err != nil {
		return nil, err
	}
	debited := quoted
	if last.Kind == event.Accepted || last.WaitsForCredits() {
		debited = 0 // if billing is taking it at this moment, it gives all of it back
	}
	response.Metadata.Settle(response.Metadata.GiveBack(), credit.Micro(quoted), credit.Micro(debited))
	data, err := json.Marshal(response)
	if err != nil {
		return nil, fmt.Errorf("encode response: %w", err)
	}
	end := &End{Entry: journal.Entry{
		Execution: first.Execution, Kind: event.Completed, Expect: last.Sequence, Source: query.ServiceIngest, Time: now,
		Header: endHeader(first, &response, actor), Data: data,
	}}
	for _, wait := range checkpoint.Waits {
		if wait.Execution != "" {
			end.Children = append(end.Children, wait.Execution)
		}
	}
	return end, nil
}

// cutOff is what the response tells of a step. A foreach under way has failed with the items that it had.
func cutOff(outcome *event.StepOutcome) event.StepSummary {
	step := outcome.StepSummary
	if step.Status != event.StepRunning {
		return step
	}
	step.Status, step.Attempts, step.Items = event.StepFailed, 0, &event.ItemCount{Total: len(outcome.Items)}
	step.Credits, step.Usage = 0, nil
	for i := range outcome.Items {
		step.Attempts += outcome.Items[i].Attempts
		step.Credits += outcome.Items[i].Credits
		step.Usage = step.Usage.Plus(outcome.Items[i].Usage)
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
		event.HeaderSubject: first.Header.Get(event.HeaderSubject), event.HeaderActor: actor.String(),
		event.HeaderCredits: strconv.FormatInt(int64(response.Metadata.CreditsConsumed), 10),
		event.HeaderStatus:  string(response.Status), event.HeaderCode: string(response.Errors[0].Code),
		event.HeaderDuration:    strconv.FormatInt(response.Metadata.DurationMS, 10),
		event.HeaderTraceParent: first.Header.Get(event.HeaderTraceParent), event.HeaderSteps: response.Steps(),
	} {
		if value != "" {
			header[name] = []string{value}
		}
	}
	return header
}
