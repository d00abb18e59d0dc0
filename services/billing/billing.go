// Package billing is the service that owns credits: it debits an execution before it runs, settles it when it has ended, and
// keeps the append-only ledger. See the README for its model and its invariants.
package billing

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/health"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/billing/internal/consumer"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/internal/plan"
	"github.com/galley-engine/galley/services/billing/internal/queryapi"
	"github.com/galley-engine/galley/services/billing/internal/reconcile"
	"github.com/galley-engine/galley/services/billing/internal/statement"
	"github.com/galley-engine/galley/services/billing/internal/subscription"
	"github.com/galley-engine/galley/services/billing/migrations"
)

const maxConns = 4

// Service is the billing service.
type Service struct {
	config Config
	deps   process.Deps
	// migrated is the pool to probe, nil until the schema is up to date.
	migrated atomic.Pointer[pgxpool.Pool]
}

// New makes the service. It connects to nothing yet.
func New(config Config, deps process.Deps) (*Service, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if err := deps.RequireDatabase(); err != nil {
		return nil, err
	}
	if _, err := pgxpool.ParseConfig(deps.DatabaseURL); err != nil {
		return nil, fmt.Errorf("parse database URL: %w", err)
	}
	return &Service{config: config, deps: deps}, nil
}

// Run implements process.Service. It migrates the schema as soon as Postgres is there.
func (s *Service) Run(ctx context.Context) error {
	work, err := postgres.Open(ctx, postgres.PoolConfig{
		URL: s.deps.DatabaseURL, Role: migrations.Role, MaxConns: maxConns, Settings: ledger.PoolSettings(),
	})
	if err != nil {
		return err
	}
	defer work.Close()
	read, err := postgres.Open(ctx, postgres.PoolConfig{URL: s.deps.DatabaseURL, Role: migrations.Reader, MaxConns: maxConns})
	if err != nil {
		return err
	}
	defer read.Close()
	report := func(err error) { s.deps.Logger.Warn().Err(err).Msg("schema not migrated, trying again") }
	_ = lifecycle.Retry(ctx, report, func(ctx context.Context) error {
		return postgres.Migrate(ctx, s.deps.DatabaseURL, migrations.Schema())
	})
	if ctx.Err() != nil {
		return nil
	}
	s.migrated.Store(work)
	events := outbox.New(work, s.deps.Bus.JS, query.ServiceBilling, s.deps.Logger)
	money := ledger.New(work, events, s.deps.Clock)
	executions := journal.New(s.deps.Bus.Conn, s.deps.Bus.JS)
	follower := consumer.New(consumer.Deps{
		Bus: s.deps.Bus, Journal: executions, Ledger: money, AckWait: s.deps.AckWait,
		Clock: s.deps.Clock, Logger: s.deps.Logger,
	})
	subscriptions := subscription.New(subscription.RegisterDeps{
		Work: work, Read: read, Ledger: money, Outbox: events, Delays: s.deps.Bus, Clock: s.deps.Clock,
	})
	renewer := subscription.NewRenewer(subscription.RenewerDeps{
		Register: subscriptions, Bus: s.deps.Bus, AckWait: s.deps.AckWait, Log: s.deps.Logger,
	})
	teller := subscription.NewTeller(subscription.TellerDeps{Register: subscriptions, Bus: s.deps.Bus, Log: s.deps.Logger})
	reader := ledger.NewReader(read, s.deps.Clock)
	sweep := func(ctx context.Context) error {
		return money.Sweep(ctx, func(err error) { s.deps.Logger.Warn().Err(err).Msg("grants that are over not expired, trying again") })
	}
	queries := queryapi.New(queryapi.Deps{
		Bus: s.deps.Bus, Ledger: money, Reader: reader, Catalogue: plan.New(work, read, events, s.deps.Clock), Subscriptions: subscriptions,
		Statements: statement.NewReader(read),
	})
	reconciler := reconcile.New(reconcile.Deps{
		Source: reconcile.Source{Pool: read, Bus: s.deps.Bus, Journal: executions}, Work: work, Ledger: money, Outbox: events,
		Interval: s.config.ReconcileInterval, Clock: s.deps.Clock, Log: s.deps.Logger,
	})
	if err := s.deps.Register(events, follower, reconciler, reader); err != nil {
		return err
	}
	return lifecycle.Run(ctx, follower.Run, follower.Tell, events.Run, sweep, renewer.Run, teller.Run, queries.Run,
		reconciler.Run, reconciler.Answer)
}

// Checks implements process.Service. Their texts can be read without a key, so they hold no address.
func (s *Service) Checks() []health.Check {
	const unreachable = health.Pending("cannot be reached")
	return []health.Check{
		{Name: "postgres", Probe: func(ctx context.Context) error {
			pool := s.migrated.Load()
			if pool == nil {
				return health.Pending("is waited for, or being migrated")
			}
			if pool.Ping(ctx) != nil {
				return unreachable
			}
			return nil
		}},
		{Name: "nats", Probe: func(ctx context.Context) error {
			if s.deps.Bus.Ready(ctx) != nil {
				return unreachable
			}
			return nil
		}},
	}
}
