// Package outside is what executions reach of the rest of galley while they run: signals, other executions, secrets.
package outside

import (
	"context"
	"errors"
	"fmt"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/secret"
)

// Outside implements engine.Outside over NATS.
type Outside struct {
	bus     *bus.Bus
	journal *journal.Journal
	secrets *secret.Secrets
}

// New makes an Outside.
func New(messages *bus.Bus, secrets *secret.Secrets) *Outside {
	return &Outside{bus: messages, journal: journal.New(messages.Conn, messages.JS), secrets: secrets}
}

// Signal implements engine.Outside.
func (o *Outside) Signal(
	ctx context.Context, execution subject.Execution, kind subject.SignalKind, name string,
) (data []byte, found bool, err error) {
	return o.journal.Signal(ctx, execution, kind, name)
}

// StartChild implements engine.Outside. That ingest does not answer says nothing about the child: it is no *problem.Error then.
func (o *Outside) StartChild(ctx context.Context, child *query.StartRequest) (id string, err error) {
	started, err := bus.Ask[query.StartReply](ctx, o.bus, query.ServiceIngest, query.Start, child)
	if refused, ok := errors.AsType[*problem.Error](err); ok && refused.Retryable {
		return "", fmt.Errorf("start an execution: %s", refused.Error())
	}
	return started.ExecutionID, err
}

// ChildResponse implements engine.Outside.
func (o *Outside) ChildResponse(ctx context.Context, execution subject.Execution) (response []byte, ended bool, err error) {
	last, err := o.journal.Last(ctx, execution)
	switch {
	case errors.Is(err, journal.ErrNotFound):
		return nil, false, &problem.Error{Code: problem.ChildFailed, Message: "the journal of execution " + execution.ID + " has expired"}
	case err != nil:
		return nil, false, err
	}
	return last.Data, last.Kind == event.Completed, nil
}

// Secrets implements engine.Outside.
func (o *Outside) Secrets(ctx context.Context, customer string, names []string) (map[string]any, error) {
	return o.secrets.Lookup(ctx, customer, names)
}
