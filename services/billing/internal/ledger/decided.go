package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/galley-engine/galley/schemas/subject"
)

// Customers of which something has waited too long, or is covered: what was left by a transaction that looked at a page, or whose balance says
// more than there is because grants are over that nobody has taken back.
const servable = `(SELECT customer_id FROM billing.waits WHERE decided_at IS NULL AND until <= $1 ORDER BY until LIMIT $2)
	UNION
	(SELECT customer_id FROM billing.accounts CROSS JOIN LATERAL (SELECT amount FROM billing.waits
			WHERE waits.customer_id = accounts.customer_id AND decided_at IS NULL ORDER BY place, execution_id LIMIT 1) AS first
		WHERE waiting > 0 AND amount <= balance + overdraft LIMIT $2)`

// Serve decides what waits and can be decided now: most is decided by the transaction that brings the credits, but not what has waited too
// long, and not more than a page of a customer's. Every process may do it. next is when something will have waited too long, zero for never.
func (l *Ledger) Serve(ctx context.Context) (next time.Time, err error) {
	for {
		rows, err := l.pool.Query(ctx, servable, l.now(), sweepPage)
		if err != nil {
			return next, fmt.Errorf("look for executions that wait: %w", err)
		}
		customers, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return next, fmt.Errorf("look for executions that wait: %w", err)
		}
		if len(customers) == 0 {
			return l.nextOver(ctx)
		}
		w := newWalk(nil)
		for _, customer := range customers {
			w.account(customer)
		}
		if err := l.follow(ctx, w); err != nil {
			return next, fmt.Errorf("serve executions that wait: %w", err)
		}
		if !w.tells && len(w.postings) == 0 { // somebody else was faster, and does the rest
			return l.nextOver(ctx)
		}
	}
}

func (l *Ledger) nextOver(ctx context.Context) (time.Time, error) {
	var next pgtype.Timestamptz
	err := l.pool.QueryRow(ctx, `SELECT until FROM billing.waits WHERE decided_at IS NULL ORDER BY until LIMIT 1`).Scan(&next)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, fmt.Errorf("look for the next wait that is over: %w", err)
	}
	return moment(next), nil
}

// Decision is a charge that has waited and was decided, and that the journal may not have yet.
type Decision struct {
	Charge
	// Instruction is what was asked for.
	Instruction Instruction
	at          time.Time
}

// Subject names the execution in the journal.
func (d *Decision) Subject() subject.Execution {
	return subject.Execution{Customer: d.Customer, ID: d.Execution.String()}
}

const decisions = `SELECT customer_id, execution_id, place, amount, until, decided_at, state, debited, charged, balance_after,
		COALESCE(debit_id, 0), COALESCE(refund_id, 0)
	FROM billing.waits JOIN billing.charges USING (customer_id, execution_id)
	WHERE decided_at IS NOT NULL AND (decided_at, place, execution_id) > ($1, $2, $3)
	ORDER BY decided_at, place, execution_id LIMIT $4`

// Decided is a page of what Told has not been called for, after a decision, or from the beginning when that is nil: what was decided first comes
// first, and of a customer what came first.
func (l *Ledger) Decided(ctx context.Context, after *Decision, limit int) ([]Decision, error) {
	if after == nil {
		after = &Decision{}
	}
	rows, err := l.pool.Query(ctx, decisions, after.at, int64(after.Instruction.Wait.Place), //nolint:gosec // see queueWaits
		binary(after.Execution), limit)
	if err != nil {
		return nil, fmt.Errorf("read decisions: %w", err)
	}
	found, err := pgx.CollectRows(rows, scanDecision)
	if err != nil {
		return nil, fmt.Errorf("read decisions: %w", err)
	}
	return found, nil
}

func scanDecision(row pgx.CollectableRow) (found Decision, err error) {
	var execution [16]byte
	asked := &found.Instruction
	err = row.Scan(&asked.Customer, &execution, &asked.Wait.Place, &asked.Amount, &asked.Wait.Until, &found.at, &found.State,
		&found.Debited, &found.Charged, &found.BalanceAfter, &found.DebitID, &found.RefundID)
	asked.Execution, asked.Action = uuid.UUID(execution), Debit
	found.Key = asked.Key
	return found, err
}

// Told forgets decisions that the journal has.
func (l *Ledger) Told(ctx context.Context, keys []Key) error {
	var customers []string
	var executions []pgtype.UUID
	for _, key := range keys {
		customers, executions = append(customers, key.Customer), append(executions, binary(key.Execution))
	}
	if _, err := l.pool.Exec(ctx, deleteWaits, customers, executions); err != nil {
		return fmt.Errorf("forget decisions: %w", err)
	}
	return nil
}
