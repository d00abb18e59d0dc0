package cli

import (
	"fmt"
	"time"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
)

type creditsShowCommand struct{ connection }

// Run prints the balance, the grants and the ledger.
func (c *creditsShowCommand) Run(app *app) error {
	api, err := c.customer()
	if err != nil {
		return err
	}
	defer api.Close()
	balance, err := api.Balance(app.ctx)
	if err != nil {
		return err
	}
	transactions, err := api.Transactions(app.ctx, "", maxListed)
	if err != nil {
		return err
	}
	app.report.Balance(balance)
	app.report.Ledger(transactions)
	return nil
}

type creditsGrantCommand struct {
	connection
	Customer string       `arg:"" help:"Who gets them."`
	Amount   credit.Micro `arg:"" help:"How many, such as 12.5."`
	Reason   string       `help:"Why, for the ledger."`
	Kind     string       `default:"top_up" enum:"monthly,top_up,promotional,rollover,proration" help:"What they are given for: ${enum}."`
	Priority int          `default:"50" help:"0 to 100; grants of a lower one are burnt first."`
	Expires  string       `help:"When what is left is taken back: a time as in RFC 3339, or a duration from now, such as 720h." placeholder:"WHEN"`
}

// Run grants credits.
func (c *creditsGrantCommand) Run(app *app) error {
	expires, err := expiry(c.Expires, clock.System())
	if err != nil {
		return err
	}
	api, err := c.operator()
	if err != nil {
		return err
	}
	defer api.Close()
	reply, err := api.Grant(app.ctx, client.Grant{
		CustomerID: c.Customer, Amount: c.Amount, Reason: c.Reason, Kind: query.GrantKind(c.Kind), Priority: &c.Priority, ExpiresAt: expires,
	}, "")
	if err != nil {
		return err
	}
	app.report.Line("%s has %s credits now", reply.Balance.CustomerID, reply.Balance.Available)
	return nil
}

// expiry reads a time, or a duration from now; nil for never.
func expiry(text string, now time.Time) (*time.Time, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // see above
	}
	if after, err := time.ParseDuration(text); err == nil {
		at := now.Add(after)
		return &at, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, lifecycle.Usage(fmt.Errorf("--expires %q is neither a time as in RFC 3339 nor a duration", text))
	}
	return &at, nil
}

type creditsOverdraftCommand struct {
	connection
	Customer string       `arg:"" help:"Whose."`
	Amount   credit.Micro `arg:"" help:"How many credits; 0 for none."`
}

// Run sets a customer's overdraft.
func (c *creditsOverdraftCommand) Run(app *app) error {
	api, err := c.operator()
	if err != nil {
		return err
	}
	defer api.Close()
	balance, err := api.SetOverdraft(app.ctx, c.Customer, c.Amount)
	if err != nil {
		return err
	}
	app.report.Line("%s may go %s credits below 0; %s are available now", c.Customer, balance.Overdraft, balance.Available)
	return nil
}

type creditsLowBalanceCommand struct {
	connection
	Customer  string `arg:"" help:"Whose."`
	Threshold string `arg:"" help:"How many credits, such as 12.5; none to be told no more."`
}

// Run sets the threshold of a customer.
func (c *creditsLowBalanceCommand) Run(app *app) error {
	var threshold *credit.Micro
	if c.Threshold != "none" {
		amount, err := credit.Parse(c.Threshold)
		if err != nil {
			return lifecycle.Usage(err)
		}
		threshold = &amount
	}
	api, err := c.operator()
	if err != nil {
		return err
	}
	defer api.Close()
	if _, err := api.SetLowBalance(app.ctx, c.Customer, threshold); err != nil {
		return err
	}
	if threshold == nil {
		app.report.Line("%s is not told any more", c.Customer)
	} else {
		app.report.Line("%s is told when the balance falls below %s credits", c.Customer, threshold)
	}
	return nil
}
