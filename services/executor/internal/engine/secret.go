package engine

import (
	"errors"

	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/secret"
)

// redact takes the texts of secrets out of what comes back from outside.
func redact(value any, secrets map[string]any) any {
	return secret.Redact(value, secrets)
}

// redacted takes the texts of secrets out of a failure.
func redacted(err error, secrets map[string]any) error {
	failed, ok := errors.AsType[*problem.Error](err)
	if !ok || len(secrets) == 0 {
		return err
	}
	copied := *failed
	copied.Message = secret.RedactText(failed.Message, secrets)
	return &copied
}
