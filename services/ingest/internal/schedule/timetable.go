package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/netresearch/go-cron"
)

const (
	everyHour = 1<<24 - 1
	// searchYears reaches from one 29 February to the next over a year such as 2100.
	searchYears = 9
)

// timetable is the times of a cron expression in a time zone. The expression itself is only ever asked about wall times, as if every
// day had 24 hours; the rules for the days that do not are here:
//
//   - An expression that names hours starts once for each wall time that it means. A wall time that the zone leaves out (the clock is set
//     forward) starts at the moment of the change, several of them together; one that comes twice (the clock is set back) the first time.
//   - An expression with every hour follows the clock on the wall: nothing is due in the hour that is left out, and the hour that
//     comes twice is two hours. So it starts at even intervals.
type timetable struct {
	wall   *cron.SpecSchedule
	zone   *time.Location
	hourly bool
}

var (
	errCron  = errors.New("must be five fields: minute, hour, day of month, month, day of week; or @hourly, @daily, @weekly, @monthly, @yearly")
	errNever = errors.New("never comes")
	errZone  = errors.New("must be a time zone of the IANA database, such as Europe/Berlin")
)

// parseCron reads an expression as crontab(5) has it: when both the day of the month and the day of the week are given, either will do.
func parseCron(expression string, zone *time.Location) (*timetable, error) {
	parser, err := cron.TryNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor | cron.DowOrDom)
	if err != nil {
		return nil, fmt.Errorf("make cron parser: %w", err)
	}
	if strings.Contains(expression, "=") { // the parser would take a time zone from it
		return nil, errCron
	}
	parsed, err := parser.WithMaxSearchYears(searchYears).Parse(expression)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", errCron, err)
	}
	wall, ok := parsed.(*cron.SpecSchedule)
	if !ok { // @every
		return nil, errCron
	}
	return &timetable{wall: wall, zone: zone, hourly: wall.Hour&everyHour == everyHour}, nil
}

// loadZone refuses "Local", which is another zone on every machine.
func loadZone(name string) (*time.Location, error) {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, errZone
	}
	return zone, nil
}

// next is the first time after the given one; zero when there is none.
func (t *timetable) next(after time.Time) time.Time {
	if t.hourly {
		return t.nextByClock(after)
	}
	for wall := wallOf(after.In(t.zone)); ; {
		if wall = t.wall.Next(wall); wall.IsZero() {
			return wall
		}
		if at := t.moment(wall); at.After(after) {
			return at
		}
	}
}

// nextByClock looks at one period after the other in which the zone keeps its offset.
func (t *timetable) nextByClock(after time.Time) time.Time {
	from, wall := after, wallOf(after.In(t.zone))
	_, change := after.In(t.zone).ZoneBounds()
	for {
		due := t.wall.Next(wall)
		if due.IsZero() {
			return due
		}
		at := from.Add(due.Sub(wall)).UTC()
		if change.IsZero() || at.Before(change) {
			return at
		}
		// On from the change, itself included.
		from, wall = change.Add(-time.Second), wallOf(change.In(t.zone)).Add(-time.Second)
		_, change = change.In(t.zone).ZoneBounds()
	}
}

// moment is when the clock shows the wall time for the first time or, where it never does, the moment at which it is set forward.
// Later wall times never have earlier moments.
func (t *timetable) moment(wall time.Time) time.Time {
	local := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, t.zone)
	start, end := local.ZoneBounds()
	switch shown := wallOf(local); {
	case shown.After(wall):
		return start.UTC()
	case shown.Before(wall):
		return end.UTC()
	}
	if !start.IsZero() {
		_, offset := local.Zone()
		_, before := start.Add(-time.Second).Zone()
		if earlier := local.Add(time.Duration(offset-before) * time.Second); earlier.Before(start) {
			return earlier.UTC()
		}
	}
	return local.UTC()
}

// wallOf is what the clock shows, as if it were in UTC.
func wallOf(local time.Time) time.Time {
	year, month, day := local.Date()
	return time.Date(year, month, day, local.Hour(), local.Minute(), local.Second(), local.Nanosecond(), time.UTC)
}
