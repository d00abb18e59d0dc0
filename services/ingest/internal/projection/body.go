package projection

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
)

// Links are what an execution waits for and how it belongs to others.
type Links struct {
	Waits  []event.Wait  `json:"waits,omitempty" doc:"What the execution waits for"`
	Origin *Origin       `json:"origin,omitempty" doc:"The execution that this one goes on from or repeats"`
	Parent *event.Parent `json:"parent,omitempty" doc:"The step of another execution that runs this one"`
}

// Origin is an event.Origin without what is kept.
type Origin struct {
	ExecutionID string     `json:"execution_id"`
	Verb        event.Verb `json:"verb" enum:"rerun,rerun_from,resume"`
	Step        string     `json:"step,omitempty" doc:"Where this execution began; absent for a rerun"`
}

// Standing is what a caller gets: the standard response, also for an execution that has not ended, with its links.
type Standing struct {
	event.Response
	Links
}

// links reads the links of an execution that has ended.
func (r *Reader) links(ctx context.Context, execution subject.Execution) (Links, error) {
	first, err := r.journal.First(ctx, execution)
	if errors.Is(err, journal.ErrNotFound) {
		return Links{}, nil
	}
	if err != nil {
		return Links{}, err
	}
	return linksOf(&first)
}

func linksOf(accepted *journal.Record) (Links, error) {
	var links Links
	if err := json.Unmarshal(accepted.Data, &links); err != nil {
		return Links{}, fmt.Errorf("decode %s: %w", accepted.ID(), err)
	}
	return links, nil
}

// progress tells what is done of an execution that has not ended, and what it waits for when it waits.
func (e *Execution) progress(last *journal.Record) error {
	checkpoint, _, err := last.Checkpoint()
	if err != nil {
		return err
	}
	for i := range checkpoint.Steps {
		e.Steps = append(e.Steps, checkpoint.Steps[i].StepSummary)
	}
	if last.Kind == event.Waiting {
		e.Links.Waits = checkpoint.Waits
	}
	return nil
}

// price tells what an execution that has not ended may cost, and whether that is debited.
func (e *Execution) price(accepted, last *journal.Record) error {
	quoted, err := accepted.Credits()
	if err != nil {
		return err
	}
	e.Receipt.Quoted = credit.Micro(quoted)
	if last.Kind != event.Accepted && !last.WaitsForCredits() {
		e.Receipt.Debited = e.Receipt.Quoted
	}
	return nil
}

// Body encodes a Standing. The response of an execution that has ended is passed on as it stands in the journal, its links behind it.
func (e *Execution) Body() ([]byte, error) {
	links, err := json.Marshal(e.Links)
	if err != nil {
		return nil, fmt.Errorf("encode links: %w", err)
	}
	response := e.Response
	if response == nil {
		response, err = json.Marshal(event.Response{
			RecipeID: e.RecipeID, AgentID: e.AgentID, RecipeVersion: e.RecipeVersion, ExecutionID: e.ExecutionID,
			CustomerID: e.CustomerID, Status: e.Status, Data: json.RawMessage("null"),
			Metadata: event.Metadata{
				Receipt: e.Receipt, Timestamp: e.AcceptedAt, Steps: append([]event.StepSummary{}, e.Steps...),
			},
			Errors: []problem.Error{},
		})
		if err != nil {
			return nil, fmt.Errorf("encode response: %w", err)
		}
	}
	open := bytes.TrimSuffix(bytes.TrimSpace(response), []byte("}"))
	if len(links) == len("{}") || len(open) == len(response) {
		return response, nil
	}
	return append(append(bytes.Clone(open), ','), links[1:]...), nil
}
