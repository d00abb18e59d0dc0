package billing

import (
	"context"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/migrations"
)

// Report is what a reconciliation compared and every drift that it found. The money adds up when there is none.
type Report = ledger.Report

// Drift is one place where the money does not add up.
type Drift = ledger.Drift

// Reconcile proves that every balance is the sum of its ledger, that the ledger's rows follow from one another, and that charges,
// grants and ledger agree. It looks at one moment while billing goes on working.
func Reconcile(ctx context.Context, databaseURL string) (Report, error) {
	pool, err := postgres.Open(ctx, postgres.PoolConfig{URL: databaseURL, Role: migrations.Reader, MaxConns: 1})
	if err != nil {
		return Report{}, err
	}
	defer pool.Close()
	return ledger.Reconcile(ctx, pool)
}
