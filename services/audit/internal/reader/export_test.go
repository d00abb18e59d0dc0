package reader

// Walking makes a page look at so many rows.
func (r *Reader) Walking(rows int) *Reader {
	r.walk = rows
	return r
}
