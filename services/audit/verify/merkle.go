package verify

import (
	"golang.org/x/mod/sumdb/tlog"

	"github.com/galley-engine/galley/services/audit/internal/tree"
)

const (
	tileBits  = tree.TileHeight
	tileWidth = tree.TileWidth
	// maxLevel is the highest level of tiles that a tree can have.
	maxLevel = 6
)

// perfect is the root of a perfect tree over the hashes, of which there are a power of two and at most tileWidth.
func perfect(hashes []tree.Hash) tree.Hash {
	var row [tileWidth]tree.Hash
	copy(row[:], hashes)
	for width := len(hashes); width > 1; width /= 2 {
		for i := range width / 2 {
			row[i] = tlog.NodeHash(row[2*i], row[2*i+1])
		}
	}
	return row[0]
}

// rootOf is the root of a tree, of which lowest are the hashes of the leaves in its last tile, and upper those of the levels above that
// are in no complete tile.
func rootOf(lowest []tree.Hash, upper [][]tree.Hash) tree.Hash {
	var root tree.Hash
	empty := true
	join := func(hashes []tree.Hash) {
		// The smallest subtree stands last: go from right to left.
		for width := 1; len(hashes) > 0; width *= 2 {
			if len(hashes)&width == 0 {
				continue
			}
			subtree := perfect(hashes[len(hashes)-width:])
			hashes = hashes[:len(hashes)-width]
			if empty {
				root, empty = subtree, false
			} else {
				root = tlog.NodeHash(subtree, root)
			}
		}
	}
	join(lowest)
	for _, hashes := range upper {
		join(hashes)
	}
	if empty {
		return tree.EmptyRoot()
	}
	return root
}

// claims are the hashes of the tree as they are stored, complete tiles and the parts of others alike. Nothing in them is believed.
type claims struct {
	// size is that of the tree that they are said to be of.
	size int64
	// leaves are tiles of level 0 by their index, upper those of the other levels.
	leaves map[int64][]byte
	upper  map[tree.TileID][]byte
}

// tile gives what is stored of a tile, nil when nothing is.
func (c *claims) tile(level int, index int64) []byte {
	if level == 0 {
		return c.leaves[index]
	}
	return c.upper[tree.TileID{Level: level, Index: index}]
}

// entry gives hash number index of a level.
func (c *claims) entry(level int, index int64) (tree.Hash, bool) {
	return hashAt(c.tile(level, index/tileWidth), int(index%tileWidth))
}

// expects tells whether the tree must have this tile complete.
func (c *claims) expects(level int, index int64) bool {
	return index < c.size>>(tileBits*(level+1))
}

// hashesOf gives the first width hashes of a tile. It is false when it has not so many.
func hashesOf(tile []byte, width int) ([]tree.Hash, bool) {
	hashes := make([]tree.Hash, width)
	for i := range hashes {
		hash, found := hashAt(tile, i)
		if !found {
			return nil, false
		}
		hashes[i] = hash
	}
	return hashes, true
}

func hashAt(tile []byte, i int) (hash tree.Hash, found bool) {
	if len(tile) < (i+1)*tree.HashSize {
		return hash, false
	}
	copy(hash[:], tile[i*tree.HashSize:])
	return hash, true
}
