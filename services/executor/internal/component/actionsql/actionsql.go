// Package actionsql runs action.sql: one statement in a customer's Postgres.
//
// Recipe authors are not trusted, nor are the servers that they name. The address comes from the recipe alone and is checked by the
// guard; nothing of the executor's own environment (PG* variables, password and service files, certificates, sockets) is used. Each call
// has a connection of its own: what a statement leaves in a session reaches no other one.
package actionsql

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

const (
	defaultRows = 100
	maxRows     = 1000
	// maxBytes is the most that the values of an answer have together, as Postgres writes them.
	maxBytes = 512 << 10
)

// neutral is a connection string that overrides everything that pgconn reads from the environment and from files; what it cannot
// override is replaced in the configuration that it gives.
const neutral = "host=galley.invalid port=5432 user=galley password=none dbname=none application_name=galley connect_timeout=0 " +
	"passfile=/dev/null servicefile=/dev/null sslmode=disable sslcert='' sslkey='' sslrootcert='' sslpassword='' sslcertmode=disable " +
	"sslnegotiation=postgres sslsni=1 target_session_attrs=any min_protocol_version=3.0 max_protocol_version=3.0 channel_binding=prefer " +
	"require_auth=''"

// Component is action.sql.
type Component struct {
	network *outbound.Network
	// base is what every connection's configuration is made of; pgconn takes no other. baseErr says why there is none.
	base    *pgconn.Config
	baseErr error
}

// New makes the component. With PGSERVICE in the environment every step fails: pgconn insists on reading the service.
func New(network *outbound.Network) *Component {
	base, err := pgconn.ParseConfig(neutral)
	if err != nil {
		err = fmt.Errorf("prepare for action.sql, which works without PGSERVICE in the environment only: %w", err)
	}
	return &Component{network: network, base: base, baseErr: err}
}

type settings struct {
	DSN      string `json:"dsn"`
	Query    string `json:"query"`
	Params   []any  `json:"params"`
	ReadOnly *bool  `json:"read_only"`
	MaxRows  *int   `json:"max_rows"`
}

func (s *settings) readOnly() bool { return s.ReadOnly == nil || *s.ReadOnly }

func (s *settings) rows() int {
	if s.MaxRows == nil {
		return defaultRows
	}
	return min(max(*s.MaxRows, 1), maxRows)
}

// Execute runs the statement in a transaction of its own.
func (c *Component) Execute(ctx context.Context, call *component.Call) (component.Result, error) {
	if c.baseErr != nil {
		return component.Result{}, c.baseErr
	}
	input, err := component.Input[settings](call)
	if err != nil {
		return component.Result{}, component.Failure(problem.ComponentError, "the input is not that of action.sql")
	}
	database, err := parseDSN(input.DSN)
	if err != nil {
		return component.Result{}, err
	}
	if err := checkQuery(input.Query); err != nil {
		return component.Result{}, err
	}
	var output map[string]any
	var failure error
	err = c.network.Through(call.Outbound(), database.address(), func() error {
		output, failure = c.run(ctx, database, &input)
		if isContention(failure) {
			return nil // the database works: other transactions were in the way
		}
		return failure
	})
	if err = cmp.Or(err, failure); err != nil {
		return component.Result{}, err
	}
	return component.Result{Output: output}, nil
}
