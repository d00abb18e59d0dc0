package ledger

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
)

// ErrNoGrant says that a customer has no grant of the id.
var ErrNoGrant = errors.New("no such grant")

// ExpireTx ends a grant at the time now, in the transaction of the caller, who wakes the outbox after the commit: what is left of it is
// taken back, and so is what comes back to it later. It returns what has expired of the grant in all, also when that happened before:
// a debit or the sweep may have come first, so what a roll-over carries follows from this, not from RemainingTx. It returns ErrNoGrant
// for a grant that was never made.
func (l *Ledger) ExpireTx(
	ctx context.Context, tx pgx.Tx, customer, grantID string, now time.Time,
) (expired credit.Micro, err error) {
	return 0, errors.ErrUnsupported
}

// RemainingTx is what is left of a grant: 0 once it has expired. It locks the customer's account. It returns ErrNoGrant for a grant that
// was never made.
func (l *Ledger) RemainingTx(ctx context.Context, tx pgx.Tx, customer, grantID string) (credit.Micro, error) {
	return 0, errors.ErrUnsupported
}

// SetOverdraftTx sets how far debits may bring the customer's balance below 0, in the transaction of the caller, who wakes the outbox
// after the commit. A limit below what is used already is no error: it stops further debits. What changes nothing is not reported.
func (l *Ledger) SetOverdraftTx(ctx context.Context, tx pgx.Tx, customer string, limit credit.Micro, actor event.Actor) error {
	return errors.ErrUnsupported
}
