package verify

import (
	"cmp"
	"slices"
)

// findings collects what is wrong, up to a bound.
type findings struct {
	limit int
	list  []Finding
	rest  int64
}

func (f *findings) add(found Finding) {
	if len(f.list) >= f.limit {
		f.rest++
		return
	}
	f.list = append(f.list, found)
}

// sorted gives the findings, those first that have no place in the log, then the others in its order. It is never nil.
func (f *findings) sorted() []Finding {
	if f.list == nil {
		return []Finding{}
	}
	place := func(found *Finding) int64 {
		switch {
		case found.Sequence != 0:
			return found.Sequence
		case found.Tile != nil:
			return found.Tile.Index << (tileBits * (found.Tile.Level + 1))
		default:
			return found.Size
		}
	}
	slices.SortStableFunc(f.list, func(a, b Finding) int { return cmp.Compare(place(&a), place(&b)) })
	return f.list
}
