package ledger

import (
	"context"
	"fmt"
	"math"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
)

// Reader answers what one customer may know, limited to the customer's rows by row-level security.
type Reader struct{ pool *pgxpool.Pool }

// NewReader makes a Reader over a pool that acts as the reader's role.
func NewReader(pool *pgxpool.Pool) *Reader {
	return &Reader{pool: pool}
}

// Balance is what the customer has: 0 for one that was never granted anything.
func (r *Reader) Balance(ctx context.Context, customer string) (query.BalanceReply, error) {
	var balance credit.Micro
	err := postgres.Query(ctx, r.pool, customer, func(batch *pgx.Batch) {
		batch.Queue(`SELECT COALESCE(sum(balance), 0)::bigint FROM billing.accounts WHERE customer_id = $1`, customer).
			QueryRow(func(row pgx.Row) error { return row.Scan(&balance) })
	})
	if err != nil {
		return query.BalanceReply{}, fmt.Errorf("read balance of %s: %w", customer, err)
	}
	return balanceReply(customer, balance), nil
}

// balanceReply: debits are posted before the work, so what is posted is what is available.
func balanceReply(customer string, balance credit.Micro) query.BalanceReply {
	return query.BalanceReply{CustomerID: customer, Posted: balance, Available: balance}
}

// kindGrant is the kind of a grant's row; those of debits and refunds are in the statement that writes them.
const kindGrant = "grant"

const (
	selectTransactions = `SELECT id, customer_id, kind, amount, balance_after, execution_id, COALESCE(reason, ''), created_at
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
	err := row.Scan(&found.ID, &found.CustomerID, &found.Kind, &found.Amount, &found.BalanceAfter, &execution, &found.Reason,
		&found.CreatedAt)
	if execution.Valid {
		found.ExecutionID = uuid.UUID(execution.Bytes).String()
	}
	found.CreatedAt = found.CreatedAt.UTC()
	return found, err
}
