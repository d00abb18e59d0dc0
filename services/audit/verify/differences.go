package verify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/galley-engine/galley/services/audit/internal/tree"
)

const (
	// maxDifferences bounds the rows of which it is remembered how they differ; of others only where they are is.
	maxDifferences = 1 << 17
	maxSpans       = 10_000
)

// alteration is how a place in the log differs from the tree.
type alteration int

const (
	rowChanged alteration = iota
	rowMissing
	rowAdded
)

// difference is a row that is not the leaf which the tree has in its place: is and was are the hashes of the two. A missing row is none,
// and an added one was none.
type difference struct {
	kind    alteration
	row     int64
	is, was tree.Hash
	columns []string
	// restored says that the columns together still say what was logged.
	restored bool
	err      error
}

// span is a series of rows that differ in the same way.
type span struct {
	kind     alteration
	from, to int64
}

// differences are all rows that differ, in their order.
type differences struct {
	list  []difference
	spans []span
	// lost are the leaves that are in the tree and not in their place, by their hashes.
	lost map[tree.Hash]int64
}

func newDifferences() differences {
	return differences{lost: make(map[tree.Hash]int64)}
}

func (d *differences) add(found difference) {
	if len(d.list) >= maxDifferences {
		d.addSpan(span{kind: found.kind, from: found.row, to: found.row})
		return
	}
	d.list = append(d.list, found)
	if found.kind != rowAdded && len(d.lost) < maxLost {
		d.lost[found.was] = found.row
	}
}

// addSpan adds rows of which nothing more is known.
func (d *differences) addSpan(added span) {
	if n := len(d.spans); n > 0 && d.spans[n-1].kind == added.kind && d.spans[n-1].to+1 >= added.from {
		d.spans[n-1].to = added.to
		return
	}
	if len(d.spans) < maxSpans {
		d.spans = append(d.spans, added)
	}
}

// has tells whether the row is among them.
func (d *differences) has(row int64) bool {
	_, found := slices.BinarySearchFunc(d.list, row, func(e difference, row int64) int { return cmp.Compare(e.row, row) })
	return found || slices.ContainsFunc(d.spans, func(s span) bool { return s.from <= row && row <= s.to })
}

// report adds findings for all of them. The log should end with row last.
func (d *differences) report(found *findings, last int64, truncated func(from, to int64) string) {
	left := d.swaps(found)
	var spans []span
	for len(left) > 0 {
		n := 1
		for n < len(left) && left[n].row == left[n-1].row+1 {
			n++
		}
		if !d.moved(found, left[:n]) {
			spans = append(spans, d.changes(found, left[:n])...)
		}
		left = left[n:]
	}
	for _, s := range join(append(spans, d.spans...)) {
		found.add(s.finding(last, truncated))
	}
}

func (s span) finding(last int64, truncated func(from, to int64) string) Finding {
	made := Finding{Sequence: s.from, To: s.to}
	switch {
	case s.kind == rowMissing && s.to == last:
		made.Code, made.Message = LogTruncated, truncated(s.from, s.to)
	case s.kind == rowMissing:
		made.Code, made.Message = RowMissing, rows(s.from, s.to)+" "+were(s.from, s.to)+" deleted"
	case s.kind == rowAdded:
		made.Code, made.Message = RowAdded, rows(s.from, s.to)+" "+were(s.from, s.to)+" added: the tree ends before"
	default:
		made.Code, made.Message = RowChanged, rows(s.from, s.to)+" "+were(s.from, s.to)+" changed: the tree has other leaves there"
	}
	if made.To == made.Sequence {
		made.To = 0
	}
	return made
}

func were(from, to int64) string {
	if from == to {
		return "was"
	}
	return "were"
}

