// Package clock is where time comes from, so that tests can set it.
package clock

import "time"

// Clock tells the current time in UTC.
type Clock func() time.Time

// System is the machine's clock.
func System() time.Time {
	return time.Now().UTC()
}
