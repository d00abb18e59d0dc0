// Package engine runs the whole of galley in one process: NATS and a private Postgres, unless there are others to use, the sandbox
// and the four services. The services meet over NATS exactly as they do as processes of their own; there is no other way between
// them here either.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/cmd/galley/internal/datadir"
	"github.com/galley-engine/galley/cmd/galley/internal/sandbox"
	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/health"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/metric"
	"github.com/galley-engine/galley/pkg/pgserver"
	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit"
	"github.com/galley-engine/galley/services/billing"
	"github.com/galley-engine/galley/services/executor"
	"github.com/galley-engine/galley/services/ingest"
)

// Config says what runs where. Its values have been validated.
type Config struct {
	// Dir must be locked by this process.
	Dir datadir.Dir
	// NATSAddr is where the NATS server in this process listens. NATSURL is that of another server to use instead, or "".
	NATSAddr, NATSURL string
	// DatabaseURL is that of a Postgres database to use instead of a private one, or "".
	DatabaseURL string
	// SandboxAddr is where the sandbox is served over HTTP, "" for no sandbox; SandboxSMTPAddr is where its mailbox takes e-mail, "" for
	// none.
	SandboxAddr, SandboxSMTPAddr string
	// MetricsAddr is where /metrics is served, with /health and /ready, to anybody who can connect; "" for nowhere.
	MetricsAddr string
	Durability  process.Durability
	// JournalRetention and AckWait are as in process.Settings.
	JournalRetention, AckWait time.Duration
	LogLevel                  string
	Log                       io.Writer
	// Ingest, Billing, Executor and Audit are the settings that only these services have.
	Ingest   ingest.Config
	Billing  billing.Config
	Executor executor.Config
	Audit    audit.Config
}

// Engine is what runs. It is used once.
type Engine struct {
	config   Config
	nats     *server.Server
	database database
}

// New makes an Engine.
func New(config Config) *Engine {
	e := &Engine{config: config}
	e.database.config = pgserver.Config{Dir: config.Dir.Postgres()}
	e.database.log = e.logger("postgres")
	return e
}

// Run starts everything, calls then, and runs until ctx ends or something fails. It stops the services first, which finish what
// they have in hand, then NATS, then Postgres.
func (e *Engine) Run(ctx context.Context, then func(ctx context.Context) error) (err error) {
	defer func() { err = errors.Join(err, e.stop()) }()
	if err := lifecycle.Run(ctx, e.startNATS, e.startDatabase); err != nil {
		if ctx.Err() != nil {
			return nil // it was called off
		}
		if errors.Is(err, pgserver.ErrNotInstalled) {
			return lifecycle.Usage(err)
		}
		return err
	}
	// What the services stand on stays while they drain.
	beneath, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	return lifecycle.Run(beneath, e.keepDatabase, e.serveSandbox, func(beneath context.Context) error {
		defer release()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(beneath, cancel)()
		return e.runServices(ctx, then)
	})
}

// startNATS leaves the URL of the server in this process where the commands of the operator find it.
func (e *Engine) startNATS(context.Context) (err error) {
	if e.config.NATSURL != "" {
		return nil
	}
	e.nats, err = startNATS(e.config.NATSAddr, e.config.Dir.NATS(), e.config.Durability, e.logger("nats"))
	if err != nil {
		return err
	}
	if err := datadir.Write(e.config.Dir.NATSURL(), e.nats.ClientURL()); err != nil {
		return fmt.Errorf("store the URL of NATS: %w", err)
	}
	return nil
}

// startDatabase leaves the URL of the private database where the commands of the operator find it.
func (e *Engine) startDatabase(ctx context.Context) error {
	if e.config.DatabaseURL != "" {
		return nil
	}
	if err := e.database.start(ctx); err != nil {
		return err
	}
	e.config.DatabaseURL = e.database.server.Load().URL()
	if err := datadir.Write(e.config.Dir.DatabaseURL(), e.config.DatabaseURL); err != nil {
		return fmt.Errorf("store the URL of the database: %w", err)
	}
	return nil
}

