package projection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
)

// Execution is how an execution stands.
type Execution struct {
	ExecutionID   string       `json:"execution_id"`
	CustomerID    string       `json:"customer_id"`
	AgentID       string       `json:"agent_id"`
	RecipeID      string       `json:"recipe_id"`
	RecipeVersion int          `json:"recipe_version"`
	Status        event.Status `json:"status"`
	AcceptedAt    time.Time    `json:"accepted_at"`
	CompletedAt   *time.Time   `json:"completed_at,omitempty"`
	DurationMS    *int64       `json:"duration_ms,omitempty"`
	Charged       credit.Micro `json:"credits_consumed"`
	Code          problem.Code `json:"error_code,omitempty"`
	// Response is the standard response, once the execution has ended. It is nil in lists.
	Response []byte `json:"-"`
	// Links is what only the journal knows. It is empty in lists.
	Links Links `json:"-"`
	// Steps is what is done of an execution that has not ended. It is empty in lists.
	Steps []event.StepSummary `json:"-"`
	// Receipt is what is quoted and debited for an execution that has not ended. It is empty in lists.
	Receipt event.Receipt `json:"-"`
}

// Reader reads executions for the API.
type Reader struct {
	pool    *pgxpool.Pool
	journal *journal.Journal
}

// NewReader makes a Reader over a pool that acts as the role galley_ingest_reader.
func NewReader(pool *pgxpool.Pool, executions *journal.Journal) *Reader {
	return &Reader{pool: pool, journal: executions}
}

const columns = `execution_id, customer_id, agent_id, recipe_id, recipe_version, status, accepted_at, completed_at, duration_ms,
       charged, error_code`

// Get finds a customer's execution, in the projection or, where that does not know its end, in the journal: an execution that was
// accepted is found at once. Its links are given as long as the journal has it. An id that is no UUID names none.
func (r *Reader) Get(ctx context.Context, execution subject.Execution) (Execution, bool, error) {
	id, err := uuid.Parse(execution.ID)
	if err != nil || id.String() != execution.ID {
		return Execution{}, false, nil //nolint:nilerr // what is no id names nothing
	}
	found, known, err := r.projected(ctx, execution)
	if err == nil && known && found.Status.Terminal() {
		found.Links, err = r.links(ctx, execution)
	}
	if err != nil || known && found.Status.Terminal() {
		return found, known, err
	}
	last, err := r.journal.Last(ctx, execution)
	if errors.Is(err, journal.ErrNotFound) {
		return found, known, nil
	}
	if err != nil {
		return Execution{}, false, err
	}
	fresh, err := r.fromJournal(ctx, execution, &last)
	return fresh, err == nil, err
}

func (r *Reader) projected(ctx context.Context, execution subject.Execution) (found Execution, known bool, err error) {
	err = postgres.Query(ctx, r.pool, execution.Customer, func(batch *pgx.Batch) {
		batch.Queue(`SELECT `+columns+`, response FROM ingest.executions WHERE customer_id = $1 AND execution_id = $2`,
			execution.Customer, execution.ID).QueryRow(func(row pgx.Row) error {
			err := row.Scan(append(found.targets(), &found.Response)...)
			if errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			known = err == nil
			return err
		})
	})
	if err != nil {
		return Execution{}, false, fmt.Errorf("read execution: %w", err)
	}
	return found, known, nil
}

func (e *Execution) targets() []any {
	return []any{
		&e.ExecutionID, &e.CustomerID, &e.AgentID, &e.RecipeID, &e.RecipeVersion, &e.Status, &e.AcceptedAt, &e.CompletedAt,
		&e.DurationMS, &e.Charged, &e.Code,
	}
}

// fromJournal builds the row that the projection will have soon.
func (r *Reader) fromJournal(ctx context.Context, execution subject.Execution, last *journal.Record) (Execution, error) {
	accepted := *last
	if last.Kind != event.Accepted {
		first, err := r.journal.First(ctx, execution)
		if err != nil && !errors.Is(err, journal.ErrNotFound) {
			return Execution{}, err
		}
		if err == nil {
			accepted = first
		}
	}
	rows := newChanges(1)
	for _, record := range []*journal.Record{&accepted, last} {
		if record.Kind == event.Accepted || record.Kind == event.Completed {
			if err := rows.add(record); err != nil {
				return Execution{}, err
			}
		}
	}
	if len(rows.ids) == 0 {
		return Execution{}, fmt.Errorf("execution %s: %w", execution.ID, journal.ErrNotFound)
	}
	fresh := Execution{
		ExecutionID: execution.ID, CustomerID: execution.Customer, AgentID: rows.agents[0], RecipeID: rows.recipes[0],
		RecipeVersion: rows.versions[0], AcceptedAt: rows.accepted[0], Response: rows.responses[0],
	}
	rows.tell(&fresh)
	if accepted.Kind == event.Accepted {
		links, err := linksOf(&accepted)
		if err != nil {
			return Execution{}, err
		}
		fresh.Links = links
		if err := fresh.price(&accepted, last); err != nil {
			return Execution{}, err
		}
	}
	if !fresh.Status.Terminal() {
		fresh.Status = last.Kind.Standing()
	}
	return fresh, fresh.progress(last)
}

// tell tells how the first execution stands, and how it ended.
func (c *changes) tell(e *Execution) {
	e.Status, e.CompletedAt, e.DurationMS = event.Status(c.statuses[0]), c.completed[0], c.durations[0]
	e.Charged, e.Code = credit.Micro(c.charged[0]), problem.Code(c.codes[0])
}

// Completed implements accept.History.
func (r *Reader) Completed(ctx context.Context, executions []subject.Execution) (map[string]accept.Outcome, error) {
	customers, ids := make([]string, len(executions)), make([]string, len(executions))
	for i, execution := range executions {
		customers[i], ids[i] = execution.Customer, execution.ID
	}
	outcomes := make(map[string]accept.Outcome)
	err := postgres.Query(ctx, r.pool, postgres.EveryCustomer, func(batch *pgx.Batch) {
		batch.Queue(`SELECT execution_id::text, response, status, error_code
			  FROM ingest.executions JOIN unnest($1::text[], $2::uuid[]) AS asked (customer_id, execution_id)
			 USING (customer_id, execution_id)
			 WHERE completed_at IS NOT NULL`, customers, ids).Query(func(rows pgx.Rows) error {
			outcome := accept.Outcome{Done: true}
			_, err := pgx.ForEachRow(rows, []any{&outcome.ExecutionID, &outcome.Response, &outcome.Status, &outcome.Code}, func() error {
				outcomes[outcome.ExecutionID] = outcome
				outcome.Response = nil
				return nil
			})
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("look up ended executions: %w", err)
	}
	return outcomes, nil
}
