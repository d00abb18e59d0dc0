package cli

import (
	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/schemas/query"
)

type subscriptionGroup struct {
	Show subscriptionShowCommand `cmd:"" default:"withargs" help:"Print a subscription."`
	Set  subscriptionSetCommand  `cmd:"" help:"Replace the subscription of a customer (operator)."`
}

type subscriptionShowCommand struct {
	connection
	Customer string `arg:"" optional:"" help:"Whose (operator); that of the API key's customer unless given."`
}

// Run prints a subscription.
func (c *subscriptionShowCommand) Run(app *app) error {
	open := c.customer
	if c.Customer != "" {
		open = c.operator
	}
	api, err := open()
	if err != nil {
		return err
	}
	defer api.Close()
	customer := c.Customer
	if customer == "" { // whose key it is, the server knows
		balance, err := api.Balance(app.ctx)
		if err != nil {
			return err
		}
		customer = balance.CustomerID
	}
	found, err := api.Subscription(app.ctx, customer)
	if err != nil {
		return err
	}
	app.report.Subscription(found)
	return nil
}

type subscriptionSetCommand struct {
	connection
	Customer string   `arg:"" help:"Whose."`
	Plan     string   `arg:"" help:"The name of the plan."`
	Feature  []string `help:"The name of something that the customer may use; several with commas, or the flag again." placeholder:"NAME"`
	Status   string   `default:"active" enum:"active,cancelled" help:"Whether it holds: ${enum}."`
}

// Run replaces a subscription.
func (c *subscriptionSetCommand) Run(app *app) error {
	api, err := c.operator()
	if err != nil {
		return err
	}
	defer api.Close()
	terms := client.Terms{Plan: c.Plan, Status: query.SubscriptionStatus(c.Status), Features: append([]string{}, c.Feature...)}
	set, err := api.Subscribe(app.ctx, c.Customer, terms)
	if err != nil {
		return err
	}
	app.report.Subscription(set)
	return nil
}
