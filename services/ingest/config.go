package ingest

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/galley-engine/galley/pkg/secret"
)

const minOperatorKey = 32

// Config holds the settings of ingest alone.
type Config struct {
	// HTTPAddr is where the API listens.
	HTTPAddr string `env:"GALLEY_HTTP_ADDR" envDefault:"127.0.0.1:8000"`
	// OperatorKey is the key of the operator, who may act for every customer.
	OperatorKey string `env:"GALLEY_OPERATOR_KEY"`
	// SecretsKey holds the keys of customers' secrets as secret.ParseKeys reads them, the same ones as the executor has. Without any
	// there are no secrets.
	SecretsKey string `env:"GALLEY_SECRETS_KEY"`
}

// Validate joins everything that is wrong.
func (c Config) Validate() error {
	var problems []error
	_, port, err := net.SplitHostPort(c.HTTPAddr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		problems = append(problems, fmt.Errorf("GALLEY_HTTP_ADDR is %q: must be host:port", c.HTTPAddr))
	}
	if len(c.OperatorKey) < minOperatorKey {
		problems = append(problems, fmt.Errorf("GALLEY_OPERATOR_KEY has %d characters: must have at least %d",
			len(c.OperatorKey), minOperatorKey))
	}
	for i := range len(c.OperatorKey) {
		if c.OperatorKey[i] <= ' ' || c.OperatorKey[i] > '~' {
			problems = append(problems, errors.New("GALLEY_OPERATOR_KEY must hold printable ASCII characters without spaces"))
			break
		}
	}
	if _, err := secret.ParseKeys(c.SecretsKey); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}
