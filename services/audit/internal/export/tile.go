package export

import (
	"context"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// addTiles goes on with tile from.Index of level from.Level: in an export of the whole log all tiles of the tree; in a customer's those that
// have the customer's leaves below them, and those that are not complete, which give the root.
func (e *Exporter) addTiles(ctx context.Context, j *job, page *page, from *query.AuditExportPlace) (*query.AuditExportPlace, error) {
	shift := tree.TileHeight * from.Level
	hashes := j.head.Size >> shift // how many this level has
	if hashes == 0 {
		return &query.AuditExportPlace{Size: j.head.Size, Kind: audit.KindHead}, nil
	}
	indexes, more, err := e.wanted(ctx, j, from, hashes)
	if err != nil {
		return nil, err
	}
	tiles := make([]tlog.Tile, len(indexes))
	for i, index := range indexes {
		width := min(tree.TileWidth, hashes-index*tree.TileWidth)
		tiles[i] = tlog.Tile{H: tree.TileHeight, L: from.Level, N: index, W: int(width)}
	}
	view, err := storedtree.View(ctx, e.Pool)
	if err != nil {
		return nil, err
	}
	found, err := view.Tiles(tiles)
	if err != nil {
		return nil, err
	}
	for i, tile := range tiles {
		if page.full {
			return &query.AuditExportPlace{Size: j.head.Size, Kind: audit.KindTile, Level: from.Level, Index: tile.N}, nil
		}
		if err := page.add(&audit.Line{Kind: audit.KindTile, Level: from.Level, Index: tile.N, Hashes: found[i]}); err != nil {
			return nil, err
		}
	}
	if more {
		return &query.AuditExportPlace{Size: j.head.Size, Kind: audit.KindTile, Level: from.Level, Index: indexes[len(indexes)-1] + 1}, nil
	}
	return &query.AuditExportPlace{Size: j.head.Size, Kind: audit.KindTile, Level: from.Level + 1}, nil
}

// wanted are the tiles of a level from an index onwards, as many as fit, and whether there may be more.
func (e *Exporter) wanted(ctx context.Context, j *job, from *query.AuditExportPlace, hashes int64) (indexes []int64, more bool, err error) {
	count := (hashes + tree.TileWidth - 1) / tree.TileWidth
	if j.everyone() {
		for index := from.Index; index < count && len(indexes) < e.tiles; index++ {
			indexes = append(indexes, index)
		}
		return indexes, from.Index+int64(len(indexes)) < count, nil
	}
	indexes, err = e.tilesWithLeaves(ctx, j, tree.TileHeight*(from.Level+1), from.Index)
	if err != nil {
		return nil, false, err
	}
	full := len(indexes) == e.tiles
	// A leaf at the end of the tree may be covered by tiles of lower levels alone.
	indexes = slices.DeleteFunc(indexes, func(index int64) bool { return index >= count })
	if full && len(indexes) == e.tiles {
		return indexes, true, nil
	}
	edge := hashes / tree.TileWidth
	if hashes%tree.TileWidth != 0 && from.Index <= edge && !slices.Contains(indexes, edge) {
		indexes = append(indexes, edge)
	}
	return indexes, false, nil
}
