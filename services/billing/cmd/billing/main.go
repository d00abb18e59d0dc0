// Command billing is the billing service as a process of its own. With the argument "reconcile" it proves instead that the money
// in the database at GALLEY_DATABASE_URL adds up, and, with GALLEY_NATS_URL, that the journal there agrees; it exits with 1 when not.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	_ "time/tzdata" // subscriptions need time zones where the machine has none

	natsgo "github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/services/billing"
)

const (
	databaseURL = "GALLEY_DATABASE_URL"
	natsURL     = "GALLEY_NATS_URL"
)

func main() {
	switch arguments := strings.Join(os.Args[1:], " "); arguments {
	case "":
		os.Exit(process.Main("billing", func(c billing.Config, d process.Deps) (process.Service, error) { return billing.New(c, d) }))
	case "reconcile":
		os.Exit(lifecycle.Main("billing reconcile", os.Stderr, reconcile))
	default:
		fmt.Fprintf(os.Stderr, "billing: unknown argument %q: there is only reconcile\n", arguments)
		os.Exit(lifecycle.ExitUsage)
	}
}

func reconcile(ctx context.Context) error {
	url := os.Getenv(databaseURL)
	if url == "" {
		return lifecycle.Usage(errors.New(databaseURL + " is not set: the URL of a Postgres database"))
	}
	report, err := compare(ctx, url, os.Getenv(natsURL))
	if err != nil {
		return err
	}
	fmt.Printf("%d accounts, %d charges, %d transactions, %d events, %d open debits\n",
		report.Accounts, report.Charges, report.Transactions, report.Events, report.Debits)
	for _, drift := range report.Drifts {
		fmt.Println(drift)
	}
	if report.Found > 0 {
		return fmt.Errorf("the money does not add up: %d differences", report.Found)
	}
	return nil
}

// compare leaves the journal out without the URL of its NATS server.
func compare(ctx context.Context, database, nats string) (billing.JournalReport, error) {
	if nats == "" {
		report, err := billing.Reconcile(ctx, database)
		return billing.JournalReport{Report: report, Found: int64(len(report.Drifts))}, err
	}
	conn, err := bus.Connect(nats, "galley-reconcile", natsgo.RetryOnFailedConnect(false))
	if err != nil {
		return billing.JournalReport{}, err
	}
	defer conn.Close()
	messages, err := bus.New(conn, bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	if err != nil {
		return billing.JournalReport{}, err
	}
	return billing.ReconcileJournal(ctx, database, messages)
}
