package ledger

import (
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	// $10 holds the allocations of all charges, one after the other; starts and ends are the places of a charge's in it.
	insertCharges = `INSERT INTO billing.charges
			(customer_id, execution_id, state, debited, charged, balance_after, debit_id, refund_id, created_at, settled_at, allocation)
		SELECT customer_id, execution_id, state, debited, charged, balance_after, NULLIF(debit_id, 0), NULLIF(refund_id, 0),
			$9, CASE state WHEN 'settled' THEN $9::timestamptz END, CASE WHEN debited > 0 THEN ($10::bigint[])[starts:ends] END
		FROM unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
				$11::integer[], $12::integer[])
			AS new (customer_id, execution_id, state, debited, charged, balance_after, debit_id, refund_id, starts, ends)`

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

	insertGrantPostings = `INSERT INTO billing.credit_transactions
			(id, customer_id, grant_id, kind, amount, balance_after, reason, created_at)
		OVERRIDING SYSTEM VALUE
		SELECT id, customer_id, grant_id, CASE WHEN amount < 0 THEN 'expire' ELSE 'grant' END, amount, balance_after, NULLIF(reason, ''), $7
		FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[])
			AS new (id, customer_id, grant_id, amount, balance_after, reason)`

	insertLot = `INSERT INTO billing.grants
			(customer_id, transaction_id, grant_id, kind, priority, expires_at, amount, remaining, repaid, expired)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`

	updateLots = `UPDATE billing.grants SET remaining = new.remaining, repaid = new.repaid, expired = new.expired
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
			AS new (customer_id, transaction_id, remaining, repaid, expired)
		WHERE grants.customer_id = new.customer_id AND grants.transaction_id = new.transaction_id`

	updateAccounts = `UPDATE billing.accounts
		SET balance = new.balance, told_low = new.told_low, told_exhausted = new.told_exhausted, waiting = new.waiting
		FROM unnest($1::text[], $2::bigint[], $3::boolean[], $4::boolean[], $5::integer[])
			AS new (customer_id, balance, told_low, told_exhausted, waiting)
		WHERE accounts.customer_id = new.customer_id`

	commit = `COMMIT`
)

// queueWrite stores what was decided. When a statement fails, Postgres skips the rest of the batch, a COMMIT included.
func (l *Ledger) queueWrite(batch *pgx.Batch, w *walk) error {
	w.queueCharges(batch)
	w.queueWaits(batch)
	w.queuePostings(batch)
	w.queueGrantPostings(batch)
	w.queueLots(batch)
	w.queueNewLots(batch)
	w.queueAccounts(batch)
	return l.queueReports(batch, w)
}

func (w *walk) queueCharges(batch *pgx.Batch) {
	var inserted, settled chargeColumns
	for _, charge := range w.distinct {
		switch {
		case !charge.changed, charge.waited:
		case charge.stored:
			settled.add(charge)
		default:
			inserted.add(charge)
		}
	}
	if c := &inserted; len(c.executions) > 0 {
		batch.Queue(insertCharges, c.customers, c.executions, c.states, c.debited, c.charged, c.balancesAfter, c.debitIDs,
			c.refundIDs, w.now, c.allocations, c.starts, c.ends)
	}
	if c := &settled; len(c.executions) > 0 {
		batch.Queue(settleCharges, c.customers, c.executions, c.charged, c.refundIDs, w.now)
	}
}

// chargeColumns are charges as Postgres takes them: one array a column.
type chargeColumns struct {
	customers                                            []string
	executions                                           []pgtype.UUID
	states                                               []State
	debited, charged, balancesAfter, debitIDs, refundIDs []int64
	allocations                                          []int64
	starts, ends                                         []int32
}

