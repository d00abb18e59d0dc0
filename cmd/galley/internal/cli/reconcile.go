package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/galley-engine/galley/cmd/galley/internal/datadir"
	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/billing"
)

type reconcileCommand struct {
	database
	NATSURL string `name:"nats-url" env:"GALLEY_NATS_URL" help:"The NATS server that holds the journal; without it, that of the galley that runs on the data directory." placeholder:"URL"`
	Last    bool   `help:"Print what billing found when it last compared by itself."`
}

// Run compares the ledger with itself and, where there is one, with the journal. Any difference makes the command fail.
func (c *reconcileCommand) Run(app *app) error {
	nats, err := c.nats()
	if err != nil {
		return err
	}
	if c.Last {
		return c.last(app, nats)
	}
	url, err := c.url()
	if err != nil {
		return err
	}
	if nats == "" {
		return c.ledger(app, url)
	}
	messages, err := connect(nats, "galley-reconcile")
	if err != nil {
		return err
	}
	defer messages.Conn.Close()
	found, err := billing.ReconcileJournal(app.ctx, url, messages)
	if err != nil {
		return fmt.Errorf("reconcile: %w", err)
	}
	for _, drift := range found.Drifts {
		app.report.Line("%s", drift)
	}
	app.compared(&query.ReconciliationReply{
		Accounts: found.Accounts, Charges: found.Charges, Transactions: found.Transactions, Events: found.Events, Debits: found.Debits,
		Found: found.Found,
	})
	return differences(found.Found)
}

// nats is empty where only the ledger can be compared. What runs on the data directory has the journal only of the database there.
func (c *reconcileCommand) nats() (string, error) {
	if c.NATSURL != "" || c.DatabaseURL != "" {
		return c.NATSURL, nil
	}
	dir, err := datadir.New(c.DataDir)
	if err != nil {
		return "", err
	}
	url, err := datadir.Read(dir.NATSURL())
	if err != nil {
		return "", fmt.Errorf("find the journal: %w", err)
	}
	return url, nil
}

// ledger compares without the journal.
func (c *reconcileCommand) ledger(app *app, url string) error {
	found, err := billing.Reconcile(app.ctx, url)
	if err != nil {
		return fmt.Errorf("reconcile: %w", err)
	}
	for _, drift := range found.Drifts {
		app.report.Line("%s", drift)
	}
	app.report.Line("%d accounts, %d charges and %d rows of the ledger compared, not with the journal (set GALLEY_NATS_URL): %d differences",
		found.Accounts, found.Charges, found.Transactions, len(found.Drifts))
	return differences(int64(len(found.Drifts)))
}

// last asks billing.
func (c *reconcileCommand) last(app *app, nats string) error {
	if nats == "" {
		return lifecycle.Usage(errors.New("no galley runs on the data directory: start it, or set GALLEY_NATS_URL"))
	}
	messages, err := connect(nats, "galley-reconcile")
	if err != nil {
		return err
	}
	defer messages.Conn.Close()
	found, err := bus.Ask[query.ReconciliationReply](
		app.ctx, messages, query.ServiceBilling, query.Reconciliation, query.ReconciliationRequest{})
	if err != nil {
		return fmt.Errorf("ask billing: %w", err)
	}
	if found.EndedAt == nil {
		return errors.New("billing has not compared anything yet")
	}
	for _, difference := range found.Differences {
		app.report.Line("%s", difference)
	}
	if more := found.Found - int64(len(found.Differences)); more > 0 {
		app.report.Line("... and %d more", more)
	}
	app.compared(&found)
	app.report.Line("%s, %d executions settled", found.EndedAt.Format(time.RFC3339), found.Settled)
	return differences(found.Found)
}

func (a *app) compared(found *query.ReconciliationReply) {
	a.report.Line("%d accounts, %d charges and %d rows of the ledger, %d events of the journal and %d open debits compared: %d differences",
		found.Accounts, found.Charges, found.Transactions, found.Events, found.Debits, found.Found)
}

func differences(found int64) error {
	if found > 0 {
		return errors.New("the money does not add up")
	}
	return nil
}
