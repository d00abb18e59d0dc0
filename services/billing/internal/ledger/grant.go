package ledger

import (
	"cmp"
	"context"
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

// ErrExpired says that a grant would be over already.
var ErrExpired = errors.New("expires_at must be in the future")

// Grant adds credits to a customer's balance, and makes the account of a new one. The same id is the same grant: when it was made
// before, the reply is its row with Repeated set, and nothing moves. The amount must be positive, kind and priority valid. It returns
// ErrMaxBalance when the balance would grow too large, ErrExpired when the grant would be over already.
func (l *Ledger) Grant(ctx context.Context, request query.GrantRequest) (query.GrantReply, error) {
	var reply query.GrantReply
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) (err error) {
		reply, err = l.GrantTx(ctx, tx, request)
		if err == nil && !reply.Repeated && request.ExpiresAt != nil && !request.ExpiresAt.After(reply.Transaction.CreatedAt) {
			return ErrExpired
		}
		return err
	})
	if err != nil {
		return query.GrantReply{}, fmt.Errorf("grant %s to %s: %w", request.ID, request.CustomerID, err)
	}
	l.Wake()
	return reply, nil
}

// GrantTx is Grant in the transaction of the caller, who calls Wake after the commit. It keeps the account locked until then. A
// grant that is over already is made all the same, for who catches up with what should have been done earlier: nobody can burn it.
func (l *Ledger) GrantTx(ctx context.Context, tx pgx.Tx, request query.GrantRequest) (query.GrantReply, error) {
	request.Kind = cmp.Or(request.Kind, query.GrantTopUp)
	if err := l.makeAccount(ctx, tx, request.CustomerID); err != nil {
		return query.GrantReply{}, err
	}
	var reply query.GrantReply
	err := l.change(ctx, tx, request.CustomerID, func(w *walk, account *account) (err error) {
		reply.Transaction, err = grantedBefore(ctx, tx, request.CustomerID, request.ID)
		if err == nil {
			reply.Repeated = true
			return nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("look for the grant: %w", err)
		}
		if err := w.readIDs(ctx, tx, len(w.postings)+1); err != nil {
			return fmt.Errorf("take numbers: %w", err)
		}
		return grant(w, account, &request)
	})
	if err == nil && !reply.Repeated {
		reply.Transaction, err = l.reportGrant(ctx, tx, &request)
	}
	if err == nil {
		reply.Balance, err = l.balanceTx(ctx, tx, request.CustomerID)
	}
	if err != nil {
		return query.GrantReply{}, err
	}
	return reply, nil
}

func grant(w *walk, account *account, request *query.GrantRequest) error {
	if request.Amount > MaxBalance-account.balance {
		return ErrMaxBalance
	}
	lot := &lot{grant: request.ID, terms: request, priority: query.DefaultPriority}
	if request.Priority != nil {
		lot.priority = *request.Priority
	}
	if request.ExpiresAt != nil {
		lot.expires = *request.ExpiresAt
	}
	w.grant(account, lot)
	return nil
}

func (l *Ledger) makeAccount(ctx context.Context, tx pgx.Tx, customer string) error {
	_, err := tx.Exec(ctx, `INSERT INTO billing.accounts (customer_id, balance, created_at) VALUES ($1, 0, $2)
		ON CONFLICT (customer_id) DO NOTHING`, customer, l.now())
	if err != nil {
		return fmt.Errorf("make account: %w", err)
	}
	return nil
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

// granted is what the activity of a grant tells.
type granted struct {
	TransactionID int64           `json:"transaction_id"`
	Amount        credit.Micro    `json:"amount"`
	BalanceAfter  credit.Micro    `json:"balance_after"`
	Kind          query.GrantKind `json:"kind"`
	ExpiresAt     *time.Time      `json:"expires_at,omitempty"`
	Reason        string          `json:"reason,omitempty"`
}

// reportGrant reads the row that was written and stores the activity.
func (l *Ledger) reportGrant(ctx context.Context, tx pgx.Tx, request *query.GrantRequest) (query.Transaction, error) {
	row, err := grantedBefore(ctx, tx, request.CustomerID, request.ID)
	if err != nil {
		return query.Transaction{}, fmt.Errorf("read the grant: %w", err)
	}
	changes, err := event.Changes(nil, granted{
		TransactionID: row.ID, Amount: row.Amount, BalanceAfter: row.BalanceAfter, Kind: request.Kind, ExpiresAt: request.ExpiresAt,
		Reason: row.Reason,
	})
	if err != nil {
		return query.Transaction{}, fmt.Errorf("encode changes: %w", err)
	}
	return row, l.outbox.Activity(ctx, tx, event.Activity{
		CustomerID: row.CustomerID, ActionType: event.ActionCreditsGranted, ResourceType: "credits", ResourceID: request.ID,
		Actor: request.Actor, Changes: changes, Outcome: "success", OccurredAt: row.CreatedAt,
	}, "")
}
