// Package schedule starts recipes by themselves: at times of a cron expression, or once. Schedules live in the bucket schedules and are
// changed by compare-and-set only. [Store] is what people do to them, [Starter] what time does.
//
// A schedule says by its own state what is to be done, so a message that it is due is only a reason to look, harmless at any moment and in
// any number. Starting takes two writes around the starts: the first fixes which times are started and moves NextAt past now, the second
// records the last start. A crash between them leaves the fixed times, and whoever looks next starts them again under the same
// idempotency keys, which is no second start.
package schedule

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

// Overlap says what happens at a time at which the schedule's previous execution goes on.
type Overlap string

const (
	// OverlapSkip leaves the start out. It is the default.
	OverlapSkip Overlap = "skip"
	// OverlapAllow starts all the same.
	OverlapAllow Overlap = "allow"
)

// Missed says which of the times are started that went by while nobody could start anything.
type Missed string

const (
	// MissedLatest starts once, for the last of them. It is the default.
	MissedLatest Missed = "latest"
	// MissedSkip starts none that is more than a minute late.
	MissedSkip Missed = "skip"
	// MissedAll starts each of them, at most the last hundred, the oldest first. It needs OverlapAllow.
	MissedAll Missed = "all"
)

const (
	// punctual is how late a start may be under MissedSkip.
	punctual = time.Minute
	// maxStarts bounds how many missed times are started at once.
	maxStarts = 100
	// maxInput is less than an execution may have: an installation keeps very many schedules.
	maxInput = 64 << 10
)

