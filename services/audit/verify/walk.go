package verify

import (
	"fmt"
	"slices"
	"strings"

	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// walk goes through the leaves in their order and compares them with everything that repeats them or vouches for them.
//
// What differs is decided from above: the root of a tile must be what the tile above it has in its place, and the root of the tree what
// a signed tree head says. Whichever of the leaves and the stored hashes agrees with that is believed, and the tree grows by it, so that
// one change does not hide what is behind it.
type walk struct {
	found  *findings
	claims *claims
	chains chains
	rows   differences
	// extra are the rows behind the end.
	extra []difference
	heads headBook

	// end is the number of leaves that the log should have, next the tile of level 0 that is read now.
	end  int64
	next int64
	tile block
	// levels are the hashes of those tiles that are not complete yet, from level 1.
	levels [][]tree.Hash
	// torn says that leaves are missing which nothing stored replaces: there is no root any more.
	torn     bool
	closed   bool
	suspects []suspect
	// rewritten are rows that are known to have been changed together with their tiles.
	rewritten []span
	// pending are tree heads that the walk has not reached yet, by size.
	pending []signedHead
	root    tree.Hash
	// edge is the root that is stored with the edge, of a tree of edgeSize leaves. Faults are what is wrong with the edge.
	edge     *tree.Hash
	edgeSize int64
	faults   []string

	// claimant says who knows of the rows up to end.
	claimant string
	last     int64
	leaves   int64
	skipped  int64
	payloads map[Payload]int64
	reported map[Tile]struct{}
}

// block is the leaves of one tile of level 0.
type block struct {
	rows [tileWidth]checked
	has  [tileWidth]bool
	any  bool
}

// suspect is a hash of a level above the leaves that is stored otherwise than it is computed.
type suspect struct {
	level  int
	index  int64
	stored tree.Hash
}

func newWalk(found *findings, claimed *claims, end int64) *walk {
	return &walk{
		found: found, claims: claimed, chains: newChains(), rows: newDifferences(), end: end,
		payloads: make(map[Payload]int64), reported: make(map[Tile]struct{}),
	}
}

// add takes the next row. Rows come in the order of their sequences.
func (w *walk) add(row *checked) {
	if w.place(row) {
		w.chains.add(row)
	}
}

// place puts the row into its place in the tree. It is false when there is none.
func (w *walk) place(row *checked) bool {
	w.leaves++
	switch {
	case row.sequence == w.last && row.sequence > 0:
		w.found.add(Finding{Code: RowRepeated, Sequence: row.sequence, Message: fmt.Sprintf("there are several rows %d", row.sequence)})
		return false
	case row.sequence > w.end:
		w.last = row.sequence
		if len(w.extra) < maxDifferences {
			w.extra = append(w.extra, difference{kind: rowAdded, row: row.sequence, is: row.hash})
		}
		return false
	}
	w.last = row.sequence
	w.advance((row.sequence - 1) / tileWidth)
	i := (row.sequence - 1) % tileWidth
	w.tile.rows[i], w.tile.has[i], w.tile.any = *row, true, true
	return true
}

// addHash takes the next leaf when all else about it is looked at elsewhere.
func (w *walk) addHash(sequence int64, hash tree.Hash) {
	w.place(&checked{sequence: sequence, hash: hash})
}

// expect takes tree heads that are to be compared when the walk comes to them.
func (w *walk) expect(heads []signedHead) {
	if len(heads) == 0 {
		return
	}
	w.pending = append(w.pending, heads...)
	sortHeads(w.pending)
}

// absorb has the tree grow by the complete tiles of level 0 from first up to end, of which nothing is read: the tiles above have their hashes.
func (w *walk) absorb(first, end int64) {
	w.advance(first)
	for ; w.next < end; w.next++ {
		if hash, found := w.claims.entry(1, w.next); found && !w.torn {
			w.push(hash)
		}
	}
	w.skipped += (end - first) * tileWidth
	w.chains.gap = end * tileWidth
}

// advance closes the complete tiles of level 0 before index.
func (w *walk) advance(index int64) {
	index = min(index, w.end/tileWidth)
	for w.next < index {
		_, above := w.claims.entry(1, w.next)
		if !w.tile.any && !above && w.claims.tile(0, w.next) == nil {
			// Nothing is known of these leaves, however many they are.
			w.rows.addSpan(span{kind: rowMissing, from: w.next*tileWidth + 1, to: index * tileWidth})
			w.tear()
			w.next = index
			return
		}
		w.closeTile(tileWidth)
	}
}

// rest closes the tile at the end, which is not complete.
func (w *walk) rest() {
	if w.closed {
		return
	}
	w.closed = true
	w.advance(w.end / tileWidth)
	w.root = rootOf(nil, w.levels)
	if width := int(w.end % tileWidth); width > 0 {
		w.closeTile(width)
	}
}

// finish sums up what was found.
func (w *walk) finish() {
	w.rest()
	if w.edge != nil && w.edgeSize == 0 && *w.edge != tree.EmptyRoot() {
		w.fault("root")
	}
	w.confirm()
	for _, row := range w.extra {
		w.rows.add(row)
	}
	w.rows.report(w.found, w.end, w.truncated)
	w.chains.report(w.found, &w.rows)
	w.heads.report(w.found, w.rewritten)
	if len(w.faults) > 0 {
		w.found.add(Finding{Code: EdgeChanged, Message: "audit.head, the end of the log, was changed: its " +
			strings.Join(w.faults, ", ") + " is not what the leaves give"})
	}
}

// tear gives the tree up.
func (w *walk) tear() {
	w.torn, w.levels = true, nil
}

// fault takes note of what is wrong with the edge, once.
func (w *walk) fault(what string) {
	if !slices.Contains(w.faults, what) {
		w.faults = append(w.faults, what)
	}
}

// truncated says that the log ends too early.
func (w *walk) truncated(from, last int64) string {
	if from == 1 {
		return fmt.Sprintf("the log is empty: %s of %d", w.claimant, last)
	}
	return fmt.Sprintf("the log ends with row %d: %s of %d", from-1, w.claimant, last)
}

// report sums up.
func (w *walk) report(set *settings, customer string) *Report {
	made := &Report{
		Origin: set.verifiers[0].Name(), CustomerID: customer, Leaves: w.leaves, Skipped: w.skipped, Size: w.end,
		SignedSize: w.heads.newest.Size, SignedAt: w.heads.newest.Time, Customers: len(w.chains.last),
		Heads: w.heads.counts[kept], FormerHeads: w.heads.former, Published: int(w.heads.counts[published]),
		PayloadsChecked: w.payloads[PayloadChecked], PayloadsElsewhere: w.payloads[PayloadElsewhere], PayloadsErased: w.payloads[PayloadErased],
		Findings: w.found.sorted(), Unlisted: w.found.rest,
	}
	if !w.torn {
		made.Root = w.root.String()
	}
	return made
}
