package ledger

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
)

// SetOverdraft sets how far debits may bring a customer's balance below 0, and makes the account of a new one. A limit below what is used
// already is no error: it stops further debits. What changes nothing is not reported.
func (l *Ledger) SetOverdraft(ctx context.Context, request query.OverdraftRequest) (reply query.BalanceReply, err error) {
	err = pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		err := l.SetOverdraftTx(ctx, tx, request.CustomerID, request.Limit, request.Actor)
		if err == nil {
			reply, err = l.balanceTx(ctx, tx, request.CustomerID)
		}
		return err
	})
	if err != nil {
		return query.BalanceReply{}, fmt.Errorf("set overdraft of %s: %w", request.CustomerID, err)
	}
	l.Wake()
	return reply, nil
}

// SetOverdraftTx is SetOverdraft in the transaction of the caller, who calls Wake after the commit.
func (l *Ledger) SetOverdraftTx(ctx context.Context, tx pgx.Tx, customer string, limit credit.Micro, actor event.Actor) error {
	if err := l.makeAccount(ctx, tx, customer); err != nil {
		return err
	}
	return l.change(ctx, tx, customer, func(w *walk, account *account) error {
		before := account.overdraft
		if before == limit {
			return nil
		}
		account.overdraft = limit
		account.moved = true
		// What can be used up again is worth telling again.
		account.toldExhausted = account.toldExhausted && !account.covers(1)
		w.serve(account)
		_, err := tx.Exec(ctx, `UPDATE billing.accounts SET overdraft = $2 WHERE customer_id = $1`, customer, int64(limit))
		if err != nil {
			return fmt.Errorf("update overdraft: %w", err)
		}
		change := limitChange{event.ActionOverdraftChanged, overdraftLimit{before}, overdraftLimit{limit}}
		return l.reportLimit(ctx, tx, w, customer, actor, change)
	})
}

// SetLowBalance sets below which balance a customer is told, and makes the account of a new one. A balance that is below it already is
// told at once. What changes nothing is not reported.
func (l *Ledger) SetLowBalance(ctx context.Context, request query.LowBalanceRequest) (reply query.BalanceReply, err error) {
	err = pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		err := l.makeAccount(ctx, tx, request.CustomerID)
		if err == nil {
			err = l.change(ctx, tx, request.CustomerID, func(w *walk, account *account) error {
				return l.setLowBalance(ctx, tx, w, account, &request)
			})
		}
		if err == nil {
			reply, err = l.balanceTx(ctx, tx, request.CustomerID)
		}
		return err
	})
	if err != nil {
		return query.BalanceReply{}, fmt.Errorf("set low balance of %s: %w", request.CustomerID, err)
	}
	l.outbox.Wake()
	return reply, nil
}

func (l *Ledger) setLowBalance(ctx context.Context, tx pgx.Tx, w *walk, account *account, request *query.LowBalanceRequest) error {
	wanted := credit.Micro(math.MinInt64)
	if request.Threshold != nil {
		wanted = *request.Threshold
	}
	if wanted == account.low {
		return nil
	}
	var before *credit.Micro
	if account.hasLow() {
		known := account.low
		before = &known
	}
	account.low, account.toldLow, account.moved = wanted, false, true
	w.watchLow(account)
	_, err := tx.Exec(ctx, `UPDATE billing.accounts SET low_balance = $2 WHERE customer_id = $1`,
		request.CustomerID, request.Threshold)
	if err != nil {
		return fmt.Errorf("update low balance: %w", err)
	}
	change := limitChange{event.ActionLowBalanceChanged, lowBalance{before}, lowBalance{request.Threshold}}
	return l.reportLimit(ctx, tx, w, request.CustomerID, request.Actor, change)
}

// limitChange is a change of a limit, as its activity tells it.
type limitChange struct {
	action        string
	before, after any
}

// overdraftLimit and lowBalance are what the activities of a change tell.
type overdraftLimit struct {
	Limit credit.Micro `json:"limit"`
}

type lowBalance struct {
	// Threshold is null for none.
	Threshold *credit.Micro `json:"threshold"`
}

func (l *Ledger) reportLimit(
	ctx context.Context, tx pgx.Tx, w *walk, customer string, actor event.Actor, change limitChange,
) error {
	changes, err := event.Changes(change.before, change.after)
	if err != nil {
		return fmt.Errorf("encode changes: %w", err)
	}
	return l.outbox.Activity(ctx, tx, event.Activity{
		CustomerID: customer, ActionType: change.action, ResourceType: "credits", ResourceID: customer,
		Actor: actor, Changes: changes, Outcome: "success", OccurredAt: w.now,
	}, "")
}
