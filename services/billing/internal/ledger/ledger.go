package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbox"
)

// Ledger moves credits.
type Ledger struct {
	pool   *pgxpool.Pool
	outbox *outbox.Outbox
	now    clock.Clock
}

// PoolSettings are the run-time parameters of a Ledger's connections. Its statements reach every row by its key, whatever the
// statistics say of a table that grows by thousands of rows a second; so their plans are made once and kept, which halves the
// work of Postgres when batches are small.
func PoolSettings() map[string]string {
	return map[string]string{"enable_seqscan": "off", "plan_cache_mode": "force_generic_plan"}
}

// New makes a Ledger over a pool that acts as the role of the batch work, with PoolSettings.
func New(pool *pgxpool.Pool, outbox *outbox.Outbox, now clock.Clock) *Ledger {
	return &Ledger{pool: pool, outbox: outbox, now: now}
}

// Apply follows the instructions in one transaction and returns, for each of them, how its execution stands afterwards. An
// execution that was decided before keeps its decision, so a batch may be applied again, in part, in another order or at the
// same time elsewhere. After an error nothing is known: it may have been committed, and has to be applied again.
func (l *Ledger) Apply(ctx context.Context, instructions []Instruction) ([]Charge, error) {
	w := newWalk(instructions)
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("acquire connection: %w", err)
	}
	// After an error the transaction is still open: the pool then closes the connection, and Postgres rolls back.
	defer conn.Release()
	if err := read(ctx, conn.Conn(), w); err != nil {
		return nil, fmt.Errorf("read accounts and charges: %w", err)
	}
	w.decide()
	if err := write(ctx, conn.Conn(), w, l.now()); err != nil {
		return nil, fmt.Errorf("write charges and ledger: %w", err)
	}
	return w.answers(), nil
}
