package export

// Paging makes pages of so many bytes, for which so many leaves, tiles and heads are read at once.
func (e *Exporter) Paging(room, leaves, tiles, heads int) *Exporter {
	e.room, e.leaves, e.tiles, e.heads = room, leaves, tiles, heads
	return e
}
