package verify

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// own verifies an export of one customer: each leaf is in the tree of the newest tree head.
func (e *export) own(given []signedHead, unsigned foreign) *Report {
	o := &inclusions{found: e.found, claims: &e.claims, rows: newDifferences(), reported: make(map[Tile]struct{})}
	book := headBook{unsigned: [sources]foreign{kept: e.unsigned, published: unsigned}}
	report := &Report{
		Origin: e.set.names()[0], CustomerID: e.customer, Leaves: e.leaves, Customers: len(e.chains.last),
	}
	if e.newest >= 0 {
		o.head = e.heads[e.newest].Head
		report.Size, report.Root = o.head.Size, o.head.Root.String()
		o.leaves(e.rows)
		for _, heads := range [][]signedHead{e.heads, given} {
			for i := range heads {
				if !o.compare(&book, &heads[i]) && heads[i].source == published {
					report.Unchecked++
				}
			}
		}
	}
	e.settle(&o.rows)
	e.chains.report(e.found, &o.rows)
	book.report(e.found, nil)
	report.SignedSize, report.SignedAt = book.newest.Size, book.newest.Time
	report.FormerHeads = book.former
	report.Heads, report.Published = book.counts[kept], int(book.counts[published])
	report.Findings, report.Unlisted = e.found.sorted(), e.found.rest
	return report
}

// inclusions looks leaves up in the tree of a tree head, by tiles that are followed up to its root.
type inclusions struct {
	found    *findings
	claims   *claims
	head     tree.Head
	rows     differences
	reported map[Tile]struct{}
	// lost are the leaves that could not be looked up.
	lost, firstLost int64
}

// lookAtOnce is how many leaves are looked up together: what they have in common is followed up once.
const lookAtOnce = 8 * tileWidth

// leaves looks all leaves up.
func (o *inclusions) leaves(blocks []series) {
	var sequences []int64
	var hashes []tree.Hash
	flush := func() {
		o.look(sequences, hashes)
		sequences, hashes = sequences[:0], hashes[:0]
	}
	for i := range blocks {
		for j, hash := range blocks[i].hashes {
			sequences, hashes = append(sequences, blocks[i].first+int64(j)), append(hashes, hash)
			if len(sequences) == lookAtOnce {
				flush()
			}
		}
	}
	flush()
	if o.lost > 0 {
		o.found.add(Finding{Code: LeafNotIncluded, Sequence: o.firstLost, Message: fmt.Sprintf(
			"%d leaves, from row %d on, could not be followed up to the tree head: tiles are missing or wrong", o.lost, o.firstLost)})
	}
}

// look looks leaves up together and, when that fails, the leaves of each tile by themselves.
func (o *inclusions) look(sequences []int64, hashes []tree.Hash) {
	n := len(sequences)
	for n > 0 && sequences[n-1] > o.head.Size {
		n--
	}
	for i := n; i < len(sequences); i++ {
		o.rows.add(difference{kind: rowAdded, row: sequences[i], is: hashes[i]})
		o.found.add(Finding{Code: LeafNotIncluded, Sequence: sequences[i], Message: fmt.Sprintf(
			"row %d is not in the log of the tree head, which has %d leaves", sequences[i], o.head.Size)})
	}
	sequences, hashes = sequences[:n], hashes[:n]
	if n == 0 || o.lookIn(sequences, hashes) {
		return
	}
	for start := 0; start < n; {
		end := start + 1
		for end < n && (sequences[end]-1)/tileWidth == (sequences[start]-1)/tileWidth {
			end++
		}
		if tile := (sequences[start] - 1) / tileWidth; !o.follow(tile) || !o.lookIn(sequences[start:end], hashes[start:end]) {
			if o.lost == 0 {
				o.firstLost = sequences[start]
			}
			o.lost += int64(end - start)
		}
		start = end
	}
}

// lookIn compares the leaves with the tree. It is false when the tiles do not lead to its root.
func (o *inclusions) lookIn(sequences []int64, hashes []tree.Hash) bool {
	indexes := make([]int64, len(sequences))
	for i, sequence := range sequences {
		indexes[i] = tlog.StoredHashIndex(0, sequence-1)
	}
	was, err := o.reader().ReadHashes(indexes)
	if err != nil {
		return false
	}
	for i, hash := range was {
		if hash == hashes[i] {
			continue
		}
		o.rows.add(difference{kind: rowChanged, row: sequences[i], is: hashes[i], was: hash})
		o.found.add(Finding{Code: LeafNotIncluded, Sequence: sequences[i], Message: fmt.Sprintf(
			"row %d was changed: its leaf has the hash %s, and the log that was signed has %s there", sequences[i], hashes[i], hash)})
	}
	return true
}

func (o *inclusions) reader() tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: o.head.Size, Hash: o.head.Root}, o)
}

// Height is the height of the tiles.
func (o *inclusions) Height() int { return tileBits }

// SaveTiles is told which tiles are authentic.
func (o *inclusions) SaveTiles([]tlog.Tile, [][]byte) {}

// ReadTiles gives what the export has of the tiles.
func (o *inclusions) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, tile := range tiles {
		data[i] = o.claims.tile(tile.L, tile.N)
		if len(data[i]) < tile.W*tree.HashSize {
			return nil, tree.ErrTileMissing
		}
		data[i] = data[i][:tile.W*tree.HashSize]
	}
	return data, nil
}

// follow goes up from a tile of level 0 and reports the tiles that are missing, or are not what those above have in their place. It is
// false when there are any.
func (o *inclusions) follow(index int64) bool {
	good := true
	for level := 0; ; level++ {
		complete := index < o.head.Size>>(tileBits*(level+1))
		width := int(o.head.Size >> (tileBits * level) % tileWidth)
		if complete {
			width = tileWidth
		}
		tile := o.claims.tile(level, index)
		var hashes [tileWidth]tree.Hash
		for i := range width {
			hash, found := hashAt(tile, i)
			if !found {
				o.report(Finding{Code: TileMissing, Tile: &Tile{Level: level, Index: index}, Message: fmt.Sprintf(
					"tile %d of level %d is not in the export, or not all of it", index, level)})
				return false
			}
			hashes[i] = hash
		}
		if !complete {
			return good
		}
		if above, found := o.claims.entry(level+1, index); found && above != perfect(hashes[:]) {
			o.report(Finding{Code: TileChanged, Tile: &Tile{Level: level, Index: index}, Message: fmt.Sprintf(
				"tile %d of level %d is not the one that the tile above it has there", index, level)})
			good = false
		}
		index /= tileWidth
	}
}

func (o *inclusions) report(found Finding) {
	if _, known := o.reported[*found.Tile]; !known {
		o.reported[*found.Tile] = struct{}{}
		o.found.add(found)
	}
}

// compare compares a tree head with the tree. It is false when the export has not the tiles for that.
func (o *inclusions) compare(book *headBook, head *signedHead) bool {
	if head.Size > o.head.Size {
		return false
	}
	root := o.head.Root
	if head.Size < o.head.Size && head.Size > 0 {
		var err error
		if root, err = tlog.TreeHash(head.Size, o.reader()); err != nil {
			return false
		}
	}
	if root == head.Root {
		book.agreed(head)
	} else {
		book.contradicted(head, root)
	}
	return true
}
