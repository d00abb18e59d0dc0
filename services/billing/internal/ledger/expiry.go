package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/schemas/credit"
)

// ErrNoGrant says that a customer has no grant of the id.
var ErrNoGrant = errors.New("no such grant")

const (
	// sweepInterval is how long what is over may stay on a balance of which nobody wants anything. Debits look for themselves.
	sweepInterval = time.Minute
	sweepPage     = 200
)

const overCustomers = `SELECT DISTINCT customer_id FROM (SELECT customer_id FROM billing.grants
	WHERE open AND expires_at <= $1 ORDER BY expires_at LIMIT $2) AS over`

// Sweep takes back what is over, once in a while, until ctx ends. Every process may do it: the lock of the account and what remains of
// the lot make it happen once.
func (l *Ledger) Sweep(ctx context.Context, report func(error)) error {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		if err := l.ExpireDue(ctx); err != nil && ctx.Err() == nil {
			report(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// ExpireDue takes back what is over now, of a page of customers in each transaction.
func (l *Ledger) ExpireDue(ctx context.Context) error {
	now := l.now()
	for {
		rows, err := l.pool.Query(ctx, overCustomers, now, sweepPage)
		if err != nil {
			return fmt.Errorf("look for grants that are over: %w", err)
		}
		customers, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("look for grants that are over: %w", err)
		}
		if len(customers) == 0 {
			return nil
		}
		w := newWalk(nil)
		for _, customer := range customers {
			w.account(customer)
		}
		if err := l.follow(ctx, w); err != nil {
			return fmt.Errorf("expire: %w", err)
		}
		if len(w.postings) == 0 { // somebody else was faster, and does the rest
			return nil
		}
	}
}

// ExpireTx ends a grant at the time now, in the transaction of the caller, who wakes the outbox after the commit: what is left of it is
// taken back, and so is what comes back to it later. It returns what has expired of the grant in all, also when that happened before:
// a debit or the sweep may have come first, so what a roll-over carries follows from this, not from RemainingTx. It returns ErrNoGrant
// for a grant that was never made.
func (l *Ledger) ExpireTx(
	ctx context.Context, tx pgx.Tx, customer, grantID string, now time.Time,
) (expired credit.Micro, err error) {
	err = l.change(ctx, tx, customer, func(w *walk, account *account) error {
		ended, err := endGrant(ctx, tx, customer, grantID, now)
		if err != nil {
			return err
		}
		lot := account.lot(ended.id)
		if lot == nil {
			expired = ended.expired
			return nil
		}
		lot.expires = ended.expires
		w.lapse(account, lot)
		expired = lot.expired
		return nil
	})
	if errors.Is(err, errNoAccount) {
		err = ErrNoGrant
	}
	if err != nil {
		return 0, fmt.Errorf("expire grant %s of %s: %w", grantID, customer, err)
	}
	return expired, nil
}

// endGrant makes a grant be over from a time on, unless it is over earlier.
func endGrant(ctx context.Context, tx pgx.Tx, customer, grantID string, now time.Time) (ended lot, err error) {
	err = tx.QueryRow(ctx, `UPDATE billing.grants SET expires_at = LEAST(expires_at, $3) WHERE customer_id = $1 AND grant_id = $2
		RETURNING transaction_id, expires_at, expired`, customer, grantID, now).Scan(&ended.id, &ended.expires, &ended.expired)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNoGrant
	}
	return ended, err
}

// RemainingTx is what is left of a grant: 0 once it has expired. It locks the customer's account until the transaction of the caller ends.
// It returns ErrNoGrant for a grant that was never made.
func (l *Ledger) RemainingTx(ctx context.Context, tx pgx.Tx, customer, grantID string) (remaining credit.Micro, err error) {
	// Two statements: the second one sees what was committed while the first one waited.
	_, err = tx.Exec(ctx, `SELECT FROM billing.accounts WHERE customer_id = $1 FOR UPDATE`, customer)
	if err == nil {
		err = tx.QueryRow(ctx, `SELECT remaining FROM billing.grants WHERE customer_id = $1 AND grant_id = $2`, customer, grantID).
			Scan(&remaining)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNoGrant
	}
	if err != nil {
		return 0, fmt.Errorf("look at grant %s of %s: %w", grantID, customer, err)
	}
	return remaining, nil
}