// Schedule starts a recipe at certain times.
type Schedule struct {
	ScheduleID string `json:"schedule_id"`
	CustomerID string `json:"customer_id"`
	Plan
	Paused    bool      `json:"paused"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	// LastFiredAt is the time for which the last start was made, which is not when it was made.
	LastFiredAt     *time.Time `json:"last_fired_at,omitempty"`
	LastExecutionID string     `json:"last_execution_id,omitempty"`
	// NextAt is the first time that has not been dealt with; absent when there is none: paused, or over.
	NextAt *time.Time `json:"next_at,omitempty"`
}

// Plan is what people decide about a schedule.
type Plan struct {
	AgentID  string `json:"agent_id"`
	RecipeID string `json:"recipe_id"`
	// Version is 0 for the newest at each start.
	Version int `json:"version,omitempty"`
	// Input is left out of lists.
	Input json.RawMessage `json:"input_data,omitempty"`
	// Cron and At exclude each other.
	Cron string     `json:"cron,omitempty"`
	At   *time.Time `json:"at,omitempty"`
	// TimeZone is that of Cron.
	TimeZone string  `json:"time_zone"`
	Overlap  Overlap `json:"overlap"`
	Missed   Missed  `json:"missed"`
}

// stored is a schedule as it is in the bucket.
type stored struct {
	Schedule
	// Starting are times whose starts were decided on and are not known to be made.
	Starting []time.Time `json:"starting,omitempty"`

	revision uint64
}

// complete fills in the defaults.
func (p *Plan) complete() {
	if len(p.Input) == 0 {
		p.Input = json.RawMessage("{}")
	}
	if p.TimeZone == "" {
		p.TimeZone = "UTC"
	}
	if p.Overlap == "" {
		p.Overlap = OverlapSkip
	}
	if p.Missed == "" {
		p.Missed = MissedLatest
	}
	if p.At != nil {
		at := p.At.UTC()
		p.At = &at
	}
}

// sameTimes tells whether both plans mean the same times.
func (p *Plan) sameTimes(other *Plan) bool {
	if p.At != nil && other.At != nil {
		return p.At.Equal(*other.At)
	}
	return p.At == other.At && p.Cron == other.Cron && p.TimeZone == other.TimeZone
}

// validate checks everything but the recipe and its input.
func (p *Plan) validate() error {
	var found []problem.Violation
	require := func(holds bool, path, message string) {
		if !holds {
			found = append(found, problem.Violation{Path: path, Message: message})
		}
	}
	require(len(p.Input) <= maxInput, "/input_data", "must have at most 64 KiB")
	require(p.Overlap == OverlapSkip || p.Overlap == OverlapAllow, "/overlap", "must be skip or allow")
	require(slices.Contains([]Missed{MissedLatest, MissedSkip, MissedAll}, p.Missed), "/missed", "must be latest, skip or all")
	require(p.Missed != MissedAll || p.Overlap == OverlapAllow, "/missed", "all needs overlap allow: the missed executions run at the same time")
	require((p.Cron == "") != (p.At == nil), "/cron", "give either cron or at")
	zone, err := loadZone(p.TimeZone)
	if err != nil {
		require(false, "/time_zone", err.Error())
		zone = time.UTC
	}
	if p.Cron != "" {
		if table, err := parseCron(p.Cron, zone); err != nil {
			require(false, "/cron", err.Error())
		} else {
			require(!table.next(time.Unix(0, 0)).IsZero(), "/cron", errNever.Error())
		}
	}
	if len(found) > 0 {
		return &catalogue.InvalidError{Violations: found}
	}
	return nil
}

// next is the first time of the plan after the given one, nil when there is none.
func (p *Plan) next(after time.Time) (*time.Time, error) {
	if p.At != nil {
		if p.At.After(after) {
			return p.At, nil
		}
		return nil, nil //nolint:nilnil // no time is an answer
	}
	zone, err := loadZone(p.TimeZone)
	if err != nil {
		return nil, err
	}
	table, err := parseCron(p.Cron, zone)
	if err != nil {
		return nil, err
	}
	if at := table.next(after); !at.IsZero() {
		return &at, nil
	}
	return nil, nil //nolint:nilnil // no time is an answer
}

// pass deals with every time up to now: NextAt moves on, and the times to start are returned. ongoing tells whether the previous execution
// goes on; it is asked only where that matters.
func (s *stored) pass(now time.Time, ongoing func() (bool, error)) ([]time.Time, error) {
	var due []time.Time
	next := s.NextAt
	for next != nil && !next.After(now) {
		if len(due) == maxStarts {
			due = append(due[:0], due[1:]...)
		}
		due = append(due, *next)
		var err error
		if next, err = s.next(*next); err != nil {
			return nil, err
		}
	}
	s.NextAt = next
	switch s.Missed {
	case MissedLatest:
		due = due[max(0, len(due)-1):]
	case MissedSkip:
		due = slices.DeleteFunc(due, func(at time.Time) bool { return now.Sub(at) > punctual })
	case MissedAll:
	}
	if len(due) == 0 || s.Overlap == OverlapAllow {
		return due, nil
	}
	if goesOn, err := ongoing(); err != nil || goesOn {
		return nil, err
	}
	return due[len(due)-1:], nil // more would overlap one another
}

// command asks for the execution of one of the schedule's times.
func (s *stored) command(at time.Time) accept.Command {
	return accept.Command{
		Customer: s.CustomerID, Agent: s.AgentID, Recipe: s.RecipeID, Version: s.Version, Input: bytes.Clone(s.Input),
		// No client can send the leading zero byte. The moment of its making tells the schedule from an earlier one of the same id.
		IdempotencyKey: "\x00" + s.occasion(at),
		Actor:          s.actor(),
	}
}

func (s *stored) actor() event.Actor { return event.Actor{Type: "schedule", ID: s.ScheduleID} }

// occasion names one time of the schedule.
func (s *stored) occasion(at time.Time) string {
	return "schedule/" + s.ScheduleID + "/" + strconv.FormatInt(s.CreatedAt.UnixNano(), 36) + "/" + at.UTC().Format(time.RFC3339Nano)
}

func (s *stored) key() string { return subject.ScheduleKey(s.CustomerID, s.ScheduleID) }
