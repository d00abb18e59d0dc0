package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

const (
	// young is how old a debit is that nothing is said about yet: a leader that was just elected may not know its execution for a moment.
	young = time.Minute
	// OrphanAge is how old a debit is before it is settled because its execution cannot end any more: older than any execution can get.
	OrphanAge = bus.MaxExecution + time.Hour
)

// debit is one that was not settled yet, or one that waits for credits.
type debit struct {
	ledger.Key
	state  ledger.State
	amount credit.Micro
	at     time.Time
}

// orphan is an execution that only a reconciliation settles.
type orphan struct {
	ledger.Key
	// ended tells that the journal has its end, and what it charged. Otherwise the journal knows nothing of it.
	ended   bool
	charged credit.Micro
}

// compareDebits looks for the execution of every open debit, and for decisions about what has waited that nobody told the journal.
func (c *comparison) compareDebits(ctx context.Context) error {
	if err := c.compareDecisions(ctx); err != nil {
		return err
	}
	var after ledger.Key
	for {
		debits, err := c.openDebits(ctx, after)
		if err != nil {
			return err
		}
		for i := range debits {
			if err := c.compareDebit(ctx, &debits[i]); err != nil {
				return err
			}
		}
		c.report.Debits += int64(len(debits))
		if len(debits) < page {
			return nil
		}
		after = debits[page-1].Key
	}
}

// Where the journal has to be told of a debit still, compareDecisions looks.
const openDebits = `SELECT customer_id, execution_id, state, debited, created_at FROM billing.charges
	WHERE state IN ('debited', 'waiting') AND created_at < $1 AND (execution_id, customer_id) > ($2, $3)
		AND NOT EXISTS (SELECT FROM billing.waits WHERE waits.execution_id = charges.execution_id AND waits.customer_id = charges.customer_id
			AND decided_at IS NOT NULL)
	ORDER BY execution_id, customer_id LIMIT $4`

func (c *comparison) openDebits(ctx context.Context, after ledger.Key) (debits []debit, err error) {
	err = postgres.Query(ctx, c.Pool, postgres.EveryCustomer, func(batch *pgx.Batch) {
		batch.Queue(openDebits, c.now.Add(-young), after.Execution, after.Customer, page).Query(func(rows pgx.Rows) (err error) {
			debits, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (found debit, err error) {
				var execution [16]byte
				err = row.Scan(&found.Customer, &execution, &found.state, &found.amount, &found.at)
				found.Execution = uuid.UUID(execution)
				return found, err
			})
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read open debits: %w", err)
	}
	return debits, nil
}

// compareDebit reads through the leader, so what it does not find is not there. An execution that goes on, or has just ended, is as it
// should be; one that has to be ended is the business of ingest.
func (c *comparison) compareDebit(ctx context.Context, open *debit) error {
	last, err := c.Journal.Last(ctx, subject.Execution{Customer: open.Customer, ID: open.Execution.String()})
	switch {
	case errors.Is(err, journal.ErrNotFound) && open.state == ledger.StateWaiting:
		c.differs(open.Key, "waits for credits, and the journal does not have the execution")
	case err == nil && open.state == ledger.StateWaiting:
		// An event that came in spite of it was named by the comparison of events.
	case errors.Is(err, journal.ErrNotFound):
		c.differs(open.Key, "debited %d, and the journal does not have the execution", open.amount)
		c.adopt(open, orphan{Key: open.Key})
	case err != nil:
		return err
	case last.Kind == event.Accepted && last.Sequence <= c.accepted, last.WaitsForCredits():
		c.differs(open.Key, "debited %d, and the journal does not have its funded event", open.amount)
	case last.Kind == event.Completed && last.Sequence <= c.completed:
		// The comparison of events has named it.
		if charged, err := last.Credits(); err == nil {
			c.adopt(open, orphan{Key: open.Key, ended: true, charged: credit.Micro(charged)})
		}
	}
	return nil
}

func (c *comparison) adopt(open *debit, found orphan) {
	if open.at.Before(c.now.Add(-OrphanAge)) && len(c.report.orphans) < maxOrphans {
		c.report.orphans = append(c.report.orphans, found)
	}
}

const oldDecisions = `SELECT customer_id, execution_id, decided_at FROM billing.waits WHERE decided_at < $1 ORDER BY decided_at LIMIT $2`

// compareDecisions names what was decided about executions that waited for credits and is not in the journal after a while.
func (c *comparison) compareDecisions(ctx context.Context) error {
	err := postgres.Query(ctx, c.Pool, postgres.EveryCustomer, func(batch *pgx.Batch) {
		batch.Queue(oldDecisions, c.now.Add(-young), page).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var key ledger.Key
				var at time.Time
				if err := rows.Scan(&key.Customer, (*[16]byte)(&key.Execution), &at); err != nil {
					return err
				}
				c.differs(key, "has waited for credits, was decided at %s, and the journal does not know", at.UTC().Format(time.RFC3339))
			}
			return rows.Err()
		})
	})
	if err != nil {
		return fmt.Errorf("read decisions: %w", err)
	}
	return nil
}
