package report

import (
	"strconv"
	"time"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
)

// Schedules writes a list of schedules.
func (r *Report) Schedules(schedules []client.Schedule) {
	if len(schedules) == 0 {
		r.Line("there are no schedules")
		return
	}
	rows := make([][]string, len(schedules))
	for i, s := range schedules {
		rows[i] = []string{s.ScheduleID, s.AgentID + "/" + s.RecipeID, when(&s), next(&s), moment(s.LastFiredAt), s.LastExecutionID}
	}
	table(r.w, []column{
		{title: "schedule"},
		{title: "recipe"},
		{title: "when"},
		{title: "next (UTC)"},
		{title: "last (UTC)", style: quiet},
		{title: "execution", style: quiet},
	}, rows)
}

// Schedule writes a schedule.
func (r *Report) Schedule(s client.Schedule) {
	version := "the newest"
	if s.Version != 0 {
		version = strconv.Itoa(s.Version)
	}
	r.Heading(s.ScheduleID, "of "+s.CustomerID)
	r.Facts(
		[2]string{"recipe", s.AgentID + "/" + s.RecipeID}, [2]string{"version", version}, [2]string{"input", printable(string(s.Input))},
		[2]string{"when", when(&s)}, [2]string{"overlap", s.Overlap}, [2]string{"missed", s.Missed}, [2]string{"next", next(&s)},
		[2]string{"last", moment(s.LastFiredAt)}, [2]string{"execution", s.LastExecutionID},
	)
}

func when(s *client.Schedule) string {
	if s.At != nil {
		return "once, " + moment(s.At)
	}
	return s.Cron + " " + s.TimeZone
}

func next(s *client.Schedule) string {
	switch {
	case s.Paused:
		return "paused"
	case s.NextAt == nil:
		return "over"
	}
	return moment(s.NextAt)
}

func moment(at *time.Time) string {
	if at == nil {
		return ""
	}
	return at.UTC().Format(time.DateTime)
}
