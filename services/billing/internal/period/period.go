// Package period knows when the periods of a subscription begin and end. A period ends where the anchor day of a month begins, in the time
// zone of the subscription.
package period

import (
	"errors"
	"sort"
	"time"
)

// MaxDay is the highest anchor day. In a month that is shorter the last day takes its place.
const MaxDay = 31

// ErrZone says that a time zone is not known by that name.
var ErrZone = errors.New("must be the IANA name of a time zone, such as Europe/Berlin or UTC")

// ErrDay says that an anchor day is not one of a month.
var ErrDay = errors.New("must be a day of the month, 1 to 31")

// Calendar is the anchor day with the time zone in which it is meant.
type Calendar struct {
	day  int
	zone *time.Location
}

// NewCalendar makes a Calendar, or is ErrDay or ErrZone. "Local" is no zone: it is another one on every machine.
func NewCalendar(day int, zone string) (Calendar, error) {
	if day < 1 || day > MaxDay {
		return Calendar{}, ErrDay
	}
	location, err := Zone(zone)
	return Calendar{day: day, zone: location}, err
}

// Zone loads a time zone by its IANA name, or is ErrZone.
func Zone(name string) (*time.Location, error) {
	location, err := time.LoadLocation(name)
	if err != nil || name == "" || name == "Local" {
		return nil, ErrZone
	}
	return location, nil
}

// Next is the end of a period that begins at the given time: the first beginning of an anchor day that is later, in UTC. What it returns
// is itself such a beginning, so that periods follow one another without a gap.
func (c Calendar) Next(after time.Time) time.Time {
	local := after.In(c.zone)
	year, month := local.Year(), local.Month()
	// A clock that was set back over midnight may have the month that the boundary before belongs to.
	for month--; ; month++ {
		if boundary := c.beginning(year, month); boundary.After(after) {
			return boundary
		}
	}
}

// beginning is the first second that bears the date of the month's anchor day. That is midnight, except where a change of the clock leaves
// midnight out or has it twice.
func (c Calendar) beginning(year int, month time.Month) time.Time {
	last := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC)
	day := time.Date(last.Year(), last.Month(), min(c.day, last.Day()), 0, 0, 0, 0, time.UTC)
	const west, east = 12 * time.Hour, 15 * time.Hour // how far zones are from UTC, and more
	from := day.Add(-east)
	seconds := sort.Search(int((2*east+west)/time.Second), func(n int) bool {
		year, month, date := from.Add(time.Duration(n) * time.Second).In(c.zone).Date()
		return !time.Date(year, month, date, 0, 0, 0, 0, time.UTC).Before(day)
	})
	return from.Add(time.Duration(seconds) * time.Second)
}
