package verify_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/internal/tree"
	"github.com/galley-engine/galley/services/audit/verify"
)

// TestProofs checks proofs of leaves and sizes anywhere, and that nothing in a proof can be changed.
func TestProofs(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	const rows = 700
	e.Fill(t, rows, 1, 2, 255, 256, 257, 300, 512, 699)
	prover := newProver(t, e)
	options := verify.Options{Key: e.Key.Public}
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(1, rows).Draw(t, "row")
		proof, err := prover.Inclusion(ctx, query.AuditInclusionRequest{CustomerID: audit.Everyone, EventID: audittest.FilledEvent(i)})
		require.NoError(t, err)
		included, err := verify.Inclusion(&proof, options)
		require.NoError(t, err)
		assert.EqualValues(t, i-1, included.Index)
		assert.EqualValues(t, rows, included.Head.Size)
		assert.Equal(t, audittest.FilledEvent(i), included.EventID)

		changed := proof
		switch rapid.IntRange(0, 7).Draw(t, "change") {
		case 0:
			changed.Index = rapid.Int64().Filter(func(n int64) bool { return n != proof.Index }).Draw(t, "index")
		case 1:
			changed.Leaf = string(flip(t, []byte(proof.Leaf)))
		case 2:
			changed.Note = string(flip(t, []byte(proof.Note)))
			if head, err := tree.OpenHead([]byte(changed.Note), e.Key.Verifier); err == nil && head.Size == rows {
				return // a signature line of nobody's
			}
		case 3:
			changed.Path = append(slices.Clone(proof.Path), proof.Path[0])
		case 4:
			changed.Path = proof.Path[:len(proof.Path)-1]
		case 5:
			k := rapid.IntRange(0, len(proof.Path)-1).Draw(t, "hash")
			changed.Path = slices.Clone(proof.Path)
			changed.Path[k] = flip(t, proof.Path[k])
		case 6:
			changed.EventID += "x"
		default:
			changed.Salt, changed.Data = flip(t, proof.Salt), []byte("x")
		}
		_, err = verify.Inclusion(&changed, options)
		require.Error(t, err)
	})
}

func flip(t *rapid.T, b []byte) []byte {
	made := bytes.Clone(b)
	made[rapid.IntRange(0, len(b)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
	return made
}

// TestConsistency checks proofs between heads, and that an older head which is another log's is refused.
func TestConsistency(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	sizes := []int{1, 2, 255, 256, 257, 300, 512, 699, 700}
	e.Fill(t, 700, sizes...)
	prover := newProver(t, e)
	options := verify.Options{Key: e.Key.Public}
	heads := map[int]string{}
	for _, size := range sizes {
		signed, err := storedtree.SignedAt(t.Context(), e.DB, int64(size))
		require.NoError(t, err)
		heads[size] = string(signed.Note)
	}
	for _, newer := range sizes {
		for _, older := range sizes {
			if older > newer {
				continue
			}
			proof, err := prover.Consistency(t.Context(), query.AuditConsistencyRequest{Older: int64(older), Newer: int64(newer)})
			require.NoError(t, err)
			consistent, err := verify.Consistency(heads[older], &proof, options)
			require.NoError(t, err, "%d and %d", older, newer)
			assert.EqualValues(t, older, consistent.Older.Size)
			assert.EqualValues(t, newer, consistent.Newer.Size)
			for _, other := range sizes {
				if other == older {
					continue
				}
				_, err = verify.Consistency(heads[other], &proof, options)
				require.ErrorIs(t, err, verify.ErrProof)
				lying := proof
				lying.OlderSize = int64(other)
				_, err = verify.Consistency(heads[other], &lying, options)
				require.ErrorIs(t, err, verify.ErrProof)
			}
			for i := range proof.Path {
				changed := proof
				changed.Path = slices.Clone(proof.Path)
				changed.Path[i] = bytes.Repeat([]byte{1}, len(proof.Path[i]))
				_, err = verify.Consistency(heads[older], &changed, options)
				require.ErrorIs(t, err, verify.ErrProof)
			}
		}
	}
	other, err := tree.ParseKey(tree.NewKey())
	require.NoError(t, err)
	proof, err := prover.Consistency(t.Context(), query.AuditConsistencyRequest{Older: 256})
	require.NoError(t, err)
	_, err = verify.Consistency(heads[256], &proof, verify.Options{Key: other.Public})
	require.ErrorIs(t, err, verify.ErrSignature)
	_, err = verify.Consistency(heads[256], &proof, verify.Options{Key: "galley"})
	require.ErrorIs(t, err, verify.ErrKey)
}
