package ledger

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/galley-engine/galley/schemas/credit"
)

// sender is a connection or a transaction.
type sender interface {
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
}

const (
	begin = `BEGIN ISOLATION LEVEL READ COMMITTED`

	lockAccounts = `SELECT customer_id, balance, overdraft, low_balance, told_low, told_exhausted, waiting FROM billing.accounts
		WHERE customer_id = ANY($1) ORDER BY customer_id FOR UPDATE`

	selectLots = `SELECT customer_id, transaction_id, grant_id, priority, expires_at, remaining, repaid, expired FROM billing.grants`

	openLots = selectLots + ` WHERE customer_id = ANY($1) AND open`

	// What debits took was last in these: lots that are empty by now, and grants that paid back an overdraft.
	closedLots = selectLots + ` WHERE customer_id = ANY($1) AND NOT open AND (transaction_id = ANY($2) OR repaid > 0 AND $3)`

	knownCharges = `SELECT customer_id, execution_id, state, debited, charged, balance_after, COALESCE(debit_id, 0), COALESCE(refund_id, 0),
			CASE state WHEN 'debited' THEN allocation END
		FROM billing.charges WHERE execution_id = ANY($1)`

	takeIDs = `SELECT nextval('billing.credit_transactions_id_seq') FROM generate_series(1, $1)`
)

// queueRead fills in what is stored. The statements are separate because each one sees what was committed before it started: the lots,
// the charges and the order of the ids are those after the wait for the accounts.
func (w *walk) queueRead(batch *pgx.Batch) {
	customers := make([]string, 0, len(w.accounts))
	for customer := range w.accounts {
		customers = append(customers, customer)
	}
	if waiting := w.mayWait(); len(waiting) > 0 {
		batch.Queue(makeAccounts, waiting, w.now)
	}
	batch.Queue(lockAccounts, customers).Query(w.scanAccounts)
	batch.Queue(openLots, customers).Query(w.scanLots)
	if len(w.distinct) == 0 {
		return
	}
	executions := make([]pgtype.UUID, 0, len(w.distinct))
	for _, charge := range w.distinct {
		executions = append(executions, binary(charge.Execution))
	}
	batch.Queue(knownCharges, executions).Query(w.scanCharges)
	w.queueIDs(batch, len(w.instructions))
}

func (w *walk) queueIDs(batch *pgx.Batch, count int) {
	batch.Queue(takeIDs, count).Query(func(rows pgx.Rows) (err error) {
		w.ids, err = pgx.AppendRows(w.ids, rows, pgx.RowTo[int64])
		return err
	})
}

func (w *walk) scanAccounts(rows pgx.Rows) error {
	for rows.Next() {
		var customer string
		var balance, overdraft int64
		var low *int64
		var toldLow, toldExhausted bool
		var waiting int
		if err := rows.Scan(&customer, &balance, &overdraft, &low, &toldLow, &toldExhausted, &waiting); err != nil {
			return err
		}
		known := w.accounts[customer]
		known.waiting = waiting
		known.balance, known.overdraft, known.locked = credit.Micro(balance), credit.Micro(overdraft), true
		known.toldLow, known.toldExhausted = toldLow, toldExhausted
		if low != nil {
			known.low = credit.Micro(*low)
		}
	}
	return rows.Err()
}

func (w *walk) scanLots(rows pgx.Rows) error {
	for rows.Next() {
		var customer string
		var expires pgtype.Timestamptz
		var remaining, repaid, expired int64
		found := &lot{}
		if err := rows.Scan(&customer, &found.id, &found.grant, &found.priority, &expires, &remaining, &repaid, &expired); err != nil {
			return err
		}
		found.expires = moment(expires)
		found.remaining, found.repaid, found.expired = credit.Micro(remaining), credit.Micro(repaid), credit.Micro(expired)
		// Without its lock, an account counts as it was before it was made.
		if account := w.accounts[customer]; account.locked {
			account.lots = append(account.lots, found)
		}
	}
	return rows.Err()
}

// moment is zero for never.
func moment(stored pgtype.Timestamptz) time.Time {
	if !stored.Valid {
		return time.Time{}
	}
	return stored.Time.UTC()
}

func (w *walk) scanCharges(rows pgx.Rows) error {
	for rows.Next() {
		var stored Charge
		var allocation []int64
		if err := rows.Scan(&stored.Customer, (*[16]byte)(&stored.Execution), &stored.State, &stored.Debited, &stored.Charged,
			&stored.BalanceAfter, &stored.DebitID, &stored.RefundID, &allocation); err != nil {
			return err
		}
		known := w.byKey[stored.Key]
		if known == nil {
			continue
		}
		known.Charge, known.stored, known.waited = stored, true, stored.State == StateWaiting
		begin := len(w.parts)
		for pair := range slices.Chunk(allocation, 2) {
			w.parts = append(w.parts, part{pair[0], credit.Micro(pair[1])})
		}
		known.parts = w.parts[begin:len(w.parts):len(w.parts)]
	}
	return rows.Err()
}

// readClosed fills in the lots that are not open and to which something may come back. It is one more round trip, and seldom needed.
func (w *walk) readClosed(ctx context.Context, conn sender) error {
	var customers []string
	var lots []int64
	var borrowed bool
	for _, charge := range w.distinct {
		for _, taken := range charge.parts {
			if taken.lot != overdraft && charge.account.lot(taken.lot) != nil {
				continue
			}
			customers = append(customers, charge.Customer)
			lots = append(lots, taken.lot)
			borrowed = borrowed || taken.lot == overdraft
		}
	}
	if len(customers) == 0 {
		return nil
	}
	slices.Sort(customers)
	slices.Sort(lots)
	batch := &pgx.Batch{}
	batch.Queue(closedLots, slices.Compact(customers), slices.Compact(lots), borrowed).Query(w.scanLots)
	return conn.SendBatch(ctx, batch).Close()
}

// readIDs takes more numbers when there are fewer than total, because something expired or had waited.
func (w *walk) readIDs(ctx context.Context, conn sender, total int) error {
	missing := total - len(w.ids)
	if missing <= 0 {
		return nil
	}
	batch := &pgx.Batch{}
	w.queueIDs(batch, missing)
	return conn.SendBatch(ctx, batch).Close()
}
