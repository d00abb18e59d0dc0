// Package reconcile proves that the ledger agrees with itself and with the journal, on a schedule, and settles what nothing else will.
//
// Nothing is stopped for it, and nothing is compared by its age where it can be compared for certain: what billing has acknowledged is in
// the ledger. So the places up to which it has are read first, then the journal, then the charges, and an event beyond those places is
// simply not due yet.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

const (
	// page is how many events or charges are compared at a time.
	page = 1000
	// maxDrifts is how many differences with the journal are named, and maxOrphans how many of them are settled; more are counted.
	maxDrifts  = 1000
	maxOrphans = 10_000
)

// Report is what was compared and what does not agree.
type Report struct {
	// Report is the comparison of the ledger with itself. Its Drifts are followed by those of the journal, of which at most 1000 are named.
	ledger.Report
	// Events are the funded and completed events, Debits the open debits that were compared with the other side.
	Events int64
	Debits int64
	// Found counts all differences.
	Found int64

	orphans []orphan
}

// Source is what is compared.
type Source struct {
	// Pool acts as the role galley_billing_reader.
	Pool    *pgxpool.Pool
	Bus     *bus.Bus
	Journal *journal.Journal
}

// Compare compares balances, ledger, lots and charges with one another, and charges with the journal, at the time now. It changes nothing.
func Compare(ctx context.Context, source Source, now time.Time) (Report, error) {
	c := &comparison{Source: source, now: now}
	for _, step := range []func(ctx context.Context) error{c.readPlaces, c.compareEvents, c.compareDebits} {
		if err := step(ctx); err != nil {
			return Report{}, fmt.Errorf("compare the ledger with the journal: %w", err)
		}
	}
	var err error
	drifts := c.report.Drifts
	if c.report.Report, err = ledger.Reconcile(ctx, source.Pool); err != nil {
		return Report{}, err
	}
	c.report.Found += int64(len(c.report.Drifts))
	c.report.Drifts = append(c.report.Drifts, drifts...)
	return c.report, nil
}

// comparison is one Compare.
type comparison struct {
	Source
	now time.Time
	// accepted and completed are the places up to which billing has acknowledged these events.
	accepted, completed uint64
	report              Report
}

func (c *comparison) readPlaces(ctx context.Context) (err error) {
	if c.accepted, err = c.place(ctx, event.Accepted); err == nil {
		c.completed, err = c.place(ctx, event.Completed)
	}
	return err
}

// place is 0 for a consumer that was never made: then billing has seen nothing.
func (c *comparison) place(ctx context.Context, kind event.Kind) (uint64, error) {
	name := query.ServiceBilling + "-" + string(kind)
	consumer, err := c.Bus.JS.Consumer(ctx, subject.StreamExecutions, name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look up consumer %s: %w", name, err)
	}
	return consumer.CachedInfo().AckFloor.Stream, nil
}

func (c *comparison) differs(key ledger.Key, format string, values ...any) {
	c.report.Found++
	if len(c.report.Drifts) < maxDrifts {
		drift := ledger.Drift{CustomerID: key.Customer, Problem: fmt.Sprintf(format, values...)}
		if key.Execution != uuid.Nil {
			drift.ExecutionID = key.Execution.String()
		}
		c.report.Drifts = append(c.report.Drifts, drift)
	}
}
