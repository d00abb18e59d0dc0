package cli

import (
	"errors"
	"strconv"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/pkg/lifecycle"
)

type customersGroup struct {
	Limits customersLimitsCommand `cmd:"" help:"Print what limits a customer, or set the customer's own limit (operator)."`
}

type customersLimitsCommand struct {
	connection
	Customer       string `arg:"" help:"Whose."`
	MaxConcurrency string `help:"How many executions may be under way at the same time, whatever the plan allows; none for what the plan allows." placeholder:"N|none"`
}

// Run sets the limit where one is given, and prints what holds.
func (c *customersLimitsCommand) Run(app *app) error {
	var wanted client.Limits
	if text := c.MaxConcurrency; text != "" && text != "none" {
		most, err := strconv.Atoi(text)
		if err != nil {
			return lifecycle.Usage(errors.New("--max-concurrency: must be a whole number or none"))
		}
		wanted.MaxConcurrency = &most
	}
	api, err := c.operator()
	if err != nil {
		return err
	}
	defer api.Close()
	var found client.CustomerLimits
	if c.MaxConcurrency == "" {
		found, err = api.Limits(app.ctx, c.Customer)
	} else {
		found, err = api.SetLimits(app.ctx, c.Customer, wanted)
	}
	if err != nil {
		return err
	}
	app.report.Limits(c.Customer, found.Effective.Source, found.Effective.MaxConcurrency, found.Plan.MaxConcurrency)
	return nil
}
