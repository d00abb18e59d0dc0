package tree_test

import (
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// model keeps every hash of the tree, as the reference implementation stores them.
type model struct {
	size   int64
	hashes []tlog.Hash
}

func (m *model) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		found[i] = m.hashes[index]
	}
	return found, nil
}

func (m *model) append(t require.TestingT, data []byte) {
	stored, err := tlog.StoredHashes(m.size, data, m)
	require.NoError(t, err)
	m.hashes = append(m.hashes, stored...)
	m.size++
}

func (m *model) root(t require.TestingT) tlog.Hash {
	root, err := tlog.TreeHash(m.size, m)
	require.NoError(t, err)
	return root
}

// TestEdgeAgainstTheReference compares roots, tiles and the stored form at every size up to one that fills a tile of level 1.
func TestEdgeAgainstTheReference(t *testing.T) {
	t.Parallel()
	var edge tree.Edge
	reference := &model{}
	assert.Equal(t, tree.EmptyRoot(), edge.Root())
	const size = tree.TileWidth*tree.TileWidth + 300
	for i := range int64(size) {
		data := fmt.Appendf(nil, "leaf %d", i)
		complete := edge.Append(tree.LeafHash(data))
		reference.append(t, data)
		for _, tile := range complete {
			want, err := tlog.ReadTileData(tlog.Tile{H: tree.TileHeight, L: tile.Level, N: tile.Index, W: tree.TileWidth}, reference)
			require.NoError(t, err)
			require.Equal(t, want, tile.Hashes, "tile %d of level %d", tile.Index, tile.Level)
		}
		if i < 1000 || i%97 == 0 || len(complete) > 0 {
			require.Equal(t, reference.root(t), edge.Root(), "size %d", i+1)
			parsed, err := tree.ParseEdge(edge.Size(), edge.AppendBinary(nil))
			require.NoError(t, err)
			require.Equal(t, edge.Root(), parsed.Root())
		}
	}
}

func TestEdgeOfAnotherSizeIsRefused(t *testing.T) {
	t.Parallel()
	var edge tree.Edge
	for range 300 {
		edge.Append(tree.Hash{})
	}
	stored := edge.AppendBinary(nil)
	for _, size := range []int64{0, 299, 301, 300 + 1<<16} {
		_, err := tree.ParseEdge(size, stored)
		assert.Error(t, err, size)
	}
}

func TestCloneGrowsByItself(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var edge tree.Edge
		for range rapid.IntRange(0, 700).Draw(t, "size") {
			edge.Append(tree.Hash{1})
		}
		root := edge.Root()
		clone := edge.Clone()
		for range rapid.IntRange(1, 700).Draw(t, "more") {
			clone.Append(tree.Hash{2})
		}
		assert.Equal(t, root, edge.Root())
		assert.NotEqual(t, root, clone.Root())
	})
}

func TestHead(t *testing.T) {
	t.Parallel()
	secret, public, err := note.GenerateKey(rand.Reader, "galley/test")
	require.NoError(t, err)
	signer, err := note.NewSigner(secret)
	require.NoError(t, err)
	verifier, err := note.NewVerifier(public)
	require.NoError(t, err)
	head := tree.Head{Origin: "galley/test", Size: 12, Root: tree.LeafHash([]byte("x")), Time: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)}
	signed, err := head.Sign(signer)
	require.NoError(t, err)
	opened, err := tree.OpenHead(signed, verifier)
	require.NoError(t, err)
	assert.Equal(t, head, opened)
	read, err := tree.UnverifiedHead(signed)
	require.NoError(t, err)
	assert.Equal(t, head, read)

	_, otherPublic, err := note.GenerateKey(rand.Reader, "galley/test")
	require.NoError(t, err)
	other, err := note.NewVerifier(otherPublic)
	require.NoError(t, err)
	_, err = tree.OpenHead(signed, other)
	require.ErrorIs(t, err, tree.ErrSignature)
	for i := range signed {
		changed := append([]byte{}, signed...)
		changed[i] ^= 1
		if found, err := tree.OpenHead(changed, verifier); err == nil {
			assert.Equal(t, head, found, "byte %d", i) // a signature line of a key that nobody asked for changes nothing
		}
	}
}

func FuzzHead(f *testing.F) {
	f.Add([]byte("galley/test\n12\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\ntime 2026-01-02T03:04:05.006Z\n\n— galley/test AAAA\n"))
	f.Fuzz(func(t *testing.T, signed []byte) {
		head, err := tree.UnverifiedHead(signed)
		if err == nil {
			assert.Contains(t, string(signed), head.Text())
		}
	})
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for range 300 { // their text has a + in it often enough
		text := tree.NewKey()
		key, err := tree.ParseKey(text)
		require.NoError(t, err)
		assert.Equal(t, key.Signer.KeyHash(), key.Verifier.KeyHash())
		_, err = tree.ParseKey(text[:len(text)-4])
		require.ErrorIs(t, err, tree.ErrKey)
		assert.NotContains(t, err.Error(), text[len(text)-20:len(text)-4])
	}
	_, err := tree.ParseKey("")
	require.ErrorIs(t, err, tree.ErrKey)
}
