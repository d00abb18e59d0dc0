package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbox"
)

// Ledger moves credits.
type Ledger struct {
	pool   *pgxpool.Pool
	outbox *outbox.Outbox
	now    clock.Clock
	wake   chan struct{}
}

// PoolSettings are the run-time parameters of a Ledger's connections. Its statements reach every row by its key, whatever the
// statistics say of a table that grows by thousands of rows a second; so their plans are made once and kept, which halves the
// work of Postgres when batches are small.
func PoolSettings() map[string]string {
	return map[string]string{"enable_seqscan": "off", "plan_cache_mode": "force_generic_plan"}
}

// New makes a Ledger over a pool that acts as the role of the batch work, with PoolSettings.
func New(pool *pgxpool.Pool, outbox *outbox.Outbox, now clock.Clock) *Ledger {
	return &Ledger{pool: pool, outbox: outbox, now: now, wake: make(chan struct{}, 1)}
}

// Apply follows the instructions in one transaction and returns, for each of them, how its execution stands afterwards. An
// execution that was decided before keeps its decision, so a batch may be applied again, in part, in another order or at the
// same time elsewhere. After an error nothing is known: it may have been committed, and has to be applied again.
func (l *Ledger) Apply(ctx context.Context, instructions []Instruction) ([]Charge, error) {
	w := newWalk(instructions)
	if err := l.follow(ctx, w); err != nil {
		return nil, err
	}
	return w.answers(), nil
}

// follow is a transaction of two round trips: the accounts are locked and everything is read; then what was decided is written and
// committed. One more is needed when something comes back to a lot that is empty, one more when something has expired, one more when
// executions of the customers wait for credits.
func (l *Ledger) follow(ctx context.Context, w *walk) error {
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("acquire connection: %w", err)
	}
	// After an error the transaction is still open: the pool then closes the connection, and Postgres rolls back.
	defer conn.Release()
	first := &pgx.Batch{}
	first.Queue(begin)
	if err := l.decide(ctx, conn.Conn(), first, w); err != nil {
		return err
	}
	if err := l.number(ctx, conn.Conn(), w); err != nil {
		return err
	}
	last := &pgx.Batch{}
	if err := l.queueWrite(last, w); err != nil {
		return err
	}
	last.Queue(commit)
	if err := conn.SendBatch(ctx, last).Close(); err != nil {
		return fmt.Errorf("write charges and ledger: %w", err)
	}
	if w.reports() {
		l.outbox.Wake()
	}
	if w.tells {
		l.wakeTeller()
	}
	return nil
}

// Wake tells those who carry out what was stored that a transaction of the caller was committed.
func (l *Ledger) Wake() {
	l.outbox.Wake()
	l.wakeTeller()
}

func (l *Ledger) wakeTeller() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Woken gets a value when it may be time to look at Serve and Decided again.
func (l *Ledger) Woken() <-chan struct{} {
	return l.wake
}

// decide reads, with the statements that are in the batch already, and decides.
func (l *Ledger) decide(ctx context.Context, conn sender, batch *pgx.Batch, w *walk) error {
	w.now = l.now()
	w.queueRead(batch)
	err := conn.SendBatch(ctx, batch).Close()
	w.now = l.now() // it may have waited for the accounts
	if err == nil {
		err = w.checkLocks()
	}
	if err == nil {
		err = w.readQueues(ctx, conn)
	}
	if err == nil {
		err = w.readClosed(ctx, conn)
	}
	if err == nil {
		err = w.checkLots()
	}
	if err != nil {
		return fmt.Errorf("read accounts and charges: %w", err)
	}
	for _, account := range w.accounts {
		account.order()
	}
	w.decide()
	return nil
}

func (l *Ledger) number(ctx context.Context, conn sender, w *walk) error {
	if err := w.readIDs(ctx, conn, len(w.postings)); err != nil {
		return fmt.Errorf("take numbers: %w", err)
	}
	w.number()
	return nil
}

// change does something to one account, whose lots that are over expire before, in the transaction of the caller. An account that was
// never made is errNoAccount.
func (l *Ledger) change(ctx context.Context, tx pgx.Tx, customer string, do func(w *walk, account *account) error) error {
	w := newWalk(nil)
	account := w.account(customer)
	if err := l.decide(ctx, tx, &pgx.Batch{}, w); err != nil {
		return err
	}
	if !account.locked {
		return errNoAccount
	}
	if err := do(w, account); err != nil {
		return err
	}
	if err := l.number(ctx, tx, w); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	if err := l.queueWrite(batch, w); err != nil {
		return err
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("write ledger and account: %w", err)
	}
	return nil
}

var errNoAccount = errors.New("the customer has no account")
