package verify

import (
	"fmt"
	"strings"

	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// leafHashes are the leaves of a tile as far as they are known without a gap.
type leafHashes struct {
	hashes [tileWidth]tree.Hash
	known  int
}

// gather takes the hashes of the rows, or where there is none the stored ones; or the other way round.
func (w *walk) gather(into *leafHashes, width int, claimed []byte, preferStored bool) {
	into.known = width
	for i := range width {
		hash, stored := hashAt(claimed, i)
		if w.tile.has[i] && (!preferStored || !stored) {
			hash, stored = w.tile.rows[i].hash, true
		}
		if !stored && into.known == width {
			into.known = i
		}
		into.hashes[i] = hash
	}
}

// closeTile compares the tile of level 0 that was read, of which the log has width leaves, and has the tree grow by it.
func (w *walk) closeTile(width int) {
	claimed := w.claims.tile(0, w.next)
	if claimed == nil && w.tile.any && w.claims.expects(0, w.next) {
		w.lacks(0, w.next)
	}
	first, last := -1, -1
	for i := range width {
		if hash, stored := hashAt(claimed, i); stored && w.tile.has[i] && hash != w.tile.rows[i].hash {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	var leaves leafHashes
	w.gather(&leaves, width, claimed, true)
	believeStored := true
	if first >= 0 {
		var rows leafHashes
		w.gather(&rows, width, claimed, false)
		if believeStored = w.believeStored(&leaves, &rows, width, first, last); !believeStored {
			leaves = rows
			w.changed(0, w.next*tileWidth+int64(first))
		}
	}
	w.note(width, claimed, believeStored)
	w.judgeHeads(&leaves, width)
	w.grow(&leaves, width)
	w.tile = block{}
	w.next++
}

// note takes note of what is wrong with each row.
func (w *walk) note(width int, claimed []byte, believeStored bool) {
	for i := range width {
		sequence := w.next*tileWidth + int64(i) + 1
		hash, stored := hashAt(claimed, i)
		row := &w.tile.rows[i]
		switch {
		case !w.tile.has[i] && stored:
			w.rows.add(difference{kind: rowMissing, row: sequence, was: hash})
		case !w.tile.has[i]:
			w.rows.addSpan(span{kind: rowMissing, from: sequence, to: sequence})
		case stored && believeStored && hash != row.hash:
			w.rows.add(difference{
				kind: rowChanged, row: sequence, is: row.hash, was: hash, columns: row.columns, err: row.err,
				restored: len(row.columns) > 0 && row.restored == hash,
			})
		default:
			w.noteRow(row)
		}
	}
}

// noteRow takes note of what is wrong with a row whose leaf is the right one.
func (w *walk) noteRow(row *checked) {
	if row.err != nil {
		w.found.add(Finding{
			Code: LeafMalformed, Sequence: row.sequence, Message: fmt.Sprintf("the leaf of row %d cannot be read: %v", row.sequence, row.err),
		})
		return
	}
	if len(row.columns) > 0 {
		w.found.add(Finding{Code: ColumnDiffers, Sequence: row.sequence, Columns: row.columns, Message: fmt.Sprintf(
			"row %d was changed beside its leaf: %s is not what the leaf says", row.sequence, strings.Join(row.columns, ", "))})
	}
	if row.changed {
		w.found.add(Finding{
			Code: PayloadChanged, Sequence: row.sequence, Message: fmt.Sprintf("the payload of row %d was changed: %v", row.sequence, errPayload),
		})
		return
	}
	w.payloads[row.payload]++
}

// believeStored decides whether the stored hashes of the tile are right, or the rows. They differ from leaf first to leaf last.
func (w *walk) believeStored(stored, rows *leafHashes, width, first, last int) bool {
	start := w.next * tileWidth
	agrees := func(size int64, root tree.Hash) (decided, believe bool) {
		k := int(size - start)
		if w.torn || k > width || k > stored.known || k > rows.known {
			return false, false
		}
		if rootOf(stored.hashes[:k], w.levels) == root {
			return true, true
		}
		return rootOf(rows.hashes[:k], w.levels) == root, false
	}
	for _, after := range []int{last, first} {
		for _, head := range w.pending {
			if head.Size <= start+int64(after) {
				continue
			}
			if head.Size > start+int64(width) {
				break
			}
			if decided, believe := agrees(head.Size, head.Root); decided {
				return believe
			}
		}
		above, found := w.claims.entry(1, w.next)
		if !found || width < tileWidth || stored.known < width {
			continue
		}
		if perfect(stored.hashes[:]) == above {
			return true
		}
		if perfect(rows.hashes[:]) == above {
			return false
		}
	}
	if w.edge != nil && w.edgeSize > start+int64(first) {
		if decided, believe := agrees(w.edgeSize, *w.edge); decided {
			return believe
		}
	}
	return true
}

// judgeHeads compares the root with the tree heads whose last leaf is in this tile.
func (w *walk) judgeHeads(leaves *leafHashes, width int) {
	start := w.next * tileWidth
	for len(w.pending) > 0 && w.pending[0].Size <= start+int64(width) {
		head := &w.pending[0]
		w.pending = w.pending[1:]
		if err := w.heads.follow(head); err != nil {
			w.found.add(Finding{Code: HeadMalformed, Size: head.Size, Message: fmt.Sprintf("the tree head of size %d: %v", head.Size, err)})
		}
		known := int(head.Size - start)
		if w.torn || known > leaves.known || known < 1 {
			continue
		}
		root := rootOf(leaves.hashes[:known], w.levels)
		if root == head.Root {
			w.heads.agreed(head)
			w.confirm()
			continue
		}
		if other := w.alternative(); other != nil && rootOf(leaves.hashes[:known], other) == head.Root {
			w.heads.agreed(head)
			w.rewrite(w.suspects, fmt.Sprintf("the tree head of size %d", head.Size))
			w.levels, w.suspects = other, nil
			continue
		}
		w.heads.contradicted(head, root)
	}
	edge := int(w.edgeSize - start)
	if w.edge != nil && !w.torn && 0 < edge && edge <= leaves.known && rootOf(leaves.hashes[:edge], w.levels) != *w.edge {
		w.fault("root")
	}
}

// grow adds the leaves to the tree.
func (w *walk) grow(leaves *leafHashes, width int) {
	switch {
	case w.torn:
	case width < tileWidth && leaves.known < width:
		w.tear()
	case width < tileWidth:
		w.root = rootOf(leaves.hashes[:width], w.levels)
	case leaves.known == width:
		w.push(perfect(leaves.hashes[:]))
	default:
		if above, found := w.claims.entry(1, w.next); found {
			w.push(above)
		} else {
			w.tear()
		}
	}
}

// push adds the root of the tile of level 0 that was read.
func (w *walk) push(hash tree.Hash) {
	index := w.next
	for level := 1; ; level++ {
		if len(w.levels) < level {
			w.levels = append(w.levels, nil)
		}
		if stored, found := w.claims.entry(level, index); found && stored != hash {
			w.suspects = append(w.suspects, suspect{level: level, index: index, stored: stored})
		}
		w.levels[level-1] = append(w.levels[level-1], hash)
		hashes := w.levels[level-1]
		if len(hashes) < tileWidth {
			return
		}
		index /= tileWidth
		if w.claims.expects(level, index) && w.claims.tile(level, index) == nil {
			w.lacks(level, index)
		}
		hash = w.settle(level, index, perfect(hashes))
		w.levels[level-1] = hashes[:0]
	}
}

// settle decides, by the tile above, what is suspect in a tile that is complete now, and gives the root that is believed.
func (w *walk) settle(level int, index int64, root tree.Hash) tree.Hash {
	var here, rest []suspect
	for _, s := range w.suspects {
		if s.level == level && s.index/tileWidth == index {
			here = append(here, s)
		} else {
			rest = append(rest, s)
		}
	}
	if len(here) == 0 {
		return root
	}
	w.suspects = rest
	above, found := w.claims.entry(level+1, index)
	stored := w.claims.tile(level, index)
	if found && above != root && len(stored) == tileWidth*tree.HashSize {
		var hashes [tileWidth]tree.Hash
		for i := range hashes {
			hashes[i], _ = hashAt(stored, i)
		}
		if perfect(hashes[:]) == above {
			w.rewrite(here, fmt.Sprintf("tile %d of level %d", index/tileWidth, level+1))
			return above
		}
	}
	for _, s := range here {
		w.changed(s.level, s.index)
	}
	return root
}

// alternative gives the levels with what is stored in place of what is suspect, nil when nothing is.
func (w *walk) alternative() [][]tree.Hash {
	if len(w.suspects) == 0 {
		return nil
	}
	made := make([][]tree.Hash, len(w.levels))
	for i, hashes := range w.levels {
		made[i] = append(make([]tree.Hash, 0, tileWidth), hashes...)
	}
	for _, s := range w.suspects {
		if i := int(s.index % tileWidth); s.level <= len(made) && i < len(made[s.level-1]) {
			made[s.level-1][i] = s.stored
		}
	}
	return made
}

// confirm has what is suspect be wrong: the leaves agree with what vouches for them.
func (w *walk) confirm() {
	for _, s := range w.suspects {
		w.changed(s.level, s.index)
	}
	w.suspects = nil
}

// changed reports that the stored hash number index of a level is wrong, once for each tile.
func (w *walk) changed(level int, index int64) {
	tile := Tile{Level: level, Index: index / tileWidth}
	if w.edge != nil && !w.claims.expects(level, tile.Index) {
		w.fault(fmt.Sprintf("tile of level %d", level))
		return
	}
	w.once(Finding{Code: TileChanged, Tile: &tile, Message: fmt.Sprintf(
		"tile %d of level %d was changed, first its hash %d; the leaves are right", tile.Index, tile.Level, index%tileWidth)})
}

// once reports what is wrong with a tile, if nothing is reported about it yet.
func (w *walk) once(found Finding) {
	if _, known := w.reported[*found.Tile]; !known {
		w.reported[*found.Tile] = struct{}{}
		w.found.add(found)
	}
}

func (w *walk) lacks(level int, index int64) {
	w.once(Finding{Code: TileMissing, Tile: &Tile{Level: level, Index: index}, Message: fmt.Sprintf(
		"tile %d of level %d was deleted", index, level)})
}

// rewrite reports leaves that were changed together with their tiles.
func (w *walk) rewrite(suspects []suspect, vouching string) {
	for _, s := range suspects {
		wide := tileBits * s.level
		from, last := s.index<<wide+1, (s.index+1)<<wide
		w.rewritten = append(w.rewritten, span{from: from, to: last})
		w.found.add(Finding{
			Code: LogRewritten, Sequence: from, To: last, Tile: &Tile{Level: s.level - 1, Index: s.index}, Message: fmt.Sprintf(
				"rows %d to %d were written anew together with tile %d of level %d, which is not the one that %s has there",
				from, last, s.index, s.level-1, vouching),
		})
	}
}
