package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/pkg/lifecycle"
)

type schedulesGroup struct {
	List   schedulesListCommand   `cmd:"" default:"withargs" help:"List the schedules."`
	Get    schedulesGetCommand    `cmd:"" help:"Print a schedule."`
	Create schedulesCreateCommand `cmd:"" help:"Create a schedule."`
	Delete schedulesDeleteCommand `cmd:"" help:"Delete a schedule; executions that it started go on."`
	Pause  schedulesPauseCommand  `cmd:"" help:"Pause a schedule."`
	Resume schedulesResumeCommand `cmd:"" help:"Let a paused schedule go on with its next time."`
}

type schedulesListCommand struct{ connection }

// Run lists the schedules.
func (c *schedulesListCommand) Run(app *app) error {
	return show(c.customer, app.report.Schedules, func(api *client.Client) ([]client.Schedule, error) { return api.Schedules(app.ctx) })
}

// oneSchedule is what the commands have that do something to a schedule.
type oneSchedule struct {
	connection
	ID string `arg:"" help:"The schedule."`
}

// show does something to the schedule and prints it.
func (c *oneSchedule) show(
	app *app, do func(api *client.Client, ctx context.Context, id string) (client.Schedule, error),
) error {
	return show(c.customer, app.report.Schedule, func(api *client.Client) (client.Schedule, error) { return do(api, app.ctx, c.ID) })
}

type schedulesGetCommand struct{ oneSchedule }

// Run prints a schedule.
func (c *schedulesGetCommand) Run(app *app) error { return c.show(app, (*client.Client).Schedule) }

type schedulesPauseCommand struct{ oneSchedule }

// Run pauses a schedule.
func (c *schedulesPauseCommand) Run(app *app) error {
	return c.show(app, (*client.Client).PauseSchedule)
}

type schedulesResumeCommand struct{ oneSchedule }

// Run resumes a schedule.
func (c *schedulesResumeCommand) Run(app *app) error {
	return c.show(app, (*client.Client).ResumeSchedule)
}

type schedulesDeleteCommand struct{ oneSchedule }

// Run deletes a schedule.
func (c *schedulesDeleteCommand) Run(app *app) error {
	return app.do(c.customer, func(api *client.Client) error { return api.DeleteSchedule(app.ctx, c.ID) }, "%s is deleted", c.ID)
}

type schedulesCreateCommand struct {
	oneSchedule
	Agent         string `arg:"" help:"The agent that owns the recipe."`
	Recipe        string `arg:"" help:"The recipe."`
	Input         string `default:"{}" help:"Its input, as JSON."`
	RecipeVersion int    `help:"The version to run; the newest at each start when absent." placeholder:"N"`
	Cron          string `help:"When: minute, hour, day of month, month, day of week." placeholder:"\"30 4 * * *\""`
	At            string `help:"The one time, instead of --cron, as in RFC 3339." placeholder:"2027-01-31T08:00:00Z"`
	TimeZone      string `help:"The time zone of --cron, by its IANA name; UTC when absent." placeholder:"ZONE"`
	Overlap       string `help:"Whether to start while the previous execution goes on: skip (when absent) or allow." placeholder:"skip|allow"`
	Missed        string `help:"What to start after a downtime: the latest missed time (when absent), skip what is late, or all." placeholder:"latest|skip|all"`
}

// Run creates a schedule.
func (c *schedulesCreateCommand) Run(app *app) error {
	if !json.Valid([]byte(c.Input)) {
		return lifecycle.Usage(errors.New("--input is not valid JSON"))
	}
	wanted := client.NewSchedule{
		ScheduleID: c.ID, AgentID: c.Agent, RecipeID: c.Recipe, Version: c.RecipeVersion, Input: json.RawMessage(c.Input),
		Cron: c.Cron, TimeZone: c.TimeZone, Overlap: c.Overlap, Missed: c.Missed,
	}
	if c.At != "" {
		at, err := time.Parse(time.RFC3339, c.At)
		if err != nil {
			return lifecycle.Usage(fmt.Errorf("--at: %w", err))
		}
		wanted.At = &at
	}
	return c.show(app, func(api *client.Client, ctx context.Context, _ string) (client.Schedule, error) {
		return api.CreateSchedule(ctx, wanted)
	})
}
