package billing

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/internal/reconcile"
	"github.com/galley-engine/galley/services/billing/migrations"
)

// Report is what a reconciliation of the ledger compared and every drift that it found. The money adds up when there is none.
type Report = ledger.Report

// JournalReport is a Report with what was compared with the journal.
type JournalReport = reconcile.Report

// Drift is one place where the money does not add up.
type Drift = ledger.Drift

// Reconcile proves that every balance is the sum of its ledger, that the ledger's rows follow from one another, and that charges,
// grants and ledger agree. It looks at one moment while billing goes on working.
func Reconcile(ctx context.Context, databaseURL string) (Report, error) {
	pool, err := openReader(ctx, databaseURL)
	if err != nil {
		return Report{}, err
	}
	defer pool.Close()
	return ledger.Reconcile(ctx, pool)
}

// ReconcileJournal proves what Reconcile does, and that the journal agrees: every funded event has its debit, every end its settle, and
// every open debit an execution that has not ended. It changes nothing.
func ReconcileJournal(ctx context.Context, databaseURL string, messages *bus.Bus) (JournalReport, error) {
	pool, err := openReader(ctx, databaseURL)
	if err != nil {
		return JournalReport{}, err
	}
	defer pool.Close()
	source := reconcile.Source{Pool: pool, Bus: messages, Journal: journal.New(messages.Conn, messages.JS)}
	return reconcile.Compare(ctx, source, clock.System())
}

func openReader(ctx context.Context, databaseURL string) (*pgxpool.Pool, error) {
	return postgres.Open(ctx, postgres.PoolConfig{URL: databaseURL, Role: migrations.Reader, MaxConns: 1})
}
