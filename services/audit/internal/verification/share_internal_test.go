package verification

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/services/audit/verify"
)

func TestShares(t *testing.T) {
	t.Parallel()
	s := shares{small: 100, stretch: 50, round: 3, whole: 7}
	for _, c := range []struct {
		name             string
		known, last, now int64
		want             []verify.Rows
	}{
		{"nothing is known", 0, 14, 15, nil},
		{"a small log", 99, 14, 15, nil},
		{"the first share", 199, 14, 15, []verify.Rows{{From: 51, To: 100}, {From: 101, To: 150}}},
		{"the second share", 199, 15, 16, []verify.Rows{{From: 1, To: 50}, {From: 101, To: 150}, {From: 151, To: 199}}},
		{"two at once", 199, 15, 17, []verify.Rows{{From: 1, To: 50}, {From: 151, To: 199}}},
		{"all at once", 199, 15, 18, nil},
		{"again in the same interval", 199, 16, 16, []verify.Rows{{From: 1, To: 50}, {From: 101, To: 150}, {From: 151, To: 199}}},
		{"the log says it was later", 199, 1 << 62, 16, []verify.Rows{{From: 1, To: 50}, {From: 101, To: 150}, {From: 151, To: 199}}},
		{"the log says it was long ago", 199, -1 << 62, 16, nil},
		{"all in the seventh interval", 199, 20, 21, nil},
		{"which was missed", 199, 20, 22, nil},
	} {
		assert.Equal(t, c.want, s.skip(c.known, c.last, c.now), c.name)
	}
}

// TestEveryRowComesRound: however late verifications are, each finds what was changed a round before.
func TestEveryRowComesRound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := shares{
			stretch: rapid.Int64Range(1, 300).Draw(t, "stretch"), round: rapid.Int64Range(1, 40).Draw(t, "round"), whole: rapid.Int64Range(41, 100).Draw(t, "whole"),
		}
		known, now := rapid.Int64Range(1, 5000).Draw(t, "known"), rapid.Int64Range(1, 30_000).Draw(t, "now")
		begin := now
		read := make([]int64, known+1) // when each row was read last
		for row := range read {
			read[row] = begin
		}
		for range 3 * s.round {
			last := now
			now += rapid.SampledFrom([]int64{1, 1, 1, 2, 3}).Draw(t, "gap")
			skipped := make([]bool, known+1)
			before := int64(0)
			for _, rows := range s.skip(known, last, now) {
				require.Greater(t, rows.From, before)
				require.LessOrEqual(t, rows.From, rows.To)
				require.LessOrEqual(t, rows.To, known)
				for before = rows.From; before <= rows.To; before++ {
					skipped[before] = true
				}
				before = rows.To
			}
			for row := int64(1); row <= known; row++ {
				if !skipped[row] {
					read[row] = now
				}
				require.Less(t, now-read[row], s.round, "row %d", row)
			}
		}
	})
}
