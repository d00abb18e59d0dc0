package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

const (
	lockID = 7326
	// pause is how long after a failure it is tried again.
	pause = time.Minute
	// maxRecorded is how many differences the activity and the log name.
	maxRecorded = 20
)

// Deps is what a Reconciler is given.
type Deps struct {
	Source
	// Work acts as the role galley_billing.
	Work   *pgxpool.Pool
	Ledger *ledger.Ledger
	Outbox *outbox.Outbox
	// Interval is how long after one run the next one begins, 0 for never.
	Interval time.Duration
	Clock    clock.Clock
	Log      zerolog.Logger
}

// Reconciler compares again and again, settles orphans, and remembers what it found. It is safe for concurrent use.
type Reconciler struct {
	Deps
	results *results
}

// New makes a Reconciler.
func New(deps Deps) *Reconciler {
	return &Reconciler{Deps: deps, results: newResults()}
}

// Run reconciles when the last run, of whichever process, is as long ago as the interval, in one process at a time, until ctx ends.
func (r *Reconciler) Run(ctx context.Context) error {
	if r.Interval == 0 {
		return nil
	}
	report := func(err error) { r.Log.Warn().Err(err).Msg("reconciliation interrupted") }
	return postgres.Lead(ctx, r.Work, lockID, report, func(ctx context.Context) error {
		defer r.results.forget()
		for {
			wait, err := r.wait(ctx)
			if err == nil {
				if !lifecycle.Sleep(ctx, wait) {
					return nil
				}
				_, err = r.Reconcile(ctx)
			}
			if err != nil {
				report(err)
				r.results.fail()
				if !lifecycle.Sleep(ctx, min(pause, r.Interval)) {
					return nil
				}
			}
		}
	})
}

func (r *Reconciler) wait(ctx context.Context) (time.Duration, error) {
	last, err := r.last(ctx)
	if err != nil || last.EndedAt == nil {
		return 0, err
	}
	r.results.restore(last)
	return min(r.Interval, max(0, last.EndedAt.Add(r.Interval).Sub(r.Clock()))), nil
}

// Reconcile compares, settles orphans, and records the result: for the operator, in the audit log and, when there is a difference, in the
// log. A difference is one also when it leads to a settle: only the next run is without it.
func (r *Reconciler) Reconcile(ctx context.Context) (query.ReconciliationReply, error) {
	if err := r.Bus.Provision(ctx); err != nil {
		return query.ReconciliationReply{}, err
	}
	report, err := Compare(ctx, r.Source, r.Clock())
	if err != nil {
		return query.ReconciliationReply{}, err
	}
	settled, err := r.settle(ctx, report.orphans)
	if err != nil {
		return query.ReconciliationReply{}, err
	}
	result := report.result(query.MaxDifferences)
	result.Settled = settled
	ended := r.Clock().UTC()
	result.EndedAt = &ended
	if err := r.record(ctx, result); err != nil {
		return query.ReconciliationReply{}, fmt.Errorf("record reconciliation: %w", err)
	}
	r.results.complete(result)
	if !result.OK {
		r.Log.Error().Int64("differences", result.Found).Int64("settled", settled).
			Strs("first", recorded(result).Differences).Msg("the money does not add up")
	}
	return result, nil
}

// result is the report as it is told, with at most so many differences named.
func (r *Report) result(named int) query.ReconciliationReply {
	result := query.ReconciliationReply{
		OK: r.Found == 0, Accounts: r.Accounts, Charges: r.Charges, Transactions: r.Transactions, Events: r.Events, Debits: r.Debits,
		Found: r.Found, Differences: []string{},
	}
	for _, drift := range r.Drifts[:min(named, len(r.Drifts))] {
		result.Differences = append(result.Differences, drift.String())
	}
	return result
}

// recorded is the result with fewer differences.
func recorded(result query.ReconciliationReply) query.ReconciliationReply {
	result.Differences = result.Differences[:min(maxRecorded, len(result.Differences))]
	return result
}

const storeResult = `INSERT INTO billing.reconciliation (ended_at, result) VALUES ($1, $2)
	ON CONFLICT (only_row) DO UPDATE SET ended_at = EXCLUDED.ended_at, result = EXCLUDED.result`

func (r *Reconciler) record(ctx context.Context, result query.ReconciliationReply) error {
	changes, err := event.Changes(nil, recorded(result))
	if err != nil {
		return fmt.Errorf("encode activity: %w", err)
	}
	outcome := event.StatusSuccess
	if !result.OK {
		outcome = event.StatusFailed
	}
	err = pgx.BeginFunc(ctx, r.Work, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, storeResult, result.EndedAt, result); err != nil {
			return fmt.Errorf("store result: %w", err)
		}
		return r.Outbox.Activity(ctx, tx, event.Activity{
			ActionType: event.ActionLedgerReconciled, ResourceType: "ledger", ResourceID: result.EndedAt.Format(time.RFC3339),
			Actor: event.Actor{Type: "service", ID: query.ServiceBilling}, Changes: changes, Outcome: string(outcome), OccurredAt: *result.EndedAt,
		}, "")
	})
	if err != nil {
		return err
	}
	r.Outbox.Wake()
	return nil
}

// Answer serves the query for the last result until ctx ends.
func (r *Reconciler) Answer(ctx context.Context) error {
	return bus.Answer(ctx, r.Bus, query.ServiceBilling, query.Reconciliation,
		func(ctx context.Context, _ query.ReconciliationRequest) (query.ReconciliationReply, error) {
			return r.last(ctx)
		})
}

// last is empty when there was none.
func (r *Reconciler) last(ctx context.Context) (query.ReconciliationReply, error) {
	result := query.ReconciliationReply{Differences: []string{}}
	err := postgres.Query(ctx, r.Pool, postgres.EveryCustomer, func(batch *pgx.Batch) {
		batch.Queue(`SELECT result FROM billing.reconciliation`).QueryRow(func(row pgx.Row) error {
			err := row.Scan(&result)
			if errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			return err
		})
	})
	if err != nil {
		return query.ReconciliationReply{}, fmt.Errorf("read the last reconciliation: %w", err)
	}
	return result, nil
}