func (e *Engine) keepDatabase(ctx context.Context) error {
	if e.database.server.Load() == nil {
		return nil
	}
	return e.database.keep(ctx)
}

func (e *Engine) serveSandbox(ctx context.Context) error {
	if e.config.SandboxAddr == "" {
		return nil
	}
	return sandbox.Serve(ctx, sandbox.Config{HTTPAddr: e.config.SandboxAddr, SMTPAddr: e.config.SandboxSMTPAddr, Clock: clock.System})
}

func (e *Engine) runServices(ctx context.Context, then func(ctx context.Context) error) error {
	functions := []func(ctx context.Context) error{then}
	registry := metric.NewRegistry()
	var checks []health.Check
	for name, build := range e.services() { //nolint:contextcheck // what New opens stays until Run ends
		conn, err := e.connect(name)
		if err != nil {
			return err
		}
		defer conn.Close()
		function, its, err := e.service(name, conn, registry, build)
		if err != nil {
			return fmt.Errorf("set up %s: %w", name, err)
		}
		functions, checks = append(functions, function), append(checks, its...)
	}
	if e.config.MetricsAddr != "" {
		functions = append(functions, func(ctx context.Context) error {
			return health.Serve(ctx, e.config.MetricsAddr, checks, metric.Handler(registry, e.logger("metrics")))
		})
	}
	return lifecycle.Run(ctx, functions...)
}

type builder func(process.Deps) (process.Service, error)

func (e *Engine) services() map[string]builder {
	return map[string]builder{
		query.ServiceIngest:   func(d process.Deps) (process.Service, error) { return ingest.New(e.config.Ingest, d) },
		query.ServiceBilling:  func(d process.Deps) (process.Service, error) { return billing.New(e.config.Billing, d) },
		query.ServiceExecutor: func(d process.Deps) (process.Service, error) { return executor.New(e.config.Executor, d) },
		query.ServiceAudit:    func(d process.Deps) (process.Service, error) { return audit.New(e.config.Audit, d) },
	}
}

// service gives what runs a service, and its checks.
func (e *Engine) service(
	name string, conn *nats.Conn, registry prometheus.Registerer, build builder,
) (run func(ctx context.Context) error, checks []health.Check, err error) {
	log := e.logger(name)
	settings := process.Settings{Durability: e.config.Durability, JournalRetention: e.config.JournalRetention}
	messages, err := bus.New(conn, settings.Bus(), log)
	if err != nil {
		return nil, nil, err
	}
	deps := process.Deps{
		Bus: messages, DatabaseURL: e.config.DatabaseURL, AckWait: e.config.AckWait, Logger: log, Clock: clock.System,
		Metrics: metric.OfService(registry, name),
	}
	service, err := build(deps)
	if err != nil {
		return nil, nil, err
	}
	for _, check := range service.Checks() {
		checks = append(checks, health.Check{Name: name + "/" + check.Name, Probe: check.Probe})
	}
	return func(ctx context.Context) error { return process.Run(ctx, name, service, deps) }, checks, nil
}

// connect opens a service's own connection, without a socket where the server is in this process.
func (e *Engine) connect(name string) (*nats.Conn, error) {
	if e.nats == nil {
		return bus.Connect(e.config.NATSURL, "galley-"+name)
	}
	return bus.Connect("", "galley-"+name, nats.InProcessServer(e.nats))
}

func (e *Engine) logger(name string) zerolog.Logger {
	return process.Logger(e.config.Log, name, e.config.LogLevel)
}

// stop ends NATS and Postgres, whichever of them runs.
func (e *Engine) stop() error {
	if e.nats != nil {
		stopNATS(e.nats)
	}
	return errors.Join(e.database.stop(), os.RemoveAll(e.config.Dir.DatabaseURL()), os.RemoveAll(e.config.Dir.NATSURL()))
}

// Abort ends Postgres at once, for a process that is about to exit without waiting for anything. Nothing is lost: the next start
// recovers. It may be called while Run is running.
func (e *Engine) Abort() {
	e.database.abort()
}
