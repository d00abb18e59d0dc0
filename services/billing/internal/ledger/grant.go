package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
)

// MaxBalance is what a grant may bring a balance to: a billion credits. It is far below what 64 bits hold, so that no refund can
// overflow a balance.
const MaxBalance = 1_000_000_000 * credit.One

// ErrMaxBalance says that a grant would bring the balance over MaxBalance.
var ErrMaxBalance = fmt.Errorf("the balance would exceed %s credits", MaxBalance)

// activityGranted is the action type of the activity that a grant reports.
const activityGranted = "credits.granted"

// Grant adds credits to a customer's balance, and makes the account of a new one. The same id is the same grant: when it was made
// before, the reply is its row with Repeated set, and nothing moves. The amount must be positive. It returns ErrMaxBalance when
// the balance would grow too large.
func (l *Ledger) Grant(ctx context.Context, request query.GrantRequest) (query.GrantReply, error) {
	var reply query.GrantReply
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) (err error) {
		reply, err = l.GrantTx(ctx, tx, request)
		return err
	})
	if err != nil {
		return query.GrantReply{}, fmt.Errorf("grant %s to %s: %w", request.ID, request.CustomerID, err)
	}
	l.outbox.Wake()
	return reply, nil
}

// GrantTx is Grant in the transaction of the caller, who wakes the outbox after the commit. It keeps the account locked until then.
func (l *Ledger) GrantTx(ctx context.Context, tx pgx.Tx, request query.GrantRequest) (query.GrantReply, error) {
	now := l.now()
	balance, err := lockAccount(ctx, tx, request.CustomerID, now)
	if err != nil {
		return query.GrantReply{}, err
	}
	earlier, err := grantedBefore(ctx, tx, request.CustomerID, request.ID)
	if err == nil {
		return grantReply(earlier, balance, true), nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return query.GrantReply{}, fmt.Errorf("look for the grant: %w", err)
	}
	if request.Amount > MaxBalance-balance {
		return query.GrantReply{}, ErrMaxBalance
	}
	granted, err := postGrant(ctx, tx, request, balance+request.Amount, now)
	if err != nil {
		return query.GrantReply{}, err
	}
	if err := l.reportGrant(ctx, tx, request, granted); err != nil {
		return query.GrantReply{}, err
	}
	return grantReply(granted, granted.BalanceAfter, false), nil
}

func grantReply(granted query.Transaction, balance credit.Micro, repeated bool) query.GrantReply {
	return query.GrantReply{Transaction: granted, Balance: balanceReply(granted.CustomerID, balance), Repeated: repeated}
}

// lockAccount makes the account when it is missing, and waits for the lock of it.
func lockAccount(ctx context.Context, tx pgx.Tx, customer string, now time.Time) (balance credit.Micro, err error) {
	_, err = tx.Exec(ctx, `INSERT INTO billing.accounts (customer_id, balance, created_at) VALUES ($1, 0, $2)
		ON CONFLICT (customer_id) DO NOTHING`, customer, now)
	if err != nil {
		return 0, fmt.Errorf("make account: %w", err)
	}
	err = tx.QueryRow(ctx, `SELECT balance FROM billing.accounts WHERE customer_id = $1 FOR UPDATE`, customer).Scan(&balance)
	if err != nil {
		return 0, fmt.Errorf("lock account: %w", err)
	}
	return balance, nil
}

func grantedBefore(ctx context.Context, tx pgx.Tx, customer, id string) (query.Transaction, error) {
	rows, err := tx.Query(ctx, selectTransactions+`
		WHERE customer_id = $1 AND id = (SELECT transaction_id FROM billing.grants WHERE customer_id = $1 AND grant_id = $2)`,
		customer, id)
	if err != nil {
		return query.Transaction{}, err
	}
	return pgx.CollectExactlyOneRow(rows, scanTransaction)
}

func postGrant(
	ctx context.Context, tx pgx.Tx, request query.GrantRequest, balance credit.Micro, now time.Time,
) (query.Transaction, error) {
	granted := query.Transaction{
		CustomerID: request.CustomerID, Kind: kindGrant, Amount: request.Amount, BalanceAfter: balance, Reason: request.Reason,
		CreatedAt: now,
	}
	err := tx.QueryRow(ctx, `INSERT INTO billing.credit_transactions
			(customer_id, kind, amount, balance_after, grant_id, reason, created_at)
		VALUES ($1, $2, $3, $4, $5, NULLIF($6, ''), $7) RETURNING id`,
		granted.CustomerID, granted.Kind, granted.Amount, granted.BalanceAfter, request.ID, granted.Reason, now).Scan(&granted.ID)
	if err != nil {
		return query.Transaction{}, fmt.Errorf("post to the ledger: %w", err)
	}
	_, err = tx.Exec(ctx, `INSERT INTO billing.grants (customer_id, grant_id, transaction_id) VALUES ($1, $2, $3)`,
		granted.CustomerID, request.ID, granted.ID)
	if err != nil {
		return query.Transaction{}, fmt.Errorf("remember the grant: %w", err)
	}
	_, err = tx.Exec(ctx, `UPDATE billing.accounts SET balance = $2 WHERE customer_id = $1`, granted.CustomerID, balance)
	if err != nil {
		return query.Transaction{}, fmt.Errorf("update the balance: %w", err)
	}
	return granted, nil
}

// granted is what the activity of a grant tells as its changes.
type granted struct {
	TransactionID int64        `json:"transaction_id"`
	Amount        credit.Micro `json:"amount"`
	BalanceAfter  credit.Micro `json:"balance_after"`
	Reason        string       `json:"reason,omitempty"`
}

func (l *Ledger) reportGrant(ctx context.Context, tx pgx.Tx, request query.GrantRequest, row query.Transaction) error {
	changes, err := json.Marshal(granted{
		TransactionID: row.ID, Amount: row.Amount, BalanceAfter: row.BalanceAfter, Reason: row.Reason,
	})
	if err != nil {
		return fmt.Errorf("encode changes: %w", err)
	}
	return l.outbox.Activity(ctx, tx, event.Activity{
		CustomerID: row.CustomerID, ActionType: activityGranted, ResourceType: "credits", ResourceID: request.ID,
		Actor: request.Actor, Changes: changes, Outcome: "success", OccurredAt: row.CreatedAt,
	}, "")
}
