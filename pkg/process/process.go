// Package process is what the four services have in common as processes: their settings, what they are given, and how they run.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/config"
	"github.com/galley-engine/galley/pkg/health"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/metric"
)

// Durability says what an acknowledged event survives.
type Durability string

const (
	// DurabilityProcess survives kill -9 of anything; one copy, synced every second.
	DurabilityProcess Durability = "process"
	// DurabilityDisk survives power loss; one copy, synced before every acknowledgement.
	DurabilityDisk Durability = "disk"
	// DurabilityCluster survives the loss of a node; three copies.
	DurabilityCluster Durability = "cluster"
)

const clusterReplicas = 3

// Settings are those that every service process reads from its environment.
type Settings struct {
	NATSURL          string        `env:"GALLEY_NATS_URL"          envDefault:"nats://127.0.0.1:4222"`
	DatabaseURL      string        `env:"GALLEY_DATABASE_URL"`
	LogLevel         string        `env:"GALLEY_LOG_LEVEL"         envDefault:"info"`
	Durability       Durability    `env:"GALLEY_DURABILITY"        envDefault:"process"`
	JournalRetention time.Duration `env:"GALLEY_JOURNAL_RETENTION" envDefault:"72h"`
	// AckWait is after how long the work of a dead process is taken over by another.
	AckWait time.Duration `env:"GALLEY_ACK_WAIT" envDefault:"10s"`
	// HealthAddr is where /health, /ready and /metrics are served, to anybody who can connect; empty for nowhere.
	HealthAddr string `env:"GALLEY_HEALTH_ADDR"`
}

const minAckWait = time.Second

// Validate joins everything that is wrong.
func (s Settings) Validate() error {
	var problems []error
	switch s.Durability {
	case DurabilityProcess, DurabilityDisk, DurabilityCluster:
	default:
		problems = append(problems, fmt.Errorf("GALLEY_DURABILITY is %q: must be process, disk or cluster", s.Durability))
	}
	if s.AckWait < minAckWait {
		problems = append(problems, fmt.Errorf("GALLEY_ACK_WAIT is %v: must be at least %v", s.AckWait, minAckWait))
	}
	if _, err := zerolog.ParseLevel(s.LogLevel); err != nil || s.LogLevel == "" {
		problems = append(problems, fmt.Errorf("GALLEY_LOG_LEVEL is %q: must be trace, debug, info, warn or error", s.LogLevel))
	}
	return errors.Join(append(problems, s.Bus().Validate())...)
}

// Bus gives the settings of the streams.
func (s Settings) Bus() bus.Settings {
	settings := bus.Settings{Replicas: 1, JournalRetention: s.JournalRetention}
	if s.Durability == DurabilityCluster {
		settings.Replicas = clusterReplicas
	}
	return settings
}

// Deps is what a service is given.
type Deps struct {
	Bus *bus.Bus
	// DatabaseURL is empty for a service without a schema.
	DatabaseURL string
	AckWait     time.Duration
	Logger      zerolog.Logger
	Clock       clock.Clock
	// Metrics is where the service's collectors are registered; nil where nobody looks at them.
	Metrics prometheus.Registerer
}

// Register has the service's numbers collected.
func (d Deps) Register(collectors ...prometheus.Collector) error {
	if d.Metrics == nil {
		return nil
	}
	for _, collector := range collectors {
		if err := d.Metrics.Register(collector); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

// RequireDatabase is for services that have a schema: it is a usage error when there is no database.
func (d Deps) RequireDatabase() error {
	if d.DatabaseURL == "" {
		return lifecycle.Usage(errors.New("GALLEY_DATABASE_URL is not set: the URL of a Postgres database"))
	}
	return nil
}

// Service is a long-lived service. Run blocks until ctx ends, drains and returns nil, and may be called once.
type Service interface {
	Run(ctx context.Context) error
	// Checks are the service's dependencies, for its readiness.
	Checks() []health.Check
}

// Run runs a service together with the answers about its readiness on NATS.
func Run(ctx context.Context, name string, service Service, deps Deps) error {
	if err := deps.Register(deps.Bus); err != nil {
		return err
	}
	return lifecycle.Run(ctx,
		service.Run,
		func(ctx context.Context) error { return bus.AnswerReady(ctx, deps.Bus, name, service.Checks()) },
	)
}

// settings joins what every process reads with what one service reads.
type settings[C config.Validator] struct {
	Process Settings
	Service C
}

// Validate joins everything that is wrong.
func (s *settings[C]) Validate() error {
	return errors.Join(s.Process.Validate(), s.Service.Validate())
}

// Main is the whole of a service's main function: it reads the settings, connects, builds the service and runs it until a signal.
// It returns the exit code.
func Main[C config.Validator](name string, build func(config C, deps Deps) (Service, error)) int {
	return lifecycle.Main(name, os.Stderr, func(ctx context.Context) error {
		var all settings[C]
		if err := config.Load(&all, os.Environ()); err != nil {
			return lifecycle.Usage(err)
		}
		TuneMemory(os.Environ(), ShareAlone)
		logger := Logger(os.Stderr, name, all.Process.LogLevel)
		conn, err := bus.Connect(all.Process.NATSURL, "galley-"+name)
		if err != nil {
			return err
		}
		defer conn.Close()
		messages, err := bus.New(conn, all.Process.Bus(), logger)
		if err != nil {
			return err
		}
		registry := metric.NewRegistry()
		deps := Deps{
			Bus: messages, DatabaseURL: all.Process.DatabaseURL, AckWait: all.Process.AckWait, Logger: logger, Clock: clock.System,
			Metrics: metric.OfService(registry, name),
		}
		service, err := build(all.Service, deps)
		if err != nil {
			return err
		}
		return lifecycle.Run(ctx,
			func(ctx context.Context) error { return Run(ctx, name, service, deps) },
			func(ctx context.Context) error {
				if all.Process.HealthAddr == "" {
					return nil
				}
				return health.Serve(ctx, all.Process.HealthAddr, service.Checks(), metric.Handler(registry, logger))
			},
		)
	})
}

// Logger makes a service's logger. An unknown level is taken for info.
func Logger(out io.Writer, service, level string) zerolog.Logger {
	parsed, err := zerolog.ParseLevel(level)
	if err != nil {
		parsed = zerolog.InfoLevel
	}
	return zerolog.New(out).Level(parsed).With().Timestamp().Str("service", service).Logger()
}
