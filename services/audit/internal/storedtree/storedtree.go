// Package storedtree reads the Merkle tree out of Postgres.
package storedtree

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// Querier is a pool, a connection, or a transaction.
type Querier interface {
	Query(ctx context.Context, statement string, arguments ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, statement string, arguments ...any) pgx.Row
}

// Head is the end of the log as it is stored.
type Head struct {
	// Rows is the number of rows of the log. It is the size of Edge, but for the moment after the tree was introduced.
	Rows int64
	Root tree.Hash
	Edge *tree.Edge
}

// Load reads the end of the log.
func Load(ctx context.Context, db Querier) (Head, error) {
	var head Head
	var size int64
	var root, edge []byte
	err := db.QueryRow(ctx, `SELECT sequence, tree_size, root, edge FROM audit.head`).Scan(&head.Rows, &size, &root, &edge)
	if err != nil {
		return Head{}, fmt.Errorf("read the head of the log: %w", err)
	}
	if len(root) != tree.HashSize {
		return Head{}, fmt.Errorf("read the head of the log: the root has %d bytes", len(root))
	}
	copy(head.Root[:], root)
	if head.Edge, err = tree.ParseEdge(size, edge); err != nil {
		return Head{}, fmt.Errorf("read the head of the log: %w", err)
	}
	return head, nil
}

// View gives the tree as it stands now.
func View(ctx context.Context, db Querier) (*tree.View, error) {
	head, err := Load(ctx, db)
	if err != nil {
		return nil, err
	}
	return &tree.View{Edge: head.Edge, Fetch: func(wanted []tree.TileID) (map[tree.TileID][]byte, error) {
		return tiles(ctx, db, wanted)
	}}, nil
}

func tiles(ctx context.Context, db Querier, wanted []tree.TileID) (map[tree.TileID][]byte, error) {
	const statement = `
		SELECT level, index, hashes FROM audit.tiles
		JOIN unnest($1::smallint[], $2::bigint[]) AS wanted (level, index) USING (level, index)`
	levels, indexes := make([]int16, len(wanted)), make([]int64, len(wanted))
	for i, id := range wanted {
		levels[i], indexes[i] = int16(id.Level), id.Index //nolint:gosec // a tree has at most 8 levels of tiles
	}
	rows, err := db.Query(ctx, statement, levels, indexes)
	if err != nil {
		return nil, fmt.Errorf("read tiles: %w", err)
	}
	found := make(map[tree.TileID][]byte, len(wanted))
	var id tree.TileID
	var hashes []byte
	_, err = pgx.ForEachRow(rows, []any{&id.Level, &id.Index, &hashes}, func() error {
		found[id] = append([]byte{}, hashes...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read tiles: %w", err)
	}
	return found, nil
}

// SignedHead is a signed tree head, with the size that it is of.
type SignedHead struct {
	Size int64
	Note []byte
}

// Latest gives the newest signed tree head. There may be none: then Size is 0.
func Latest(ctx context.Context, db Querier) (SignedHead, error) {
	return signedHead(ctx, db, `SELECT size, note::bytea FROM audit.tree_heads ORDER BY size DESC LIMIT 1`)
}

// SignedAt gives the signed tree head of a size. There may be none: then Size is 0.
func SignedAt(ctx context.Context, db Querier, size int64) (SignedHead, error) {
	return signedHead(ctx, db, `SELECT size, note::bytea FROM audit.tree_heads WHERE size = $1`, size)
}

func signedHead(ctx context.Context, db Querier, statement string, arguments ...any) (SignedHead, error) {
	rows, err := db.Query(ctx, statement, arguments...)
	if err != nil {
		return SignedHead{}, fmt.Errorf("read a signed tree head: %w", err)
	}
	heads, err := pgx.CollectRows(rows, pgx.RowToStructByPos[SignedHead])
	if err != nil {
		return SignedHead{}, fmt.Errorf("read a signed tree head: %w", err)
	}
	if len(heads) == 0 {
		return SignedHead{}, nil
	}
	return heads[0], nil
}
