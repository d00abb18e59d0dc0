package executor

import (
	"errors"
	"fmt"

	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/pkg/secret"
)

const maxConcurrency = 4096

// Config holds the settings that only the executor has.
type Config struct {
	// Concurrency is the number of executions that run at the same time in this process.
	Concurrency int `env:"GALLEY_CONCURRENCY" envDefault:"256"`
	// AllowedHosts are the host:port pairs outside the public internet that steps may call, such as 127.0.0.1:8001.
	AllowedHosts []string `env:"GALLEY_ALLOWED_HOSTS"`
	// SecretsKey holds the keys of customers' secrets as secret.ParseKeys reads them, the same ones as ingest has.
	SecretsKey string `env:"GALLEY_SECRETS_KEY"`
	Accounts
}

// Validate joins everything that is wrong.
func (c Config) Validate() error {
	var problems []error
	if c.Concurrency < 1 || c.Concurrency > maxConcurrency {
		problems = append(problems, fmt.Errorf("GALLEY_CONCURRENCY is %d: must be from 1 to %d", c.Concurrency, maxConcurrency))
	}
	if err := outbound.AllowedHosts(c.AllowedHosts).Validate(); err != nil {
		problems = append(problems, fmt.Errorf("GALLEY_ALLOWED_HOSTS: %w", err))
	}
	if _, err := secret.ParseKeys(c.SecretsKey); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(append(problems, c.problems()...)...)
}
