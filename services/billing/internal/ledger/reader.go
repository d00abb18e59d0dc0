package ledger

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/query"
)

// Reader answers what one customer may know, limited to the customer's rows by row-level security. As a Collector it tells what waits for
// credits, of all customers.
type Reader struct {
	pool    *pgxpool.Pool
	now     clock.Clock
	metrics descriptions
}

// NewReader makes a Reader over a pool that acts as the reader's role.
func NewReader(pool *pgxpool.Pool, now clock.Clock) *Reader {
	return &Reader{pool: pool, now: now, metrics: newDescriptions()}
}

// Balance is what the customer has: 0 for one that was never granted anything.
func (r *Reader) Balance(ctx context.Context, customer string) (query.BalanceReply, error) {
	reply := query.BalanceReply{CustomerID: customer, Grants: []query.Lot{}}
	err := postgres.Query(ctx, r.pool, customer, func(batch *pgx.Batch) { queueBalance(batch, &reply, r.now()) })
	if err != nil {
		return query.BalanceReply{}, fmt.Errorf("read balance of %s: %w", customer, err)
	}
	return reply, nil
}

// balanceTx is Balance in a transaction that has changed it.
func (l *Ledger) balanceTx(ctx context.Context, tx pgx.Tx, customer string) (query.BalanceReply, error) {
	reply := query.BalanceReply{CustomerID: customer, Grants: []query.Lot{}}
	batch := &pgx.Batch{}
	queueBalance(batch, &reply, l.now())
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return query.BalanceReply{}, fmt.Errorf("read balance: %w", err)
	}
	return reply, nil
}

const (
	// What is over counts as if it were taken back already.
	balanceOf = `SELECT balance, overdraft, low_balance, waiting, GREATEST(0, balance + overdraft - COALESCE((SELECT sum(remaining)
				FROM billing.grants WHERE customer_id = $1 AND open AND expires_at <= $2), 0))::bigint
		FROM billing.accounts WHERE customer_id = $1`

	lotsOf = `SELECT grant_id, kind, priority, amount, remaining, expires_at FROM billing.grants
		WHERE customer_id = $1 AND open AND (expires_at > $2 OR expires_at IS NULL)
		ORDER BY priority, expires_at NULLS LAST, transaction_id LIMIT $3`
)

func queueBalance(batch *pgx.Batch, reply *query.BalanceReply, now time.Time) {
	batch.Queue(balanceOf, reply.CustomerID, now).QueryRow(func(row pgx.Row) error {
		err := row.Scan(&reply.Posted, &reply.Overdraft, &reply.LowBalance, &reply.Waiting, &reply.Available)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	batch.Queue(lotsOf, reply.CustomerID, now, query.MaxLots).Query(func(rows pgx.Rows) (err error) {
		reply.Grants, err = pgx.AppendRows(reply.Grants, rows, scanLot)
		return err
	})
}

func scanLot(row pgx.CollectableRow) (query.Lot, error) {
	var found query.Lot
	var expires pgtype.Timestamptz
	err := row.Scan(&found.ID, &found.Kind, &found.Priority, &found.Amount, &found.Remaining, &expires)
	if expires.Valid {
		at := moment(expires)
		found.ExpiresAt = &at
	}
	return found, err
}

const (
	selectTransactions = `SELECT id, customer_id, kind, amount, balance_after, execution_id, COALESCE(grant_id, ''),
			COALESCE(reason, ''), created_at
		FROM billing.credit_transactions`

	pageOfCustomer = selectTransactions + `
		WHERE customer_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3`

	// The rows of an execution are those that its charge names: no index of the ledger by execution is needed.
	pageOfExecution = selectTransactions + `
		WHERE customer_id = $1 AND id < $2 AND id IN (
			SELECT unnest(ARRAY[debit_id, refund_id]) FROM billing.charges WHERE customer_id = $1 AND execution_id = $4)
		ORDER BY id DESC LIMIT $3`
)

// Page says which rows of the ledger are wanted: at most Limit, newest first, older than the row Before unless that is 0, of one
// execution unless that is the zero UUID.
type Page struct {
	Customer  string
	Execution uuid.UUID
	Before    int64
	Limit     int
}

// Transactions reads a page of the ledger.
func (r *Reader) Transactions(ctx context.Context, page Page) (query.TransactionsReply, error) {
	before := page.Before
	if before == 0 {
		before = math.MaxInt64
	}
	statement, arguments := pageOfCustomer, []any{page.Customer, before, page.Limit + 1}
	if page.Execution != uuid.Nil {
		statement, arguments = pageOfExecution, append(arguments, binary(page.Execution))
	}
	reply := query.TransactionsReply{Transactions: []query.Transaction{}}
	err := postgres.Query(ctx, r.pool, page.Customer, func(batch *pgx.Batch) {
		batch.Queue(statement, arguments...).Query(func(rows pgx.Rows) (err error) {
			reply.Transactions, err = pgx.AppendRows(reply.Transactions, rows, scanTransaction)
			return err
		})
	})
	if err != nil {
		return query.TransactionsReply{}, fmt.Errorf("read transactions of %s: %w", page.Customer, err)
	}
	if len(reply.Transactions) > page.Limit {
		reply.Transactions = reply.Transactions[:page.Limit]
		reply.Next = reply.Transactions[page.Limit-1].ID
	}
	return reply, nil
}

func scanTransaction(row pgx.CollectableRow) (query.Transaction, error) {
	var found query.Transaction
	var execution pgtype.UUID
	err := row.Scan(&found.ID, &found.CustomerID, &found.Kind, &found.Amount, &found.BalanceAfter, &execution, &found.GrantID,
		&found.Reason, &found.CreatedAt)
	if execution.Valid {
		found.ExecutionID = uuid.UUID(execution.Bytes).String()
	}
	found.CreatedAt = found.CreatedAt.UTC()
	return found, err
}
