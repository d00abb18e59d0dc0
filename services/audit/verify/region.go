package verify

import (
	"context"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// region is a part of the log that is read: the rows after sequence from, up to to. Between two regions there are rows that are not read, of
// whole tiles.
type region struct {
	from, to int64
	payloads int64
}

// plan finds out what is read. Options.Skip decides, but never about rows that no signed tree head covers. The tiles over rows that are not
// read stand for them: if these do not lead to the newest signed tree head, or if the log ends before it, all is read, to find out what is
// wrong. Tiles of leaves in which a published tree head ends are read, to compare it, and for each range of Options.Skip that of its newest
// tree head.
func (d *database) plan(ctx context.Context, last int64, signed tree.Head, given []signedHead) error {
	d.regions = []region{{to: math.MaxInt64}}
	skip := skippable(d.set.Skip, signed.Size)
	if len(skip) == 0 || last < signed.Size {
		return nil
	}
	if fits, err := d.fits(ctx, signed); err != nil || !fits {
		return err
	}
	heads, err := d.newestHeads(ctx, skip)
	if err != nil {
		return err
	}
	for i := range given {
		heads = append(heads, given[i].Size)
	}
	d.regions = between(skip, heads)
	return nil
}

// skippable gives the tiles of level 0 that have none but rows of the ranges in them, up to a size.
func skippable(ranges []Rows, size int64) []span {
	var tiles []span
	for _, r := range ranges {
		from, to := max(r.From, 1), min(r.To, size)
		if from > to {
			continue
		}
		if first, last := (from+tileWidth-2)/tileWidth, to/tileWidth-1; first <= last {
			tiles = append(tiles, span{from: first, to: last})
		}
	}
	return tiles
}

// between gives what is read when these tiles are not, but for those in which there is a head of one of the sizes.
func between(tiles []span, heads []int64) []region {
	slices.Sort(heads)
	var regions []region
	read := int64(0) // the first tile that is read
	skip := func(first, end int64) {
		if first < end {
			regions = append(regions, region{from: read * tileWidth, to: first * tileWidth})
			read = end
		}
	}
	for _, s := range join(tiles) {
		first := s.from
		for _, size := range heads {
			if tile := (size - 1) / tileWidth; first <= tile && tile <= s.to {
				skip(first, tile)
				first = tile + 1
			}
		}
		skip(first, s.to+1)
	}
	return append(regions, region{from: read * tileWidth, to: math.MaxInt64})
}

// fits tells whether the stored tiles above level 0 lead to the root of the tree head.
func (d *database) fits(ctx context.Context, head tree.Head) (bool, error) {
	end := head.Size / tileWidth
	tiles, err := d.tiles(ctx, end*tileWidth, (end+1)*tileWidth)
	if err != nil {
		return false, err
	}
	lowest, good := hashesOf(tiles[end], int(head.Size%tileWidth))
	var upper [][]tree.Hash
	for level := 1; head.Size>>(tileBits*level) > 0; level++ {
		complete := head.Size >> (tileBits * (level + 1))
		hashes, found := hashesOf(d.walk.claims.tile(level, complete), int(head.Size>>(tileBits*level)%tileWidth))
		upper = append(upper, hashes)
		good = good && found
		for index := range complete {
			if !good {
				return false, nil
			}
			hashes, good = hashesOf(d.walk.claims.tile(level, index), tileWidth)
			above, found := d.walk.claims.entry(level+1, index)
			good = good && found && perfect(hashes) == above
		}
	}
	return good && rootOf(lowest, upper) == head.Root, nil
}

// newestHeads gives the size of the newest tree head that is stored in each series of tiles.
func (d *database) newestHeads(ctx context.Context, tiles []span) ([]int64, error) {
	after, to := make([]int64, len(tiles)), make([]int64, len(tiles))
	for i, s := range tiles {
		after[i], to[i] = s.from*tileWidth, (s.to+1)*tileWidth
	}
	const statement = `
		SELECT newest FROM (SELECT (SELECT max(size) FROM audit.tree_heads WHERE size > skipped.after AND size <= skipped.upto) AS newest
			FROM unnest($1::bigint[], $2::bigint[]) AS skipped (after, upto)) AS heads
		WHERE newest IS NOT NULL`
	rows, err := d.tx.Query(ctx, statement, after, to)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}
