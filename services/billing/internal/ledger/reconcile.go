package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/postgres"
)

// Report is what a reconciliation compared and what does not agree.
type Report struct {
	Accounts     int64   `json:"accounts"`
	Charges      int64   `json:"charges"`
	Transactions int64   `json:"transactions"`
	Drifts       []Drift `json:"drifts"`
}

// Drift is one place where the money does not add up.
type Drift struct {
	CustomerID string `json:"customer_id"`
	// ExecutionID and TransactionID name the charge and the row of the ledger where there is one.
	ExecutionID   string `json:"execution_id,omitempty"`
	TransactionID int64  `json:"transaction_id,omitempty"`
	// Problem says what does not agree, with the amounts in micro-credits.
	Problem string `json:"problem"`
}

// String is one line for people.
func (d Drift) String() string {
	text := "customer " + d.CustomerID
	if d.ExecutionID != "" {
		text += ", execution " + d.ExecutionID
	}
	if d.TransactionID != 0 {
		text += fmt.Sprintf(", transaction %d", d.TransactionID)
	}
	return text + ": " + d.Problem
}

const (
	countRows = `SELECT (SELECT count(*) FROM billing.accounts), (SELECT count(*) FROM billing.charges),
		(SELECT count(*) FROM billing.credit_transactions)`

	// Each of these selects the drifts of one rule: customer, execution, transaction, problem.

	driftOfBalances = `SELECT customer_id, NULL::uuid, NULL::bigint,
			format('the balance is %s, the ledger adds up to %s', COALESCE(balance::text, 'missing'), COALESCE(total, 0))
		FROM billing.accounts
		FULL JOIN (SELECT customer_id, sum(amount) AS total FROM billing.credit_transactions GROUP BY customer_id) AS ledger
			USING (customer_id)
		WHERE balance IS DISTINCT FROM COALESCE(total, 0) OR balance < 0
		ORDER BY customer_id`

	driftOfChain = `SELECT customer_id, execution_id, id,
			format('the balance was %s, the amount is %s, the balance after it is said to be %s', earlier, amount, balance_after)
		FROM (SELECT *, COALESCE(lag(balance_after) OVER (PARTITION BY customer_id ORDER BY id), 0) AS earlier
			FROM billing.credit_transactions) AS chained
		WHERE earlier + amount <> balance_after OR balance_after < 0
		ORDER BY customer_id, id`

	driftOfDebits = `SELECT charges.customer_id, charges.execution_id, debit_id,
			format('%s charge of %s, debited in the ledger: %s', state, debited, COALESCE(-amount, 0))
		FROM billing.charges
		LEFT JOIN billing.credit_transactions AS debit ON debit.customer_id = charges.customer_id AND debit.id = debit_id
			AND debit.execution_id = charges.execution_id AND kind = 'debit'
		WHERE debited <> COALESCE(-amount, 0) OR (state = 'refused' AND debited <> 0)
		ORDER BY charges.customer_id, debit_id`

	driftOfRefunds = `SELECT charges.customer_id, charges.execution_id, refund_id,
			format('%s charge, debited %s, charged %s, refunded in the ledger: %s', state, debited, charged, COALESCE(amount, 0))
		FROM billing.charges
		LEFT JOIN billing.credit_transactions AS refund ON refund.customer_id = charges.customer_id AND refund.id = refund_id
			AND refund.execution_id = charges.execution_id AND kind = 'refund'
		WHERE COALESCE(amount, 0) <> CASE state WHEN 'settled' THEN debited - charged ELSE 0 END
		ORDER BY charges.customer_id, refund_id`

	driftOfPostings = `SELECT posted.customer_id, posted.execution_id, id, format('a %s of %s that no charge names', kind, abs(amount))
		FROM billing.credit_transactions AS posted
		LEFT JOIN billing.charges ON charges.execution_id = posted.execution_id AND charges.customer_id = posted.customer_id
			AND id = CASE kind WHEN 'debit' THEN debit_id ELSE refund_id END
		WHERE kind IN ('debit', 'refund') AND charges.execution_id IS NULL
		ORDER BY posted.customer_id, id`

	driftOfGrants = `SELECT COALESCE(posted.customer_id, grants.customer_id), NULL::uuid, COALESCE(id, transaction_id),
			format('grant %s: remembered and in the ledger do not agree', COALESCE(posted.grant_id, grants.grant_id))
		FROM (SELECT * FROM billing.credit_transactions WHERE kind = 'grant') AS posted
		FULL JOIN billing.grants ON grants.customer_id = posted.customer_id AND grants.grant_id = posted.grant_id
			AND transaction_id = id
		WHERE posted.id IS NULL OR transaction_id IS NULL
		ORDER BY 1, 3`
)

// Reconcile compares balances, ledger, charges and grants of every customer at one moment, while others go on working. The pool
// must act as the reader's role. It reads the whole ledger.
func Reconcile(ctx context.Context, pool *pgxpool.Pool) (Report, error) {
	report := Report{Drifts: []Drift{}}
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, pool, snapshot, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue(`SELECT set_config('app.customer', $1, true)`, postgres.EveryCustomer)
		batch.Queue(countRows).QueryRow(func(row pgx.Row) error {
			return row.Scan(&report.Accounts, &report.Charges, &report.Transactions)
		})
		for _, rule := range []string{driftOfBalances, driftOfChain, driftOfDebits, driftOfRefunds, driftOfPostings, driftOfGrants} {
			batch.Queue(rule).Query(func(rows pgx.Rows) (err error) {
				report.Drifts, err = pgx.AppendRows(report.Drifts, rows, scanDrift)
				return err
			})
		}
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return Report{}, fmt.Errorf("compare balances with the ledger: %w", err)
	}
	return report, nil
}

func scanDrift(row pgx.CollectableRow) (Drift, error) {
	var drift Drift
	var execution *string
	var transaction *int64
	if err := row.Scan(&drift.CustomerID, &execution, &transaction, &drift.Problem); err != nil {
		return Drift{}, err
	}
	if execution != nil {
		drift.ExecutionID = *execution
	}
	if transaction != nil {
		drift.TransactionID = *transaction
	}
	return drift, nil
}
