package writer

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// catchUpBatch is how many rows one transaction takes into a tree that has not all of them.
const catchUpBatch = 10_000

// store appends the entries in one transaction: rows, payloads, tiles and the end of the log, together with the position that says which
// messages they came from. It is fenced twice: by the position, so that no message takes effect twice, and by the end of the log, so that
// two writers never append behind the same leaf.
func (w *Writer) store(ctx context.Context, after bus.Place, last uint64, entries []entry) error {
	w.appending.Lock()
	defer w.appending.Unlock()
	known, err := w.tipFor(ctx, entries)
	if err != nil {
		return err
	}
	batch := known.seal(entries)
	// Whatever goes wrong, also after the commit, the end is read again.
	w.tip = nil
	err = pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		if err := postgres.Advance(ctx, tx, query.ServiceAudit, after.Key, after.Sequence, last); err != nil {
			return err
		}
		if len(entries) == 0 {
			return nil
		}
		var statements pgx.Batch
		queueAppend(&statements, known.edge.Size(), batch.edge)
		queueRows(&statements, known.edge.Size(), w.clock(), &batch.rows)
		queueTiles(&statements, batch.tiles)
		return tx.SendBatch(ctx, &statements).Close()
	})
	if err != nil {
		return fmt.Errorf("append %d rows: %w", len(entries), err)
	}
	w.tip = known.next(batch)
	w.signer.grown(w.tip.edge.Size())
	return nil
}

// tipFor gives the end of the log, with the chains of the entries' customers. It reads what it does not know; when somebody else appends
// meanwhile, the end that it knows is not the end any more, and the transaction is fenced.
func (w *Writer) tipFor(ctx context.Context, entries []entry) (*tip, error) {
	if w.tip == nil {
		edge, err := w.catchUp(ctx)
		if err != nil {
			return nil, err
		}
		w.tip = &tip{edge: edge, customers: make(map[string]place)}
	}
	var unseen []string
	for i := range entries {
		customer := entries[i].leaf.CustomerID
		if _, found := w.tip.customers[customer]; !found {
			unseen = append(unseen, customer)
		}
	}
	if len(unseen) == 0 {
		return w.tip, nil
	}
	slices.Sort(unseen)
	unseen = slices.Compact(unseen)
	found, err := places(ctx, w.pool, unseen)
	if err != nil {
		return nil, err
	}
	for _, customer := range unseen {
		w.tip.customers[customer] = found[customer]
	}
	return w.tip, nil
}

// catchUp reads the end of the log, and brings the tree up to the last row where it is behind: after the migration that introduced it.
func (w *Writer) catchUp(ctx context.Context) (*tree.Edge, error) {
	for {
		head, err := storedtree.Load(ctx, w.pool)
		if err != nil {
			return nil, err
		}
		if head.Edge.Size() == head.Rows {
			return head.Edge, nil
		}
		grown := head.Edge.Clone()
		hashes, err := rowsAfter(ctx, w.pool, grown.Size(), catchUpBatch)
		if err != nil {
			return nil, err
		}
		if len(hashes) == 0 {
			return nil, fmt.Errorf("the log should have %d rows, and has none after %d", head.Rows, grown.Size())
		}
		var statements pgx.Batch
		for _, hash := range hashes {
			queueTiles(&statements, grown.Append(hash))
		}
		queueCatchUp(&statements, head.Edge.Size(), grown)
		// Without a transaction around it, a batch is one.
		if err := w.pool.SendBatch(ctx, &statements).Close(); err != nil {
			return nil, fmt.Errorf("bring the tree up to row %d: %w", grown.Size(), err)
		}
	}
}
