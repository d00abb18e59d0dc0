package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// follow judges those leaves that are their customers' first ones after rows that were not read: the leaf before each is looked up, and
// compared with its tile.
func (d *database) follow(ctx context.Context) error {
	chains := &d.walk.chains
	for links := range slices.Chunk(chains.open, lookAtOnce) {
		found, err := d.before(ctx, links)
		if err != nil {
			return err
		}
		tiles, err := d.tilesOver(ctx, found)
		if err != nil {
			return err
		}
		for i := range links {
			if row := &found[i]; row.sequence > 0 {
				last, good := d.lookAt(row, links[i].customer, tiles[(row.sequence-1)/tileWidth])
				if !good {
					continue // what is wrong is told; whether the chain is, too, shows when that is mended
				}
				links[i].last, links[i].found = last, true
			}
			chains.judge(&links[i])
		}
	}
	chains.open = nil
	return nil
}

// before looks up the last row of each link's customer before it, among those behind the customer's last row that was read.
func (d *database) before(ctx context.Context, links []broken) ([]stored, error) {
	customers, after, before := make([]string, len(links)), make([]int64, len(links)), make([]int64, len(links))
	for i := range links {
		customers[i], after[i], before[i] = links[i].customer, links[i].last.row, links[i].row
		if strings.ContainsRune(customers[i], 0) {
			customers[i], before[i] = "", 0 // Postgres has no such text: nobody's rows before the first
		}
	}
	// Said in this way, Postgres can only walk the customer's own part of the index.
	const statement = `
		SELECT link.place, e.sequence, e.leaf
		FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS link (customer, after, before, place),
			LATERAL (SELECT sequence, leaf FROM audit.events
				WHERE (customer_id, sequence) > (link.customer, link.after) AND (customer_id, sequence) < (link.customer, link.before)
				ORDER BY customer_id DESC, sequence DESC LIMIT 1) AS e`
	rows, err := d.tx.Query(ctx, statement, customers, after, before)
	if err != nil {
		return nil, err
	}
	found := make([]stored, len(links))
	var place, sequence int64
	var leaf []byte
	_, err = pgx.ForEachRow(rows, []any{&place, &sequence, &leaf}, func() error {
		found[place-1] = stored{sequence: sequence, leaf: slices.Clone(leaf)}
		return nil
	})
	return found, err
}

// tilesOver reads the tiles of level 0 over the rows.
func (d *database) tilesOver(ctx context.Context, found []stored) (map[int64][]byte, error) {
	var indexes []int64
	for i := range found {
		if found[i].sequence > 0 {
			indexes = append(indexes, (found[i].sequence-1)/tileWidth)
		}
	}
	slices.Sort(indexes)
	const statement = `
		SELECT index, (SELECT hashes FROM audit.tiles AS t WHERE t.level = 0 AND t.index = wanted.index) FROM unnest($1::bigint[]) AS wanted (index)`
	rows, err := d.tx.Query(ctx, statement, slices.Compact(indexes))
	if err != nil {
		return nil, err
	}
	tiles := make(map[int64][]byte, len(indexes))
	var index int64
	var hashes []byte
	_, err = pgx.ForEachRow(rows, []any{&index, &hashes}, func() error {
		tiles[index] = slices.Clone(hashes)
		return nil
	})
	return tiles, err
}

// lookAt looks at a row that is not read otherwise, to follow the chain of a customer from it. It is false when something is wrong with it.
func (d *database) lookAt(row *stored, customer string, tile []byte) (link, bool) {
	if slices.ContainsFunc(d.regions, func(r region) bool { return r.from < row.sequence && row.sequence <= r.to }) {
		return link{}, false // it was read, and is not the customer's by its leaf
	}
	index, hash := (row.sequence-1)/tileWidth, tree.LeafHash(row.leaf)
	hashes, complete := hashesOf(tile, tileWidth)
	if !complete {
		d.walk.lacks(0, index)
		return link{}, false
	}
	if above, _ := d.walk.claims.entry(1, index); perfect(hashes) != above {
		d.walk.once(Finding{Code: TileChanged, Tile: &Tile{Index: index}, Message: fmt.Sprintf(
			"tile %d of level 0 was changed: the tile above it has another root there", index)})
		return link{}, false
	}
	if was := hashes[(row.sequence-1)%tileWidth]; was != hash {
		changed := difference{kind: rowChanged, row: row.sequence, is: hash, was: was}
		d.found.add(Finding{Code: RowChanged, Sequence: row.sequence, Message: changed.message(nil)})
		return link{}, false
	}
	read, err := parse(row.leaf)
	if seen := (checked{sequence: row.sequence, err: err}); err != nil || read.CustomerID != customer {
		seen.columns = []string{"customer_id"}
		d.walk.noteRow(&seen)
		return link{}, false
	}
	return link{row: row.sequence, own: read.CustomerSequence, hash: hash}, true
}
