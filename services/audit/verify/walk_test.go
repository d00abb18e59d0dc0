package verify

import (
	"encoding/binary"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// model is a log as it is stored.
type model struct {
	rows  []checked
	tiles map[tree.TileID][]byte
	heads []signedHead
	root  tree.Hash
	size  int64
}

func newModel(size int, heads []int) *model {
	m := &model{tiles: map[tree.TileID][]byte{}, size: int64(size)}
	var edge tree.Edge
	var previous tree.Hash
	for i := range size {
		row := checked{sequence: int64(i) + 1, chained: true, customer: "c", own: int64(i) + 1, previous: previous, payload: PayloadErased}
		binary.BigEndian.PutUint64(row.hash[:], uint64(i)+1)
		previous = row.hash
		m.rows = append(m.rows, row)
		for _, tile := range edge.Append(row.hash) {
			m.tiles[tree.TileID{Level: tile.Level, Index: tile.Index}] = tile.Hashes
		}
		if slices.Contains(heads, i+1) {
			m.heads = append(m.heads, signedHead{Head: tree.Head{Size: int64(i) + 1, Root: edge.Root()}})
		}
	}
	m.root = edge.Root()
	rest := edge.AppendBinary(nil)
	for level, left := 0, size; left > 0; level, left = level+1, left>>tileBits {
		width := left % tileWidth * tree.HashSize
		if width > 0 {
			m.tiles[tree.TileID{Level: level, Index: int64(left >> tileBits)}] = rest[:width]
		}
		rest = rest[width:]
	}
	return m
}

func (m *model) clone() *model {
	made := *m
	made.rows, made.heads, made.tiles = slices.Clone(m.rows), slices.Clone(m.heads), map[tree.TileID][]byte{}
	for id, hashes := range m.tiles {
		made.tiles[id] = slices.Clone(hashes)
	}
	return &made
}

func (m *model) verify() []Finding {
	return m.verifyBut(nil)
}

// verifyBut absorbs these tiles of level 0.
func (m *model) verifyBut(skipped map[int64]bool) []Finding {
	found := &findings{limit: 1000}
	c := &claims{size: m.size, leaves: map[int64][]byte{}, upper: map[tree.TileID][]byte{}}
	for id, hashes := range m.tiles {
		if id.Level == 0 {
			c.leaves[id.Index] = hashes
		} else {
			c.upper[id] = hashes
		}
	}
	w := newWalk(found, c, m.size)
	w.edge, w.edgeSize = &m.root, m.size
	w.expect(m.heads)
	for tile, i := int64(0), 0; i < len(m.rows); tile++ {
		rest := i
		for i < len(m.rows) && m.rows[i].sequence <= (tile+1)*tileWidth {
			i++
		}
		if skipped[tile] {
			w.absorb(tile, tile+1)
			continue
		}
		for ; rest < i; rest++ {
			w.add(&m.rows[rest])
		}
	}
	w.finish()
	return found.sorted()
}

// change does something to the log. It is a row's place when that must be named.
func (m *model) change(t *rapid.T) (row int64) {
	ids := slices.SortedFunc(maps.Keys(m.tiles), func(a, b tree.TileID) int {
		return int((a.Index - b.Index) + int64(a.Level-b.Level)<<20)
	})
	switch i := rapid.IntRange(0, len(m.rows)-1).Draw(t, "row"); rapid.IntRange(0, 4).Draw(t, "change") {
	case 0:
		m.rows[i].hash[9] ^= 1
		return m.rows[i].sequence
	case 1:
		row = m.rows[i].sequence
		m.rows = slices.Delete(m.rows, i, i+1)
		return row
	case 2:
		hashes := m.tiles[rapid.SampledFrom(ids).Draw(t, "tile")]
		hashes[rapid.IntRange(0, len(hashes)-1).Draw(t, "byte")] ^= 1
	case 3:
		if id := rapid.SampledFrom(ids).Draw(t, "tile"); len(m.tiles[id]) == tileWidth*tree.HashSize {
			delete(m.tiles, id)
		} else {
			m.root[0] ^= 1
		}
	default:
		m.root[0] ^= 1
	}
	return 0
}

// TestOneChange: whatever is changed is found and, when it is a row that a tree head covers, named.
func TestOneChange(t *testing.T) {
	t.Parallel()
	for _, m := range []*model{
		newModel(1, nil), newModel(200, []int{100}), newModel(256, []int{256}), newModel(700, []int{1, 300, 699}), newModel(2000, []int{2000}),
		newModel(66_000, []int{300, 40_000, 66_000}),
	} {
		require.Empty(t, m.verify())
		rapid.Check(t, func(t *rapid.T) {
			changed := m.clone()
			row := changed.change(t)
			found := changed.verify()
			require.NotEmpty(t, found)
			if row == 0 {
				return
			}
			require.Contains(t, []Code{RowChanged, RowMissing, LogTruncated}, found[0].Code)
			require.Equal(t, row, found[0].Sequence)
			require.Len(t, found, 1)
		})
	}
}

// TestOneChangeBesideSkippedTiles: what is read is verified as if all were, whichever tiles are not.
func TestOneChangeBesideSkippedTiles(t *testing.T) {
	t.Parallel()
	heads := []int{1, 300, 1400, 2000}
	m := newModel(2000, heads)
	rapid.Check(t, func(t *rapid.T) {
		skipped := map[int64]bool{}
		for tile := range int64(2000 / tileWidth) {
			withHead := slices.ContainsFunc(heads, func(size int) bool { return int64(size-1)/tileWidth == tile })
			skipped[tile] = !withHead && rapid.Bool().Draw(t, "skipped")
		}
		require.Empty(t, m.verifyBut(skipped))
		changed := m.clone()
		row := changed.change(t)
		switch found := changed.verifyBut(skipped); {
		case row == 0: // of the tree, which must be right for anything to be skipped
		case skipped[(row-1)/tileWidth]:
			require.Empty(t, found)
		default:
			require.Equal(t, changed.verify(), found)
		}
	})
}

// TestSeveralChanges: they do not hide one another.
func TestSeveralChanges(t *testing.T) {
	t.Parallel()
	const signed = 1400
	m := newModel(1500, []int{1, 300, 699, signed})
	rapid.Check(t, func(t *rapid.T) {
		changed := m.clone()
		rows := map[int64]bool{}
		for range rapid.IntRange(2, 5).Draw(t, "changes") {
			if row := changed.change(t); row > 0 {
				rows[row] = !rows[row] // the same change twice is none
			}
		}
		found := changed.verify()
		for row, altered := range rows {
			if altered {
				require.True(t, slices.ContainsFunc(found, func(f Finding) bool {
					// Without its tile, beside a row that is missing, and where only the edge has it and was changed, there is nothing to
					// compare a row with.
					lost := f.Code == TileMissing && f.Tile.Index == (row-1)/tileWidth || f.Code == EdgeChanged && row > signed
					return lost || f.Sequence <= row && row <= max(f.Sequence, f.To)
				}), "row %d: %v", row, found)
			}
		}
	})
}

// TestTimesOfHeads: a later head is not signed earlier, but for what clocks may differ.
func TestTimesOfHeads(t *testing.T) {
	t.Parallel()
	m := newModel(300, []int{100, 200, 300})
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i, at := range []time.Duration{time.Hour, time.Hour - time.Minute, 0} {
		m.heads[i].Time = start.Add(at)
	}
	found := m.verify()
	require.Len(t, found, 1)
	require.Equal(t, HeadMalformed, found[0].Code)
	require.EqualValues(t, 300, found[0].Size)
}