func (c *chargeColumns) add(charge *charge) {
	c.customers = append(c.customers, charge.Customer)
	c.executions = append(c.executions, binary(charge.Execution))
	c.states = append(c.states, charge.State)
	c.debited = append(c.debited, int64(charge.Debited))
	c.charged = append(c.charged, int64(charge.Charged))
	c.balancesAfter = append(c.balancesAfter, int64(charge.BalanceAfter))
	c.debitIDs = append(c.debitIDs, charge.DebitID)
	c.refundIDs = append(c.refundIDs, charge.RefundID)
	c.starts = append(c.starts, int32(len(c.allocations)+1)) //nolint:gosec // a batch has far fewer
	for _, taken := range charge.parts {
		c.allocations = append(c.allocations, taken.lot, int64(taken.amount))
	}
	c.ends = append(c.ends, int32(len(c.allocations))) //nolint:gosec // a batch has far fewer
}

func (w *walk) queuePostings(batch *pgx.Batch) {
	var (
		ids        = make([]int64, 0, len(w.postings))
		customers  = make([]string, 0, len(w.postings))
		executions = make([]pgtype.UUID, 0, len(w.postings))
		amounts    = make([]int64, 0, len(w.postings))
		balances   = make([]int64, 0, len(w.postings))
	)
	for i := range w.postings {
		posting := &w.postings[i]
		if posting.charge == nil {
			continue
		}
		ids, customers = append(ids, posting.id), append(customers, posting.account.customer)
		executions = append(executions, binary(posting.charge.Execution))
		amounts, balances = append(amounts, int64(posting.amount)), append(balances, int64(posting.balanceAfter))
	}
	if len(ids) > 0 {
		batch.Queue(insertPostings, ids, customers, executions, amounts, balances, w.now)
	}
}

func (w *walk) queueGrantPostings(batch *pgx.Batch) {
	var ids, amounts, balances []int64
	var customers, grants, reasons []string
	for i := range w.postings {
		posting := &w.postings[i]
		if posting.lot == nil {
			continue
		}
		ids, customers = append(ids, posting.id), append(customers, posting.account.customer)
		reason := ""
		if terms := posting.lot.terms; terms != nil && posting.amount > 0 {
			reason = terms.Reason
		}
		grants, reasons = append(grants, posting.lot.grant), append(reasons, reason)
		amounts, balances = append(amounts, int64(posting.amount)), append(balances, int64(posting.balanceAfter))
	}
	if len(ids) > 0 {
		batch.Queue(insertGrantPostings, ids, customers, grants, amounts, balances, reasons, w.now)
	}
}

func (w *walk) queueLots(batch *pgx.Batch) {
	var customers []string
	var ids, remaining, repaid, expired []int64
	for customer, account := range w.accounts {
		for _, lot := range account.lots {
			if !lot.moved || lot.terms != nil {
				continue
			}
			customers, ids = append(customers, customer), append(ids, lot.id)
			remaining, repaid = append(remaining, int64(lot.remaining)), append(repaid, int64(lot.repaid))
			expired = append(expired, int64(lot.expired))
		}
	}
	if len(ids) > 0 {
		batch.Queue(updateLots, customers, ids, remaining, repaid, expired)
	}
}

func (w *walk) queueNewLots(batch *pgx.Batch) {
	for customer, account := range w.accounts {
		for _, lot := range account.lots {
			if lot.terms == nil {
				continue
			}
			batch.Queue(insertLot, customer, lot.id, lot.grant, lot.terms.Kind, lot.priority, lot.terms.ExpiresAt,
				int64(lot.terms.Amount), int64(lot.remaining), int64(lot.repaid), int64(lot.expired))
		}
	}
}

func (w *walk) queueAccounts(batch *pgx.Batch) {
	var customers []string
	var balances []int64
	var toldLow, toldExhausted []bool
	var waiting []int32
	for customer, account := range w.accounts {
		if account.moved {
			customers, balances = append(customers, customer), append(balances, int64(account.balance))
			toldLow, toldExhausted = append(toldLow, account.toldLow), append(toldExhausted, account.toldExhausted)
			waiting = append(waiting, int32(account.waiting)) //nolint:gosec // nobody has that many executions
		}
	}
	if len(customers) > 0 {
		batch.Queue(updateAccounts, customers, balances, toldLow, toldExhausted, waiting)
	}
}

// binary is the form that pgx sends without a detour over text, which costs more than the rest of the walk.
func binary(id uuid.UUID) pgtype.UUID {
	return pgtype.UUID{Bytes: id, Valid: true}
}
