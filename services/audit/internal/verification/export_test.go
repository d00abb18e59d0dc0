package verification

// SetShares has a log of another size count as large.
func (v *Verifier) SetShares(small, stretch, round, whole int64) {
	v.shares = shares{small: small, stretch: stretch, round: round, whole: whole}
}
