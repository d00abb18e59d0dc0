package writer

import (
	"crypto/rand"
	"maps"

	"github.com/galley-engine/galley/services/audit/internal/leaf"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// entry is an event on its way into the log.
type entry struct {
	leaf leaf.Leaf
	// payload is what the leaf gets the digest of.
	payload leaf.Payload
}

// place is where a customer's chain ends. The zero place is that of a customer without leaves.
type place struct {
	sequence int64
	hash     tree.Hash
}

// tip is the end of the log as this process knows it. It never changes; a batch makes the next one.
type tip struct {
	edge *tree.Edge
	// customers are the ends of the chains of those customers that were seen, a cache. It is shared by tips that follow one another, and
	// changed only when what it says is stored.
	customers map[string]place
}

// maxPlaces bounds the customers whose places are kept in memory.
const maxPlaces = 100_000

// sealed is a batch that is ready to be stored.
type sealed struct {
	rows  columns
	tiles []tree.Tile
	edge  *tree.Edge
	// ends are where the customers' chains end now.
	ends map[string]place
}

// seal gives the entries their places: after the tip, in the customers' chains, and in the tree. The customers of all entries must be
// known to the tip.
func (t *tip) seal(entries []entry) *sealed {
	made := &sealed{rows: newColumns(len(entries)), edge: t.edge.Clone(), ends: make(map[string]place)}
	salts := make([]byte, len(entries)*leaf.SaltSize)
	_, _ = rand.Read(salts) // it never fails: it ends the process instead
	for i := range entries {
		e := &entries[i]
		end, found := made.ends[e.leaf.CustomerID]
		if !found {
			end = t.customers[e.leaf.CustomerID]
		}
		salt := salts[i*leaf.SaltSize : (i+1)*leaf.SaltSize]
		e.leaf.CustomerSequence, e.leaf.Previous = end.sequence+1, end.hash
		e.leaf.Digest = leaf.Digest(salt, e.payload.Data)
		encoded := made.rows.set(i, e, salt)
		hash := tree.LeafHash(encoded)
		made.tiles = append(made.tiles, made.edge.Append(hash)...)
		made.ends[e.leaf.CustomerID] = place{sequence: e.leaf.CustomerSequence, hash: hash}
	}
	return made
}

// next is the tip when the batch is stored.
func (t *tip) next(stored *sealed) *tip {
	customers := t.customers
	if len(customers)+len(stored.ends) > maxPlaces {
		customers = make(map[string]place, len(stored.ends))
	}
	maps.Copy(customers, stored.ends)
	return &tip{edge: stored.edge, customers: customers}
}
