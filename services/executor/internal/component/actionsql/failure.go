package actionsql

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/secret"
)

// maxText is the most of a server's message that is told.
const maxText = 300

// SQLSTATE codes that mean something to a recipe (PostgreSQL, appendix A).
const (
	stateSerialization = "40001"
	stateDeadlock      = "40P01"
	stateLocked        = "55P03"
	stateCancelled     = "57014"
	stateReadOnly      = "25006"
)

// failure says what went wrong as a *problem.Error.
func (d *database) failure(ctx context.Context, err error) error {
	var (
		known  *problem.Error
		server *pgconn.PgError
	)
	switch {
	case ctx.Err() != nil:
		return outbound.Classify(ctx.Err())
	case errors.As(err, &known):
		return known
	case errors.As(err, &server):
		return d.refusal(server)
	case errors.Is(err, errCopy):
		return component.Failure(problem.ComponentError, "COPY cannot be used: write SELECT or INSERT")
	case strings.Contains(err.Error(), "server refused TLS"): // pgconn has no type for it
		return component.Failure(problem.Connection, "the database offers no TLS; sslmode=disable in dsn goes without")
	}
	return outbound.Classify(err)
}

// refusal tells what Postgres said: the customer's own database, in words that are meant for whoever wrote the statement. Further fields,
// such as the detail, quote rows and are left out; so is whatever looks like the password, should the server repeat it.
func (d *database) refusal(server *pgconn.PgError) error {
	state := "of no known kind"
	if len(server.Code) == 5 && !strings.ContainsFunc(server.Code, func(r rune) bool { return (r < '0' || r > '9') && (r < 'A' || r > 'Z') }) {
		state = server.Code
	}
	message := fmt.Sprintf("the database answered with SQLSTATE %s: %s", state, d.clean(server.Message))
	switch {
	case state == stateCancelled:
		return component.Retryable(problem.Timeout, "%s", message)
	case state == stateSerialization, state == stateDeadlock, state == stateLocked:
		return &contention{component.Retryable(problem.Unavailable, "%s", message)}
	case strings.HasPrefix(state, "08"):
		return component.Retryable(problem.Connection, "%s", message)
	case strings.HasPrefix(state, "53"), strings.HasPrefix(state, "57P"):
		return component.Retryable(problem.Unavailable, "%s", message)
	case state == stateReadOnly:
		message += "; statements that write need read_only: false"
	}
	return component.Failure(problem.UpstreamRejected, "%s", message)
}

// clean makes one short line of a server's text, without the password.
func (d *database) clean(text string) string {
	text = secret.RedactText(validText([]byte(text)), map[string]any{"dsn": d.password})
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	if characters := []rune(text); len(characters) > maxText {
		text = string(characters[:maxText]) + "…"
	}
	return text
}

// contention is a failure that other transactions caused: the same statement may succeed, and the host is not to blame.
type contention struct{ problem *problem.Error }

// Error is the text of the problem.
func (c *contention) Error() string { return c.problem.Error() }

// Unwrap gives the problem.
func (c *contention) Unwrap() error { return c.problem }

func isContention(err error) bool {
	_, ok := errors.AsType[*contention](err)
	return ok
}
