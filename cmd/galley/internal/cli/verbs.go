package cli

import (
	"encoding/json"
	"errors"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/event"
)

type executionsCancelCommand struct {
	connection
	ID     string `arg:"" help:"The execution."`
	Reason string `help:"Why, for the response and the audit log."`
}

// Run cancels an execution.
func (c *executionsCancelCommand) Run(app *app) error {
	return show(c.customer, app.report.Response, func(api *client.Client) (event.Response, error) { return api.Cancel(app.ctx, c.ID, c.Reason) })
}

// successor is what the commands have in common that make an execution out of another one.
type successor struct {
	connection
	ID      string `arg:"" help:"The execution."`
	Version int    `help:"Version of the recipe; that of the execution when absent." placeholder:"N"`
}

type executionsResumeCommand struct{ successor }

// Run goes on from where an execution failed.
func (c *executionsResumeCommand) Run(app *app) error {
	return app.execute(c.customer, func(api *client.Client) (event.Response, error) {
		return api.Resume(app.ctx, c.ID, client.Successor{Version: c.Version})
	})
}

type executionsRerunCommand struct {
	successor
	FromStep string `help:"Step to begin at; the first one when absent." placeholder:"STEP"`
}

// Run repeats an execution.
func (c *executionsRerunCommand) Run(app *app) error {
	return app.execute(c.customer, func(api *client.Client) (event.Response, error) {
		return api.Rerun(app.ctx, c.ID, client.Successor{Version: c.Version, FromStep: c.FromStep})
	})
}

// executed prints how an execution that was asked for ended. One that failed is an error of the command, too.
func (a *app) executed(response event.Response) error {
	if !response.Status.Terminal() {
		a.report.Line("It takes longer: see galley executions get %s", response.ExecutionID)
		return nil
	}
	a.report.Response(response)
	if response.Status == event.StatusFailed {
		return errors.New("the execution failed")
	}
	return nil
}

type executionsSignalCommand struct {
	connection
	ID   string `arg:"" help:"The execution."`
	Name string `arg:"" help:"The event that it waits for."`
	Data string `default:"{}" help:"What the event says, as JSON."`
}

// Run gives an execution an event.
func (c *executionsSignalCommand) Run(app *app) error {
	if !json.Valid([]byte(c.Data)) {
		return lifecycle.Usage(errors.New("--data is not valid JSON"))
	}
	return app.do(c.customer, func(api *client.Client) error {
		return api.Signal(app.ctx, c.ID, c.Name, json.RawMessage(c.Data))
	}, "execution %s has the event %s", c.ID, c.Name)
}

// decision is what the two commands about an approval have in common.
type decision struct {
	connection
	ID      string `arg:"" help:"The execution."`
	Step    string `arg:"" help:"The approval; <step>.<index> for an item of a foreach."`
	Comment string `help:"Why, for the recipe and the audit log."`
}

func (d *decision) decide(app *app, approved bool, done string) error {
	return app.do(d.customer, func(api *client.Client) error {
		return api.Decide(app.ctx, d.ID, d.Step, client.Decision{Approved: approved, Comment: d.Comment})
	}, "step %s of execution %s is %s", d.Step, d.ID, done)
}

type executionsApproveCommand struct{ decision }

// Run approves what a step asks for.
func (c *executionsApproveCommand) Run(app *app) error { return c.decide(app, true, "approved") }

type executionsRejectCommand struct{ decision }

// Run rejects what a step asks for.
func (c *executionsRejectCommand) Run(app *app) error { return c.decide(app, false, "rejected") }
