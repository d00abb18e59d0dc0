package tree

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// TileID names a tile.
type TileID struct {
	Level int
	Index int64
}

// View reads the tree as it stood when Edge was read, with tiles that Fetch looks up as they are needed. Fetch gives the complete tiles
// among those wanted; one that is missing must be in the edge.
type View struct {
	Edge  *Edge
	Fetch func(wanted []TileID) (map[TileID][]byte, error)
}

// ErrTileMissing says that a tile that must be there is not.
var ErrTileMissing = errors.New("the tree has not this tile")

// RootAt is the root of the tree over the first size leaves. The tiles are taken as they are: nothing is verified.
func (v *View) RootAt(size int64) (Hash, error) {
	if size < 0 || size > v.Edge.size {
		return Hash{}, fmt.Errorf("size %d: the tree has %d leaves", size, v.Edge.size)
	}
	return tlog.TreeHash(size, tlog.HashReaderFunc(v.hashes))
}

// Inclusion is the proof that leaf index (from 0) is in the tree of size leaves, an audit path of RFC 6962 section 2.1.1, from the leaf
// upwards. The tiles read for it are verified against the root.
func (v *View) Inclusion(size int64, root Hash, index int64) ([]Hash, error) {
	proof, err := tlog.ProveRecord(size, index, v.verified(size, root))
	if err != nil {
		return nil, fmt.Errorf("prove that leaf %d is in the tree of %d: %w", index, size, err)
	}
	return proof, nil
}

// Consistency is the proof that the tree of older leaves is the beginning of that of size leaves, RFC 6962 section 2.1.2.
func (v *View) Consistency(size int64, root Hash, older int64) ([]Hash, error) {
	proof, err := tlog.ProveTree(size, older, v.verified(size, root))
	if err != nil {
		return nil, fmt.Errorf("prove that the tree of %d begins with that of %d: %w", size, older, err)
	}
	return proof, nil
}

func (v *View) verified(size int64, root Hash) tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, tileReader{v.Tiles})
}

// tileReader is what the library wants to be given.
type tileReader struct {
	read func(tiles []tlog.Tile) ([][]byte, error)
}

// Height is the height of the tiles.
func (r tileReader) Height() int { return TileHeight }

// ReadTiles gives the tiles' hashes.
func (r tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) { return r.read(tiles) }

// SaveTiles is told which tiles are authentic; there is no cache to keep them in.
func (r tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

// hashes reads stored hashes by their indexes, as package tlog counts them.
func (v *View) hashes(indexes []int64) ([]Hash, error) {
	tiles := make([]tlog.Tile, len(indexes))
	for i, index := range indexes {
		tiles[i] = tlog.TileForIndex(TileHeight, index)
	}
	data, err := v.Tiles(tiles)
	if err != nil {
		return nil, err
	}
	found := make([]Hash, len(indexes))
	for i, index := range indexes {
		if found[i], err = tlog.HashFromTile(tiles[i], data[i], index); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// Tiles reads tiles, also those that are not complete: a tile of width w has w hashes.
func (v *View) Tiles(tiles []tlog.Tile) ([][]byte, error) {
	wanted := make([]TileID, len(tiles))
	for i, tile := range tiles {
		wanted[i] = TileID{Level: tile.L, Index: tile.N}
	}
	complete, err := v.Fetch(wanted)
	if err != nil {
		return nil, err
	}
	data := make([][]byte, len(tiles))
	for i, tile := range tiles {
		stored, found := complete[wanted[i]]
		if !found {
			stored = v.Edge.tile(wanted[i])
		}
		if len(stored) < tile.W*HashSize {
			return nil, fmt.Errorf("%w: level %d, index %d, %d hashes", ErrTileMissing, tile.L, tile.N, tile.W)
		}
		data[i] = stored[:tile.W*HashSize]
	}
	return data, nil
}

// tile gives the hashes of a tile that is not complete, nil when it is another one.
func (e *Edge) tile(id TileID) []byte {
	if id.Level >= len(e.levels) || id.Index != e.size>>(TileHeight*(id.Level+1)) {
		return nil
	}
	return concatenate(nil, e.levels[id.Level])
}
