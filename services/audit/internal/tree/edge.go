// Package tree is the Merkle tree over the leaves of the audit log, as RFC 6962 (section 2.1) defines it, kept in tiles of 256 hashes
// as https://c2sp.org/tlog-tiles describes them, and the signed tree heads.
//
// A tile of level 0 holds the hashes of 256 leaves that follow one another; a tile of the next level holds the roots of 256 tiles. A
// complete tile never changes. What is not complete yet, at most one tile of each level, is the edge of the tree.
package tree

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	// TileHeight is the height of a tile: it holds up to 1<<TileHeight hashes.
	TileHeight = 8
	// TileWidth is how many hashes a complete tile holds.
	TileWidth = 1 << TileHeight
	// HashSize is the size of a hash in bytes.
	HashSize = tlog.HashSize
)

// Hash is a hash of the tree: of a leaf, or of what is below a node.
type Hash = tlog.Hash

// LeafHash is the hash of a leaf's bytes: SHA-256(0x00, data).
func LeafHash(data []byte) Hash {
	return tlog.RecordHash(data)
}

// EmptyRoot is the root of a tree without leaves, SHA-256 of nothing.
func EmptyRoot() Hash {
	return sha256.Sum256(nil)
}

// Tile is a complete tile.
type Tile struct {
	Level int
	// Index counts the tiles of a level from 0.
	Index int64
	// Hashes has TileWidth*HashSize bytes.
	Hashes []byte
}

// Edge is what must be known of a tree to make it grow: the hashes of the tiles that are not complete, by level. The zero Edge is that
// of a tree without leaves.
type Edge struct {
	size   int64
	levels [][]Hash
}

// Size is the number of leaves.
func (e *Edge) Size() int64 {
	return e.size
}

// Clone makes a copy that grows by itself.
func (e *Edge) Clone() *Edge {
	made := &Edge{size: e.size, levels: make([][]Hash, len(e.levels))}
	for i, hashes := range e.levels {
		made.levels[i] = append(make([]Hash, 0, TileWidth), hashes...)
	}
	return made
}

// Append adds a leaf and gives the tiles that it completes.
func (e *Edge) Append(leaf Hash) []Tile {
	var complete []Tile
	e.size++
	for level, next := 0, leaf; ; level++ {
		if level == len(e.levels) {
			e.levels = append(e.levels, make([]Hash, 0, TileWidth))
		}
		e.levels[level] = append(e.levels[level], next)
		if len(e.levels[level]) < TileWidth {
			return complete
		}
		complete = append(complete, Tile{
			Level: level, Index: e.size>>(TileHeight*(level+1)) - 1, Hashes: concatenate(nil, e.levels[level]),
		})
		next = perfect(e.levels[level])
		e.levels[level] = e.levels[level][:0]
	}
}

// Root is the root of the tree: MTH of RFC 6962. A tile's part of it is a series of perfect trees, the largest first, by the bits of its
// width.
func (e *Edge) Root() Hash {
	var root Hash
	empty := true
	for _, hashes := range e.levels {
		for width := 1; len(hashes) > 0; width <<= 1 {
			if len(hashes)&width == 0 {
				continue
			}
			rest := len(hashes) - width
			subtree := perfect(hashes[rest:])
			hashes = hashes[:rest]
			if empty {
				root, empty = subtree, false
			} else {
				root = tlog.NodeHash(subtree, root)
			}
		}
	}
	if empty {
		return EmptyRoot()
	}
	return root
}

// perfect is the root of a perfect tree over the hashes, of which there are a power of two.
func perfect(hashes []Hash) Hash {
	var rows [TileWidth]Hash
	row := rows[:copy(rows[:], hashes)]
	for ; len(row) > 1; row = row[:len(row)/2] {
		for i := range len(row) / 2 {
			row[i] = tlog.NodeHash(row[2*i], row[2*i+1])
		}
	}
	return row[0]
}

// AppendBinary appends the hashes of the edge, the lowest level first. With the size they are all of it.
func (e *Edge) AppendBinary(b []byte) []byte {
	for _, hashes := range e.levels {
		b = concatenate(b, hashes)
	}
	return b
}

var errEdge = errors.New("the stored edge is not that of a tree of this size")

// ParseEdge reads what AppendBinary wrote of a tree of size leaves.
func ParseEdge(size int64, b []byte) (*Edge, error) {
	made := &Edge{size: size}
	for rest := size; rest > 0; rest >>= TileHeight {
		width := int(rest % TileWidth)
		if len(b) < width*HashSize {
			return nil, fmt.Errorf("%w: %d", errEdge, size)
		}
		made.levels = append(made.levels, append(make([]Hash, 0, TileWidth), split(b[:width*HashSize])...))
		b = b[width*HashSize:]
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%w: %d", errEdge, size)
	}
	return made, nil
}

func concatenate(b []byte, hashes []Hash) []byte {
	for i := range hashes {
		b = append(b, hashes[i][:]...)
	}
	return b
}

func split(b []byte) []Hash {
	hashes := make([]Hash, len(b)/HashSize)
	for i := range hashes {
		copy(hashes[i][:], b[i*HashSize:])
	}
	return hashes
}
