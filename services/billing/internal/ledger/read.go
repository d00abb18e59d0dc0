package ledger

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/galley-engine/galley/schemas/credit"
)

const (
	begin = `BEGIN ISOLATION LEVEL READ COMMITTED`

	lockAccounts = `SELECT customer_id, balance FROM billing.accounts
		WHERE customer_id = ANY($1) ORDER BY customer_id FOR UPDATE`

	knownCharges = `SELECT customer_id, execution_id, state, debited, charged, balance_after, COALESCE(debit_id, 0), COALESCE(refund_id, 0)
		FROM billing.charges WHERE execution_id = ANY($1)`

	takeIDs = `SELECT nextval('billing.credit_transactions_id_seq') FROM generate_series(1, $1)`
)

// read begins the transaction and fills in what is stored, in one round trip. The statements are separate because each one sees
// what was committed before it started: the charges, and the order of the ids, are those after the wait for the accounts.
func read(ctx context.Context, conn *pgx.Conn, w *walk) error {
	customers := make([]string, 0, len(w.accounts))
	for customer := range w.accounts {
		customers = append(customers, customer)
	}
	executions := make([]pgtype.UUID, 0, len(w.distinct))
	for _, charge := range w.distinct {
		executions = append(executions, binary(charge.Execution))
	}
	batch := &pgx.Batch{}
	batch.Queue(begin)
	batch.Queue(lockAccounts, customers).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var customer string
			var balance int64
			if err := rows.Scan(&customer, &balance); err != nil {
				return err
			}
			known := w.accounts[customer]
			known.balance, known.locked = credit.Micro(balance), true
		}
		return nil
	})
	batch.Queue(knownCharges, executions).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var stored Charge
			if err := rows.Scan(&stored.Customer, (*[16]byte)(&stored.Execution), &stored.State, &stored.Debited, &stored.Charged,
				&stored.BalanceAfter, &stored.DebitID, &stored.RefundID); err != nil {
				return err
			}
			if known := w.byKey[stored.Key]; known != nil {
				known.Charge, known.stored = stored, true
			}
		}
		return nil
	})
	batch.Queue(takeIDs, len(w.instructions)).Query(func(rows pgx.Rows) (err error) {
		w.ids, err = pgx.AppendRows(w.ids, rows, pgx.RowTo[int64])
		return err
	})
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	return w.check()
}
