package cli

import (
	"fmt"
	"time"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/query"
)

type subscriptionGroup struct {
	Show   subscriptionShowCommand   `cmd:"" default:"withargs" help:"Print a subscription."`
	Set    subscriptionSetCommand    `cmd:"" help:"Subscribe a customer to a plan, or change to another one (operator)."`
	Cancel subscriptionCancelCommand `cmd:"" help:"End the subscription of a customer with its period (operator)."`
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
	Customer  string   `arg:"" help:"Whose."`
	Plan      string   `arg:"" help:"The name of the plan. One that is not published is a note, from which nothing follows."`
	Feature   []string `help:"The name of something that the customer may use, for a plan that is not published; several with commas, or the flag again." placeholder:"NAME"`
	Status    string   `default:"active" enum:"active,cancelled" help:"Whether it holds: ${enum}; cancelled is for a plan that is not published."`
	Version   int      `help:"The version of a published plan; the newest when absent." placeholder:"N"`
	Start     string   `help:"When the first period begins, as in RFC 3339; now when absent." placeholder:"2027-01-31T08:00:00Z"`
	AnchorDay int      `help:"The day of the month on which periods begin, the last one of a shorter month; that of the start when absent." placeholder:"DAY"`
	TimeZone  string   `help:"The time zone in which days begin, by its IANA name; UTC when absent." placeholder:"ZONE"`
}

// Run sets a subscription.
func (c *subscriptionSetCommand) Run(app *app) error {
	terms := client.Terms{
		Plan: c.Plan, Status: query.SubscriptionStatus(c.Status), Features: c.Feature, Version: c.Version, Anchor: c.AnchorDay, TimeZone: c.TimeZone,
	}
	if c.Start != "" {
		start, err := time.Parse(time.RFC3339, c.Start)
		if err != nil {
			return lifecycle.Usage(fmt.Errorf("--start: %w", err))
		}
		terms.Start = &start
	}
	return show(c.operator, app.report.Subscription, func(api *client.Client) (query.SubscriptionReply, error) {
		return api.Subscribe(app.ctx, c.Customer, terms)
	})
}

type subscriptionCancelCommand struct {
	connection
	Customer string `arg:"" help:"Whose."`
	Now      bool   `help:"At once: what is left of the period's credits expires."`
}

// Run cancels a subscription.
func (c *subscriptionCancelCommand) Run(app *app) error {
	return show(c.operator, app.report.Subscription, func(api *client.Client) (query.SubscriptionReply, error) {
		return api.CancelSubscription(app.ctx, c.Customer, c.Now)
	})
}
