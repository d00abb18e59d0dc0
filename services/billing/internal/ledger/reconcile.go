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
		WHERE balance IS DISTINCT FROM COALESCE(total, 0)
		ORDER BY customer_id`

	driftOfChain = `SELECT customer_id, execution_id, id,
			format('the balance was %s, the amount is %s, the balance after it is said to be %s', earlier, amount, balance_after)
		FROM (SELECT *, COALESCE(lag(balance_after) OVER (PARTITION BY customer_id ORDER BY id), 0) AS earlier
			FROM billing.credit_transactions) AS chained
		WHERE earlier + amount <> balance_after
		ORDER BY customer_id, id`

	driftOfDebits = `SELECT charges.customer_id, charges.execution_id, debit_id,
			format('%s charge of %s, debited in the ledger: %s', state, debited, COALESCE(-amount, 0))
		FROM billing.charges
		LEFT JOIN billing.credit_transactions AS debit ON debit.customer_id = charges.customer_id AND debit.id = debit_id
			AND debit.execution_id = charges.execution_id AND kind = 'debit'
		WHERE debited <> COALESCE(-amount, 0) OR (state IN ('refused', 'waiting') AND debited <> 0)
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
		WHERE posted.id IS NULL OR transaction_id IS NULL OR grants.amount <> posted.amount
		ORDER BY 1, 3`

	driftOfExpiries = `SELECT customer_id, NULL::uuid, transaction_id,
			format('grant %s: expired %s, in the ledger %s', grant_id, COALESCE(expired, 0), COALESCE(posted, 0))
		FROM billing.grants
		FULL JOIN (SELECT customer_id, grant_id, -sum(amount) AS posted FROM billing.credit_transactions
			WHERE kind = 'expire' GROUP BY customer_id, grant_id) AS ledger USING (customer_id, grant_id)
		WHERE COALESCE(expired, 0) <> COALESCE(posted, 0)
		ORDER BY customer_id, transaction_id`

	// What remains of the lots is the balance, or nothing while the balance is negative.
	driftOfLots = `SELECT customer_id, NULL::uuid, NULL::bigint,
			format('the balance is %s, of the grants remains %s', COALESCE(balance::text, 'missing'), COALESCE(total, 0))
		FROM billing.accounts
		FULL JOIN (SELECT customer_id, sum(remaining) AS total FROM billing.grants GROUP BY customer_id) AS lots USING (customer_id)
		WHERE GREATEST(balance, 0) IS DISTINCT FROM COALESCE(total, 0)
		ORDER BY customer_id`

	// The parts of every debit, with what the charge still holds of each: a settle gives back from the end.
	parts = `WITH parts AS (SELECT customer_id, execution_id, allocation[2 * nth - 1] AS lot, allocation[2 * nth] AS amount,
				CASE state WHEN 'settled' THEN charged ELSE debited END AS held,
				sum(allocation[2 * nth]) OVER (PARTITION BY customer_id, execution_id ORDER BY nth) - allocation[2 * nth] AS earlier
			FROM billing.charges CROSS JOIN LATERAL generate_series(1, cardinality(allocation) / 2) AS nth),
		holds AS (SELECT customer_id, lot, sum(GREATEST(0, LEAST(amount, held - earlier))) AS held FROM parts GROUP BY customer_id, lot) `

	// Only charges that were settled before debits remembered their lots may have no allocation.
	driftOfAllocations = `SELECT customer_id, execution_id, debit_id, format('debited %s, allocated %s', debited, COALESCE(total, 0))
		FROM billing.charges CROSS JOIN LATERAL (SELECT sum(allocation[2 * nth]) AS total
			FROM generate_series(1, cardinality(allocation) / 2) AS nth) AS allocated
		WHERE debited <> COALESCE(total, CASE state WHEN 'settled' THEN debited ELSE 0 END)
		ORDER BY customer_id, debit_id`

	driftOfHolds = parts + `SELECT customer_id, NULL::uuid, transaction_id, format(
			'grant %s of %s: remaining %s, repaid %s, expired %s, unallocated %s, held by charges %s',
			COALESCE(grant_id, 'missing'), COALESCE(amount, 0), remaining, repaid, expired, unallocated, COALESCE(held, 0))
		FROM billing.grants
		FULL JOIN (SELECT customer_id, lot AS transaction_id, held FROM holds WHERE lot <> 0) AS holds USING (customer_id, transaction_id)
		WHERE COALESCE(amount, 0) <> COALESCE(remaining + repaid + expired + unallocated, 0) + COALESCE(held, 0)
		ORDER BY customer_id, transaction_id`

	// What charges hold of the overdraft was paid back by grants, or is owed.
	driftOfOverdrafts = parts + `SELECT customer_id, NULL::uuid, NULL::bigint,
			format('the balance is %s, grants have repaid %s, charges hold %s of the overdraft', balance, COALESCE(paid, 0), COALESCE(held, 0))
		FROM billing.accounts
		LEFT JOIN (SELECT customer_id, sum(repaid) AS paid FROM billing.grants GROUP BY customer_id) AS lots USING (customer_id)
		LEFT JOIN (SELECT customer_id, held FROM holds WHERE lot = 0) AS borrowed USING (customer_id)
		WHERE GREATEST(-balance, 0) + COALESCE(paid, 0) <> COALESCE(held, 0)
		ORDER BY customer_id`

	driftOfUnallocated = `SELECT customer_id, NULL::uuid, NULL::bigint,
			format('charges without an allocation took %s, of the grants %s', COALESCE(charged, 0), COALESCE(total, 0))
		FROM (SELECT customer_id, sum(unallocated) AS total FROM billing.grants GROUP BY customer_id) AS lots
		FULL JOIN (SELECT customer_id, sum(charged) AS charged FROM billing.charges WHERE allocation IS NULL GROUP BY customer_id) AS old
			USING (customer_id)
		WHERE COALESCE(charged, 0) <> COALESCE(total, 0)
		ORDER BY customer_id`
)

const (
	// A charge waits as long as its wait is not decided.
	driftOfWaits = `SELECT customer_id, execution_id, NULL::bigint, format('%s charge, and its wait is %s', COALESCE(state, 'no'),
			CASE WHEN place IS NULL THEN 'missing' WHEN decided_at IS NULL THEN 'not decided' ELSE 'decided' END)
		FROM (SELECT customer_id, execution_id, state FROM billing.charges WHERE state = 'waiting') AS open
		FULL JOIN billing.waits USING (customer_id, execution_id)
		WHERE CASE WHEN state IS NULL THEN decided_at IS NULL ELSE place IS NULL OR decided_at IS NOT NULL END
		ORDER BY customer_id, execution_id`

	driftOfQueues = `SELECT customer_id, NULL::uuid, NULL::bigint,
			format('%s charges are said to wait, %s do', COALESCE(waiting, 0), COALESCE(found, 0))
		FROM billing.accounts FULL JOIN (SELECT customer_id, count(*) AS found FROM billing.charges WHERE state = 'waiting'
			GROUP BY customer_id) AS charges USING (customer_id)
		WHERE COALESCE(waiting, 0) <> COALESCE(found, 0)
		ORDER BY customer_id`
)

func rules() []string {
	return []string{
		driftOfBalances, driftOfChain, driftOfDebits, driftOfRefunds, driftOfPostings, driftOfGrants, driftOfExpiries, driftOfLots,
		driftOfAllocations, driftOfHolds, driftOfOverdrafts, driftOfUnallocated,
		driftOfWaits, driftOfQueues,
	}
}

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
		for _, rule := range rules() {
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