// join puts spans of one kind that touch together.
func join(spans []span) []span {
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var joined []span
	for _, s := range spans {
		if n := len(joined); n > 0 && joined[n-1].kind == s.kind && joined[n-1].to+1 >= s.from {
			joined[n-1].to = max(joined[n-1].to, s.to)
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// swaps finds pairs of rows that stand in each other's place, and gives the other differences.
func (d *differences) swaps(found *findings) []difference {
	left := make([]difference, 0, len(d.list))
	places := make(map[int64]int, len(d.list))
	for i := range d.list {
		places[d.list[i].row] = i
	}
	for i := range d.list {
		e := &d.list[i]
		j, known := places[d.lost[e.is]]
		if e.kind != rowChanged || !known || d.list[j].is != e.was || d.list[j].kind != rowChanged || j == i {
			left = append(left, *e)
			continue
		}
		if j > i {
			found.add(Finding{
				Code: RowsSwapped, Sequence: e.row, To: d.list[j].row,
				Message: fmt.Sprintf("rows %d and %d were swapped: each has the leaf that was logged as the other", e.row, d.list[j].row),
			})
		}
	}
	return left
}

// moved recognises rows that were given other sequences: behind a row that was deleted or put in, or put in another order. It is false
// when the rows, which follow one another, were not moved.
func (d *differences) moved(found *findings, group []difference) bool {
	first, last := group[0].row, group[len(group)-1].row
	here := make(map[tree.Hash]struct{}, len(group))
	shifted := false
	for i := range group {
		if group[i].kind == rowMissing {
			continue
		}
		here[group[i].is] = struct{}{}
		place, known := d.lost[group[i].is]
		shifted = shifted || known && place != group[i].row && first <= place && place <= last
	}
	if !shifted {
		return false
	}
	var gone, added []span
	for i := range group {
		e := &group[i]
		if _, known := here[e.was]; !known && e.kind != rowAdded {
			gone = append(gone, span{kind: rowMissing, from: e.row, to: e.row})
		}
		if _, known := d.lost[e.is]; !known && e.kind != rowMissing {
			added = append(added, span{kind: rowAdded, from: e.row, to: e.row})
		}
	}
	for _, s := range join(gone) {
		found.add(Finding{Code: RowMissing, Sequence: s.from, To: to(s), Message: fmt.Sprintf(
			"%s %s deleted, and those behind, up to row %d, were renumbered to close the gap", rows(s.from, s.to), were(s.from, s.to), last)})
	}
	for _, s := range join(added) {
		found.add(Finding{Code: RowAdded, Sequence: s.from, To: to(s), Message: fmt.Sprintf(
			"%s %s put in, and those behind, up to row %d, were renumbered to make room", rows(s.from, s.to), were(s.from, s.to), last)})
	}
	if len(gone) == 0 && len(added) == 0 {
		found.add(Finding{Code: RowsSwapped, Sequence: first, To: last, Message: fmt.Sprintf(
			"rows %d to %d were put in another order", first, last)})
	}
	return true
}

func to(s span) int64 {
	if s.to == s.from {
		return 0
	}
	return s.to
}

// changes reports rows that were changed one by one, as long as there is something to say about each, and gives the others.
func (d *differences) changes(found *findings, group []difference) []span {
	var spans []span
	for i := range group {
		e := &group[i]
		if e.kind != rowChanged {
			spans = append(spans, span{kind: e.kind, from: e.row, to: e.row})
			continue
		}
		found.add(Finding{Code: RowChanged, Sequence: e.row, Columns: e.columns, Message: e.message(d.lost)})
	}
	return spans
}

func (e *difference) message(lost map[tree.Hash]int64) string {
	said := fmt.Sprintf("row %d was changed: its leaf has the hash %s, and the leaf that was logged %s", e.row, e.is, e.was)
	place, known := lost[e.is]
	switch {
	case known:
		return fmt.Sprintf("row %d was changed: it has the leaf that was logged as row %d", e.row, place)
	case e.err != nil:
		return fmt.Sprintf("%s; %v", said, e.err)
	case e.restored:
		return fmt.Sprintf("%s. It was changed in %s: the columns still say what was logged", said, strings.Join(e.columns, ", "))
	case len(e.columns) > 0:
		return fmt.Sprintf("%s; its columns %s do not repeat it", said, strings.Join(e.columns, ", "))
	default:
		return said
	}
}
