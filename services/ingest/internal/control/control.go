// Package control does what callers ask of an execution that exists: ends it, has another one go on from where it failed or repeat
// it, and gives it the events and decisions that it waits for. What it knows of an execution it reads from the journal, so that an
// execution can be asked for the moment it is accepted.
package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
)

// Deps is what a Controller is given.
type Deps struct {
	Journal   *journal.Journal
	Bus       *bus.Bus
	Catalogue accept.Catalogue
	// History tells an execution whose journal has expired from one that never was.
	History accept.History
	// Pool acts as the role galley_ingest_reader.
	Pool   *pgxpool.Pool
	Outbox *outbox.Outbox
	Clock  clock.Clock
	Log    zerolog.Logger
}

// Controller does what callers ask of executions. Its errors unwrap to *problem.Error. It is safe for concurrent use.
type Controller struct{ Deps }

// New makes a Controller.
func New(deps Deps) *Controller {
	return &Controller{Deps: deps}
}

// Author is who asks for something, and in which trace.
type Author = activity.Author

// errExpired says that an execution has ended so long ago that the journal no longer has it.
var errExpired = errors.New("the journal of the execution has expired")

// last reads an execution's last event. Without one the error is NOT_FOUND or, unwrapped, errExpired.
func (c *Controller) last(ctx context.Context, execution subject.Execution) (journal.Record, error) {
	last, err := c.Journal.Last(ctx, execution)
	switch {
	case errors.Is(err, journal.ErrNotFound):
		return last, c.absent(ctx, execution)
	case err != nil:
		return last, unavailable(err)
	}
	return last, nil
}

// underWay is last for what can only be done to an execution that has not ended.
func (c *Controller) underWay(ctx context.Context, execution subject.Execution) (journal.Record, error) {
	last, err := c.last(ctx, execution)
	if err == nil && last.Kind == event.Completed {
		return last, ended(execution)
	}
	return last, expired(err, ended(execution))
}

// expired gives the error that errExpired means to a caller in place of it.
func expired(err, meaning error) error {
	if errors.Is(err, errExpired) {
		return meaning
	}
	return err
}

// first reads an execution's accepted event, of which there is one as long as there is a last event, or nearly.
func (c *Controller) first(ctx context.Context, execution subject.Execution) (journal.Record, error) {
	first, err := c.Journal.First(ctx, execution)
	switch {
	case errors.Is(err, journal.ErrNotFound):
		return first, errExpired
	case err != nil:
		return first, unavailable(err)
	}
	return first, nil
}

// absent tells why the journal has nothing of an execution.
func (c *Controller) absent(ctx context.Context, execution subject.Execution) error {
	unknown := &problem.Error{Code: problem.NotFound, Message: "there is no execution " + execution.ID}
	if _, err := uuid.Parse(execution.ID); err != nil {
		return unknown
	}
	known, err := c.History.Completed(ctx, []subject.Execution{execution})
	if err != nil {
		return unavailable(err)
	}
	if _, found := known[execution.ID]; found {
		return errExpired
	}
	return unknown
}

// record stores in the transaction what was done to an execution, for the audit log.
func (c *Controller) record(ctx context.Context, tx pgx.Tx, execution subject.Execution, entry activity.Entry) error {
	entry.Customer, entry.ResourceID = execution.Customer, execution.ID
	return activity.Store(ctx, tx, c.Outbox, c.Clock(), &entry)
}

// transact has what is recorded published afterwards.
func (c *Controller) transact(ctx context.Context, customer string, do func(tx pgx.Tx) error) error {
	if err := postgres.Transact(ctx, c.Pool, customer, do); err != nil {
		return err
	}
	c.Outbox.Wake()
	return nil
}

func ended(execution subject.Execution) error {
	return &problem.Error{Code: problem.ExecutionEnded, Message: "execution " + execution.ID + " has ended"}
}

func conflict(format string, args ...any) error {
	return &problem.Error{Code: problem.Conflict, Message: fmt.Sprintf(format, args...)}
}

// unavailable is what a caller hears when the cause is that something could not be reached. What a caller may hear stays as it is.
func unavailable(cause error) error {
	return problem.Public(cause, "the execution cannot be reached at the moment")
}
