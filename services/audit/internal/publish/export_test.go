package publish

import "github.com/galley-engine/galley/pkg/clock"

// By has the time told by another clock.
func (a *All) By(now clock.Clock) *All {
	a.clock = now
	return a
}
