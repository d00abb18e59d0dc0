package ledger

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	insertCharges = `INSERT INTO billing.charges
			(customer_id, execution_id, state, debited, charged, balance_after, debit_id, refund_id, created_at, settled_at)
		SELECT customer_id, execution_id, state, debited, charged, balance_after, NULLIF(debit_id, 0), NULLIF(refund_id, 0),
			$9, CASE state WHEN 'settled' THEN $9::timestamptz END
		FROM unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
			AS new (customer_id, execution_id, state, debited, charged, balance_after, debit_id, refund_id)`

	settleCharges = `UPDATE billing.charges
		SET state = 'settled', charged = new.charged, refund_id = NULLIF(new.refund_id, 0), settled_at = $5
		FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::bigint[]) AS new (customer_id, execution_id, charged, refund_id)
		WHERE charges.execution_id = new.execution_id AND charges.customer_id = new.customer_id`

	insertPostings = `INSERT INTO billing.credit_transactions
			(id, customer_id, execution_id, kind, amount, balance_after, created_at)
		OVERRIDING SYSTEM VALUE
		SELECT id, customer_id, execution_id, CASE WHEN amount < 0 THEN 'debit' ELSE 'refund' END, amount, balance_after, $6
		FROM unnest($1::bigint[], $2::text[], $3::uuid[], $4::bigint[], $5::bigint[])
			AS new (id, customer_id, execution_id, amount, balance_after)`

	updateBalances = `UPDATE billing.accounts SET balance = new.balance
		FROM unnest($1::text[], $2::bigint[]) AS new (customer_id, balance)
		WHERE accounts.customer_id = new.customer_id`

	commit = `COMMIT`
)

// write stores what was decided and commits, in one round trip. When a statement fails, Postgres skips the rest, COMMIT included.
func write(ctx context.Context, conn *pgx.Conn, w *walk, now time.Time) error {
	batch := &pgx.Batch{}
	w.queueCharges(batch, now)
	w.queuePostings(batch, now)
	w.queueBalances(batch)
	batch.Queue(commit)
	return conn.SendBatch(ctx, batch).Close()
}

func (w *walk) queueCharges(batch *pgx.Batch, now time.Time) {
	var inserted, settled chargeColumns
	for _, charge := range w.distinct {
		switch {
		case !charge.changed:
		case charge.stored:
			settled.add(&charge.Charge)
		default:
			inserted.add(&charge.Charge)
		}
	}
	if c := &inserted; len(c.executions) > 0 {
		batch.Queue(insertCharges, c.customers, c.executions, c.states, c.debited, c.charged, c.balancesAfter, c.debitIDs,
			c.refundIDs, now)
	}
	if c := &settled; len(c.executions) > 0 {
		batch.Queue(settleCharges, c.customers, c.executions, c.charged, c.refundIDs, now)
	}
}

// chargeColumns are charges as Postgres takes them: one array a column.
type chargeColumns struct {
	customers                                            []string
	executions                                           []pgtype.UUID
	states                                               []State
	debited, charged, balancesAfter, debitIDs, refundIDs []int64
}

func (c *chargeColumns) add(charge *Charge) {
	c.customers = append(c.customers, charge.Customer)
	c.executions = append(c.executions, binary(charge.Execution))
	c.states = append(c.states, charge.State)
	c.debited = append(c.debited, int64(charge.Debited))
	c.charged = append(c.charged, int64(charge.Charged))
	c.balancesAfter = append(c.balancesAfter, int64(charge.BalanceAfter))
	c.debitIDs = append(c.debitIDs, charge.DebitID)
	c.refundIDs = append(c.refundIDs, charge.RefundID)
}

func (w *walk) queuePostings(batch *pgx.Batch, now time.Time) {
	if len(w.postings) == 0 {
		return
	}
	var (
		ids        = make([]int64, len(w.postings))
		customers  = make([]string, len(w.postings))
		executions = make([]pgtype.UUID, len(w.postings))
		amounts    = make([]int64, len(w.postings))
		balances   = make([]int64, len(w.postings))
	)
	for i, posting := range w.postings {
		ids[i], customers[i], executions[i] = posting.id, posting.Customer, binary(posting.Execution)
		amounts[i], balances[i] = int64(posting.amount), int64(posting.balanceAfter)
	}
	batch.Queue(insertPostings, ids, customers, executions, amounts, balances, now)
}

func (w *walk) queueBalances(batch *pgx.Batch) {
	var customers []string
	var balances []int64
	for customer, account := range w.accounts {
		if account.moved {
			customers = append(customers, customer)
			balances = append(balances, int64(account.balance))
		}
	}
	if len(customers) > 0 {
		batch.Queue(updateBalances, customers, balances)
	}
}

// binary is the form that pgx sends without a detour over text, which costs more than the rest of the walk.
func binary(id uuid.UUID) pgtype.UUID {
	return pgtype.UUID{Bytes: id, Valid: true}
}
