package projection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	// maxSought bounds how many executions that have not ended are looked at for a page of those that wait, for example; soughtAtOnce how many
	// with one query.
	maxSought    = 500
	soughtAtOnce = 100
	// lookups is how many of them are read from the journal at the same time.
	lookups = 16
)

// Filter selects a page of a customer's executions, newest first. Empty fields select everything.
type Filter struct {
	Customer string
	Recipe   string
	Status   event.Status
	// After is where the previous page ended; nil for the first page.
	After *Cursor
	// Limit is the size of the page, from 1 to 200.
	Limit int
}

// Cursor is the place of an execution in a list.
type Cursor struct {
	AcceptedAt  time.Time `json:"t"`
	ExecutionID uuid.UUID `json:"i"`
}

func (e *Execution) cursor() *Cursor {
	return &Cursor{AcceptedAt: e.AcceptedAt, ExecutionID: uuid.MustParse(e.ExecutionID)}
}

// List gives a page of executions and where the next one begins, nil at the end. The table knows how executions have ended; how those stand that
// have not is read from the journal, a read for each.
func (r *Reader) List(ctx context.Context, filter Filter) (page []Execution, next *Cursor, err error) {
	if filter.Status != "" && !filter.Status.Terminal() {
		return r.seek(ctx, filter)
	}
	page, more, err := r.rows(ctx, filter, filter.Limit)
	if err == nil && more {
		next = page[len(page)-1].cursor()
	}
	return page, next, err
}

// seek gives a page of those that stand in a way that only the journal knows. It looks at so many at the most: the page may be shorter than its
// limit, or empty, before the last.
func (r *Reader) seek(ctx context.Context, filter Filter) (page []Execution, next *Cursor, err error) {
	for range maxSought / soughtAtOnce {
		rows, more, err := r.rows(ctx, filter, soughtAtOnce)
		if err != nil {
			return nil, nil, err
		}
		for i := range rows {
			if rows[i].Status == filter.Status {
				page = append(page, rows[i])
			}
			if len(page) == filter.Limit && (more || i < len(rows)-1) {
				return page, rows[i].cursor(), nil
			}
		}
		if !more {
			return page, nil, nil
		}
		filter.After = rows[len(rows)-1].cursor()
	}
	return page, filter.After, nil
}

// rows gives the next so many; with a status that only the journal knows, of all that have not ended.
func (r *Reader) rows(ctx context.Context, filter Filter, limit int) (rows []Execution, more bool, err error) {
	status := filter.Status
	if status != "" && !status.Terminal() {
		status = event.StatusAccepted
	}
	var before *time.Time
	var id *uuid.UUID
	if filter.After != nil {
		before, id = &filter.After.AcceptedAt, &filter.After.ExecutionID
	}
	err = postgres.Query(ctx, r.pool, filter.Customer, func(batch *pgx.Batch) {
		batch.Queue(`SELECT `+columns+` FROM ingest.executions
			 WHERE customer_id = $1 AND ($2 = '' OR recipe_id = $2) AND ($3 = '' OR status = $3)
			   AND ($4::timestamptz IS NULL OR (accepted_at, execution_id) < ($4, $5::uuid))
			 ORDER BY accepted_at DESC, execution_id DESC LIMIT $6`,
			filter.Customer, filter.Recipe, string(status), before, id, limit+1).Query(func(found pgx.Rows) error {
			rows, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (Execution, error) {
				var execution Execution
				err := row.Scan(execution.targets()...)
				return execution, err
			})
			return err
		})
	})
	if err != nil {
		return nil, false, fmt.Errorf("list executions: %w", err)
	}
	more = len(rows) > limit
	rows = rows[:min(len(rows), limit)]
	return rows, more, r.refresh(ctx, rows)
}

// refresh brings what has not ended up to date with the journal.
func (r *Reader) refresh(ctx context.Context, rows []Execution) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lookups)
	for i := range rows {
		if execution := &rows[i]; !execution.Status.Terminal() {
			group.Go(func() error { return r.refreshOne(ctx, execution) })
		}
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("list executions: %w", err)
	}
	return nil
}

func (r *Reader) refreshOne(ctx context.Context, execution *Execution) error {
	last, err := r.journal.Last(ctx, subject.Execution{Customer: execution.CustomerID, ID: execution.ExecutionID})
	switch {
	case errors.Is(err, journal.ErrNotFound): // it is lost: it was accepted, and nothing else is known
		return nil
	case err != nil:
		return err
	case last.Kind == event.Completed:
		return execution.end(&last)
	}
	execution.Status = last.Kind.Standing()
	return nil
}

// end takes in the end that the table does not know yet.
func (e *Execution) end(completed *journal.Record) error {
	changed := newChanges(1)
	if err := changed.add(completed); err != nil {
		return err
	}
	changed.tell(e)
	return nil
}
