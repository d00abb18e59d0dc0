// Command billing is the billing service as a process of its own. With the argument "reconcile" it proves instead that the money
// in the database at GALLEY_DATABASE_URL adds up; it exits with 1 when it does not.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	_ "time/tzdata" // subscriptions need time zones where the machine has none

	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/services/billing"
)

const databaseURL = "GALLEY_DATABASE_URL"

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
	report, err := billing.Reconcile(ctx, url)
	if err != nil {
		return err
	}
	fmt.Printf("%d accounts, %d charges, %d transactions\n", report.Accounts, report.Charges, report.Transactions)
	for _, drift := range report.Drifts {
		fmt.Println(drift)
	}
	if len(report.Drifts) > 0 {
		return errors.New("the money does not add up")
	}
	return nil
}
