package erase

// Limit sets the limits of one transaction.
func (e *Eraser) Limit(resourceRows, actorRows int) {
	e.resourceRows, e.actorRows = resourceRows, actorRows
}
