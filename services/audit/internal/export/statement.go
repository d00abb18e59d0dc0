package export

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
)

// The statements about leaves look each payload up by its key, one after the other: LATERAL with LIMIT leaves Postgres no other way. Those of
// a customer's leaves say "of the customer, in the span" as a range of the index (customer_id, sequence); package reader says why.
const (
	leavesAfter = `
		SELECT e.sequence - 1, e.leaf, p.salt, p.data
		FROM (SELECT sequence, leaf FROM audit.events WHERE sequence > $1 AND sequence <= $2 ORDER BY sequence LIMIT $4) AS e
			LEFT JOIN LATERAL (SELECT salt, CASE WHEN octet_length(data) <= $3 THEN data END AS data
				FROM audit.payloads WHERE sequence = e.sequence LIMIT 1) AS p ON true
		ORDER BY e.sequence`

	customersLeavesAfter = `
		SELECT e.sequence - 1, e.leaf, p.salt, p.data
		FROM (SELECT sequence, leaf FROM audit.events WHERE (customer_id, sequence) > ($5, $1) AND (customer_id, sequence) <= ($5, $2)
				ORDER BY customer_id, sequence LIMIT $4) AS e
			LEFT JOIN LATERAL (SELECT salt, CASE WHEN octet_length(data) <= $3 THEN data END AS data
				FROM audit.payloads WHERE sequence = e.sequence LIMIT 1) AS p ON true
		ORDER BY e.sequence`
)

// tilesWithLeaves finds the tiles of a level below which the customer has leaves, from an index onwards: for each, it looks up the
// customer's next leaf behind it.
func (e *Exporter) tilesWithLeaves(ctx context.Context, j *job, shift int, from int64) (indexes []int64, err error) {
	const statement = `
		WITH RECURSIVE found (tile) AS (
			(SELECT (sequence - 1) >> $4 FROM audit.events
			WHERE (customer_id, sequence) > ($1, $2::bigint << $4) AND (customer_id, sequence) <= ($1, $3) ORDER BY customer_id, sequence LIMIT 1)
			UNION ALL
			SELECT (SELECT (sequence - 1) >> $4 FROM audit.events
				WHERE (customer_id, sequence) > ($1, (found.tile + 1) << $4) AND (customer_id, sequence) <= ($1, $3)
				ORDER BY customer_id, sequence LIMIT 1)
			FROM found WHERE found.tile IS NOT NULL
		)
		SELECT tile FROM found WHERE tile IS NOT NULL LIMIT $5`
	err = postgres.Query(ctx, e.Pool, j.setting, func(batch *pgx.Batch) {
		batch.Queue(statement, j.customer, from, j.head.Size, shift, e.tiles).Query(func(rows pgx.Rows) (err error) {
			indexes, err = pgx.CollectRows(rows, pgx.RowTo[int64])
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("look up tiles with leaves of %s: %w", j.customer, err)
	}
	return indexes, nil
}

// headsFrom reads signed heads of the log's present name, those of older names being another log's.
func (e *Exporter) headsFrom(ctx context.Context, j *job, size int64) ([]storedtree.SignedHead, error) {
	const statement = `
		SELECT size, note::bytea FROM audit.tree_heads WHERE size >= $1 AND size < $2 AND starts_with(note, $3) ORDER BY size LIMIT $4`
	rows, err := e.Pool.Query(ctx, statement, size, j.head.Size, j.head.Origin+"\n", e.heads)
	if err != nil {
		return nil, fmt.Errorf("read tree heads: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[storedtree.SignedHead])
	if err != nil {
		return nil, fmt.Errorf("read tree heads: %w", err)
	}
	return found, nil
}
