package httpapi

import (
	"fmt"
	"time"
)

// maxDays is the longest period of a report.
const maxDays = 92

// Period holds the parameters of a report over days.
type Period struct {
	From     string `query:"from" required:"true" doc:"The first day" example:"2026-11-01"`
	To       string `query:"to" required:"true" doc:"The last day, which belongs to the period; at most 92 days" example:"2026-11-30"`
	TimeZone string `query:"time_zone" doc:"Where the days begin: a time zone of the IANA database; UTC when absent" example:"Europe/Berlin"`
	Format   string `query:"format" enum:"json,csv" default:"json"`
}

// days is a period that was read: from its first moment to the first one after it.
type days struct {
	from, to time.Time
}

func (p *Period) read() (days, error) {
	var found []Place
	report := func(name, message string) {
		found = append(found, Place{In: "query", Path: "/" + name, Message: message})
	}
	zone, err := time.LoadLocation(p.TimeZone)
	if err != nil || p.TimeZone == "Local" { // which is another zone on every machine
		report("time_zone", "must be a time zone of the IANA database, such as Europe/Berlin")
		zone = time.UTC
	}
	day := func(name, text string) time.Time {
		at, err := time.ParseInLocation(time.DateOnly, text, zone)
		if err != nil {
			report(name, "must be a day such as 2026-11-01")
		}
		return at
	}
	first, last := day("from", p.From), day("to", p.To)
	switch {
	case len(found) > 0:
	case first.After(last):
		report("to", "must not be before from")
	case first.AddDate(0, 0, maxDays-1).Before(last):
		report("to", fmt.Sprintf("must be at most %d days from from", maxDays))
	}
	if len(found) > 0 {
		return days{}, invalid(found...)
	}
	return days{from: first, to: last.AddDate(0, 0, 1)}, nil
}
