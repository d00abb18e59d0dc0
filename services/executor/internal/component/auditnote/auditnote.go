// Package auditnote runs audit.note: an entry of a recipe's own in the audit log. It publishes an activity, which the service audit
// appends to its log like every other.
//
// The id of the event is made of the call's idempotency key, so however often the step is tried, the log has the entry once. The actor is
// the execution; who asked for that is among the changes.
package auditnote

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// Kind is the kind of this package.
const Kind recipe.Kind = "audit.note"

const (
	// maxData is the size of the data, as JSON.
	maxData  = 8 << 10
	patience = 5 * time.Second

	// resourceNote keeps the actions of recipes apart from those of galley itself.
	resourceNote      = "note"
	resourceExecution = "execution"
	outcome           = "success"
)

// Component is audit.note.
type Component struct {
	bus   *bus.Bus
	clock clock.Clock
}

// New makes the component.
func New(messages *bus.Bus, now clock.Clock) *Component {
	return &Component{bus: messages, clock: now}
}

type input struct {
	Action       string         `json:"action"`
	ResourceType string         `json:"resource_type"`
	ResourceID   string         `json:"resource_id"`
	Message      string         `json:"message"`
	Data         map[string]any `json:"data"`
}

// changes are those of the activity: there was nothing before.
type changes struct {
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
	Step    string          `json:"step"`
	// RequestedBy is who asked for the execution.
	RequestedBy event.Actor `json:"requested_by"`
}

// Execute publishes the activity, and waits until it is stored.
func (c *Component) Execute(ctx context.Context, call *component.Call) (component.Result, error) {
	with, err := component.Input[input](call)
	if err != nil {
		return component.Result{}, err
	}
	// A further point in it would be a subject of somebody else.
	if !subject.ValidID(with.Action) {
		return component.Result{}, component.Failure(problem.ComponentError, "action must be a word of small letters and _")
	}
	id := call.IdempotencyKey() + "/" + resourceNote
	message, err := c.message(call, &with, id)
	if err != nil {
		return component.Result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := c.bus.JS.PublishMsg(ctx, message, jetstream.WithMsgID(id)); err != nil {
		return component.Result{}, problem.Public(err, "the entry cannot be stored at the moment")
	}
	return component.Result{Output: map[string]any{"event_id": id}}, nil
}

func (c *Component) message(call *component.Call, with *input, id string) (*nats.Msg, error) {
	now := c.clock().UTC()
	activity := event.Activity{
		CustomerID: call.Execution.Customer, ActionType: event.NotePrefix + with.Action,
		ResourceType: with.ResourceType, ResourceID: with.ResourceID,
		Actor: event.Actor{Type: resourceExecution, ID: call.Execution.ID}, Outcome: outcome, OccurredAt: now,
	}
	if activity.ResourceType == "" || activity.ResourceID == "" {
		activity.ResourceType, activity.ResourceID = resourceExecution, call.Execution.ID
	}
	told := changes{Message: with.Message, Step: call.Step, RequestedBy: call.Actor}
	var err error
	if with.Data != nil {
		if told.Data, err = event.Encode(with.Data); err != nil {
			return nil, fmt.Errorf("encode data: %w", err)
		}
		if len(told.Data) > maxData {
			return nil, component.Failure(problem.StateTooLarge, "data is %d bytes as JSON, more than the %d that a note can hold", len(told.Data), maxData)
		}
	}
	// A recipe may note what it should not: what looks like a secret stays out.
	if activity.Changes, err = event.Changes(nil, told); err != nil {
		return nil, err
	}
	message := nats.NewMsg(subject.Activity(activity.CustomerID, activity.ActionType))
	if message.Data, err = event.Encode(activity); err != nil {
		return nil, fmt.Errorf("encode activity: %w", err)
	}
	for name, value := range map[string]string{
		event.HeaderSpecVersion: "1.0", event.HeaderID: id, event.HeaderType: event.TypeActivity,
		event.HeaderSource: "/galley/" + query.ServiceExecutor, event.HeaderTime: now.Format(time.RFC3339Nano),
		event.HeaderActor: activity.Actor.String(), event.HeaderTraceParent: call.TraceParent,
	} {
		if value != "" {
			message.Header.Set(name, value)
		}
	}
	return message, nil
}
