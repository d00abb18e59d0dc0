// Package ingest is galley's way in: it takes run requests over HTTP and NATS, authenticates and validates them, pins what they run
// and opens their journal. It owns the catalogue (customers, API keys, agents, recipes), answers waiting callers, and projects how
// executions stand into Postgres.
package ingest

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/health"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/pkg/secret"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
	"github.com/galley-engine/galley/services/ingest/internal/control"
	"github.com/galley-engine/galley/services/ingest/internal/deadletter"
	"github.com/galley-engine/galley/services/ingest/internal/httpapi"
	"github.com/galley-engine/galley/services/ingest/internal/intake"
	"github.com/galley-engine/galley/services/ingest/internal/login"
	"github.com/galley-engine/galley/services/ingest/internal/projection"
	"github.com/galley-engine/galley/services/ingest/internal/queue"
	"github.com/galley-engine/galley/services/ingest/internal/reply"
	"github.com/galley-engine/galley/services/ingest/internal/schedule"
	"github.com/galley-engine/galley/services/ingest/internal/usage"
	"github.com/galley-engine/galley/services/ingest/internal/watch"
	"github.com/galley-engine/galley/services/ingest/migrations"
)

// Executions are accepted and answered without a query, so a few connections serve many callers.
const (
	readerConns = 8
	batchConns  = 4
)

// Service is the ingest service.
type Service struct {
	config Config
	deps   process.Deps
	// secretKeys are those of config.
	secretKeys secret.Keys
	// pool is nil until Run, migrated false until the schema is there.
	pool     atomic.Pointer[pgxpool.Pool]
	migrated atomic.Bool
}

// New makes the service. Nothing is connected to before Run.
func New(config Config, deps process.Deps) (*Service, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if err := deps.RequireDatabase(); err != nil {
		return nil, err
	}
	keys, err := secret.ParseKeys(config.SecretsKey)
	if err != nil {
		return nil, err
	}
	return &Service{config: config, deps: deps, secretKeys: keys}, nil
}

// Checks implements process.Service. Their texts can be read without a key, so they hold no address.
func (s *Service) Checks() []health.Check {
	const unreachable = health.Pending("cannot be reached")
	return []health.Check{
		{Name: "postgres", Probe: func(ctx context.Context) error {
			pool := s.pool.Load()
			if pool == nil || pool.Ping(ctx) != nil {
				return unreachable
			}
			if !s.migrated.Load() {
				return health.Pending("is being migrated")
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

// Run implements process.Service. An address that cannot be listened on is a mistake in the settings; what is not there yet, or goes
// away for a while, is waited for.
func (s *Service) Run(ctx context.Context) error {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", s.config.HTTPAddr)
	if err != nil {
		return lifecycle.Usage(fmt.Errorf("GALLEY_HTTP_ADDR: %w", err))
	}
	defer func() { _ = listener.Close() }()
	return s.serve(ctx, listener)
}

func (s *Service) serve(ctx context.Context, listener net.Listener) error {
	reader, err := postgres.Open(ctx, postgres.PoolConfig{URL: s.deps.DatabaseURL, Role: migrations.Reader, MaxConns: readerConns})
	if err != nil {
		return err
	}
	defer reader.Close()
	s.pool.Store(reader)
	writer, err := postgres.Open(ctx, postgres.PoolConfig{
		URL: s.deps.DatabaseURL, Role: migrations.Role, MaxConns: batchConns, Batch: true,
	})
	if err != nil {
		return err
	}
	defer writer.Close()

	messages, now, log := s.deps.Bus, s.deps.Clock, s.deps.Logger
	executions := journal.New(messages.Conn, messages.JS)
	inbox := reply.New(messages.Conn, executions)
	events := outbox.New(writer, messages.JS, query.ServiceIngest, log)
	found, err := catalogue.New(catalogue.Deps{
		Pool: reader, Conn: messages.Conn, JS: messages.JS, Outbox: events, SecretKeys: s.secretKeys, Clock: now,
	})
	if err != nil {
		return err
	}
	plans := catalogue.NewPlanLimits(catalogue.PlanLimitsDeps{Bus: messages, Pool: writer, Catalogue: found, Log: log})
	history := projection.NewReader(reader, executions)
	acceptor := accept.New(found, history, messages, executions, inbox, now)
	controller := control.New(control.Deps{
		Journal: executions, Bus: messages, Catalogue: found, History: history, Pool: reader, Outbox: events, Clock: now, Log: log,
	})
	schedules := schedule.NewStore(schedule.StoreDeps{Pool: reader, Bus: messages, Outbox: events, Checker: acceptor, Clock: now})
	starter := schedule.NewStarter(schedule.StarterDeps{
		Bus: messages, Acceptor: acceptor, Journal: executions, AckWait: s.deps.AckWait, Clock: now,
	})
	watcher := watch.New(watch.Deps{
		Pool: writer, Bus: messages, Journal: executions, Recipes: found, Interval: watch.Interval, Clock: now, Log: log,
	})
	requests := queue.New(queue.Deps{Bus: messages, Pool: writer, Clock: now, Log: log})
	activities := activity.NewRecorder(reader, events, now)
	logins := login.New(activities, now, log)
	api := httpapi.New(httpapi.Deps{
		Executor: acceptor, Quoter: acceptor, Executions: history, Usage: usage.NewReader(reader), Control: controller, Catalogue: found,
		Schedules: schedules, Watch: watcher, DeadLetters: deadletter.New(messages, reader, events, now), Bus: messages,
		Activities: activities, Logins: logins, Checks: s.Checks(),
		OperatorKey: s.config.OperatorKey, Clock: now, Log: log,
	})

	// The API stops first: what it stands on stays until the callers under way have their answers.
	beneath, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	return lifecycle.Run(beneath, inbox.Run, found.Run, logins.Run, acceptor.AnswerChildren,
		func(ctx context.Context) error { return history.AnswerOutcomes(ctx, messages) },
		func(ctx context.Context) error { return found.AnswerLimits(ctx, messages) },
		func(beneath context.Context) error {
			defer release()
			serving, stop := context.WithCancel(ctx)
			defer stop()
			defer context.AfterFunc(beneath, stop)()
			return api.Run(serving, listener)
		},
		func(ctx context.Context) error {
			if !s.migrate(ctx) {
				return nil
			}
			projected := projection.New(messages, writer, log)
			if err := s.deps.Register(events, projected, messages.Streams(), logins); err != nil {
				return err
			}
			return lifecycle.Run(ctx, events.Run, plans.Run, projected.Run,
				intake.New(messages, requests, acceptor, s.deps.AckWait, now, log).Run,
				intake.NewSignals(messages, controller, s.deps.AckWait, now, log).Run, starter.Run, watcher.Run)
		},
	)
}

// migrate brings the schema up to date, which may take until Postgres is there; false when ctx ended first.
func (s *Service) migrate(ctx context.Context) bool {
	report := func(err error) { s.deps.Logger.Warn().Err(err).Msg("schema not migrated, trying again") }
	err := lifecycle.Retry(ctx, report, func(ctx context.Context) error {
		return postgres.Migrate(ctx, s.deps.DatabaseURL, migrations.Schema())
	})
	s.migrated.Store(err == nil)
	return err == nil
}
