package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/event"
)

type quoteCommand struct {
	connection
	Agent   string `arg:"" help:"The agent that owns the recipe."`
	Recipe  string `arg:"" help:"The recipe."`
	Input   string `default:"{}" help:"Its input, as JSON."`
	Version int    `help:"Version of the recipe; the newest when absent." placeholder:"N"`
}

// Run prints what an execution may cost.
func (c *quoteCommand) Run(app *app) error {
	if !json.Valid([]byte(c.Input)) {
		return lifecycle.Usage(errors.New("--input is not valid JSON"))
	}
	return show(c.customer, app.report.Quote, func(api *client.Client) (client.Quote, error) {
		return api.Quote(app.ctx, event.RunRequest{AgentID: c.Agent, RecipeID: c.Recipe, Input: json.RawMessage(c.Input), Version: c.Version})
	})
}

type receiptCommand struct {
	connection
	ID string `arg:"" help:"The execution."`
}

// Run prints the receipt of an execution.
func (c *receiptCommand) Run(app *app) error {
	return show(c.customer, app.report.Receipt, func(api *client.Client) (client.Receipt, error) { return api.Receipt(app.ctx, c.ID) })
}

// period is what the commands about a period have in common.
type period struct {
	connection
	Customer string `xor:"customer" help:"Whose (operator); that of the API key's customer unless given." placeholder:"ID"`
	From     string `xor:"from" help:"The first day, such as 2026-11-01; the first one of this month when absent." placeholder:"DAY"`
	To       string `xor:"to" help:"The last day; today when absent." placeholder:"DAY"`
	Month    string `xor:"from,to" help:"A whole month instead, such as 2026-11." placeholder:"MONTH"`
	TimeZone string `help:"Where the days begin, such as Europe/Berlin; UTC when absent." placeholder:"ZONE"`
	CSV      bool   `name:"csv" help:"Print CSV."`
}

// days reads the flags at the moment now.
func (p *period) days(now time.Time) (client.Period, error) {
	asked := client.Period{Customer: p.Customer, From: p.From, To: p.To, TimeZone: p.TimeZone}
	if p.Month != "" {
		first, err := time.Parse("2006-01", p.Month)
		if err != nil {
			return client.Period{}, lifecycle.Usage(fmt.Errorf("--month %q is no month such as 2026-11", p.Month))
		}
		asked.From, asked.To = first.Format(time.DateOnly), first.AddDate(0, 1, -1).Format(time.DateOnly)
		return asked, nil
	}
	zone, err := time.LoadLocation(p.TimeZone)
	if err != nil {
		return client.Period{}, lifecycle.Usage(fmt.Errorf("--time-zone %q is no time zone such as Europe/Berlin", p.TimeZone))
	}
	today := now.In(zone)
	if asked.From == "" {
		asked.From = today.Format("2006-01") + "-01"
	}
	if asked.To == "" {
		asked.To = today.Format(time.DateOnly)
	}
	return asked, nil
}

// client makes one, of the operator where another customer is named or all are meant.
func (p *period) client(everybody bool) (*client.Client, error) {
	if p.Customer != "" || everybody {
		return p.operator()
	}
	return p.customer()
}

type usageCommand struct {
	period
	All bool     `xor:"customer" help:"Of all customers (operator)."`
	By  []string `default:"day" enum:"customer,day,recipe,kind" help:"What each line is about, with commas between: ${enum}."`
}

// Run prints what was used.
func (c *usageCommand) Run(app *app) error {
	asked, err := c.days(clock.System())
	if err != nil {
		return err
	}
	api, err := c.client(c.All)
	if err != nil {
		return err
	}
	defer api.Close()
	if c.CSV {
		table, err := api.UsageCSV(app.ctx, asked, c.By)
		if err != nil {
			return err
		}
		return app.print(table)
	}
	usage, err := api.Usage(app.ctx, asked, c.By)
	if err != nil {
		return err
	}
	app.report.Usage(asked, usage)
	return nil
}

type statementCommand struct{ period }

// Run prints a statement, and fails when it does not add up.
func (c *statementCommand) Run(app *app) error {
	asked, err := c.days(clock.System())
	if err != nil {
		return err
	}
	api, err := c.client(false)
	if err != nil {
		return err
	}
	defer api.Close()
	if c.CSV {
		table, err := api.StatementCSV(app.ctx, asked)
		if err != nil {
			return err
		}
		return app.print(table)
	}
	statement, err := api.Statement(app.ctx, asked)
	if err != nil {
		return err
	}
	app.report.Statement(statement)
	if !statement.AddsUp {
		return errors.New("the statement does not add up: galley billing reconcile says where the ledger is wrong")
	}
	return nil
}

// print writes a document as it is.
func (a *app) print(document []byte) error {
	if _, err := a.Out.Write(document); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
