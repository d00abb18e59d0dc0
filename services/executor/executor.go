// Package executor is the service that runs executions: it takes funded ones from the journal, runs the steps of their recipes,
// keeps each step's outcome in the journal and ends them with the standard response. It has no database.
package executor

import (
	"context"
	"errors"
	"fmt"

	"github.com/galley-engine/galley/pkg/health"
	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/pkg/secret"
	"github.com/galley-engine/galley/services/executor/internal/catalogue"
	"github.com/galley-engine/galley/services/executor/internal/engine"
	"github.com/galley-engine/galley/services/executor/internal/outside"
	secrets "github.com/galley-engine/galley/services/executor/internal/secret"
	"github.com/galley-engine/galley/services/executor/internal/worker"
)

// Service is the executor.
type Service struct {
	deps       process.Deps
	components *components
	worker     *worker.Worker
}

// New builds the service. It connects to nothing yet.
func New(config Config, deps process.Deps) (*Service, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	recipes, err := catalogue.New(catalogue.FromJetStream(deps.Bus.JS))
	if err != nil {
		return nil, fmt.Errorf("build executor: %w", err)
	}
	components, err := newComponents(config, deps)
	if err != nil {
		return nil, fmt.Errorf("build executor: %w", err)
	}
	keys, err := secret.ParseKeys(config.SecretsKey)
	if err != nil {
		return nil, fmt.Errorf("build executor: %w", err)
	}
	values, err := secrets.New(deps.Bus.JS, keys, deps.Clock, deps.Logger)
	if err != nil {
		return nil, fmt.Errorf("build executor: %w", err)
	}
	runner := engine.New(components.Registry, outside.New(deps.Bus, values), deps.Clock, deps.Logger)
	settings := worker.Settings{Concurrency: config.Concurrency, AckWait: deps.AckWait}
	return &Service{
		deps: deps, components: components,
		worker: worker.New(settings, deps.Bus, recipes, runner, deps.Clock, deps.Logger),
	}, nil
}

// Run runs executions until ctx ends, and then up to ten seconds more for those under way.
func (s *Service) Run(ctx context.Context) error {
	if err := s.deps.Register(s.worker); err != nil {
		return errors.Join(err, s.components.close())
	}
	return errors.Join(s.worker.Run(ctx), s.components.close())
}

// Checks are the service's dependencies.
func (s *Service) Checks() []health.Check {
	return []health.Check{{Name: "nats", Probe: s.deps.Bus.Ready}}
}
