package actionsql

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// maxMessage is the most that one message of a server may have, such as a row.
const maxMessage = 1 << 20

// errDialled refuses a second connection.
var errDialled = errors.New("a call has one connection")

// prepareSession makes values come in one form, whatever the server's settings, and lets the server give up when the step does.
const prepareSession = `SELECT set_config('statement_timeout', $1, true), set_config('idle_in_transaction_session_timeout', $1, true),
	set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO', true), set_config('IntervalStyle', 'iso_8601', true),
	set_config('bytea_output', 'hex', true), set_config('search_path', coalesce($2, current_setting('search_path')), true)`

// run connects, runs the statement and commits. Its error is a *problem.Error.
func (c *Component) run(ctx context.Context, database *database, input *settings) (map[string]any, error) {
	connecting := ctx
	if database.connectTimeout > 0 {
		var cancel context.CancelFunc
		connecting, cancel = context.WithTimeout(ctx, database.connectTimeout)
		defer cancel()
	}
	var link link
	conn, err := pgconn.ConnectConfig(connecting, c.configuration(database, &link))
	if err != nil {
		return nil, database.failure(ctx, link.cause(err))
	}
	defer func() {
		_ = conn.Close(context.WithoutCancel(ctx))
		_ = link.socket.Close() // else a connection that broke off is held for seconds, to part from the server in good order
		<-conn.CleanupDone()
	}()
	output, err := execute(ctx, conn, database, input)
	if err != nil {
		return nil, database.failure(ctx, link.cause(err))
	}
	return output, nil
}

// link is what pgconn uses of a connection and does not give out.
type link struct {
	socket net.Conn
	wire   wire
}

// cause puts a COPY in the place of the errors that follow from it.
func (l *link) cause(err error) error {
	if l.wire.copies.Load() {
		return errCopy
	}
	return err
}

// configuration is one for a single connection to the one address, through the guard. The connection is put into link.
func (c *Component) configuration(database *database, link *link) *pgconn.Config {
	config := c.base.Copy()
	config.Host, config.Port, config.Fallbacks = database.host, database.port, nil
	config.User, config.Password, config.Database = database.user, database.password, database.name
	config.TLSConfig = database.tls
	config.RuntimeParams = map[string]string{"application_name": database.application, "client_encoding": "UTF8"}
	config.MaxProtocolMessageBodyLen = maxMessage
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		link.wire.reader = r
		return pgproto3.NewFrontend(&link.wire, w)
	}
	// The guard resolves the name: it has to see what the author wrote.
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	config.DialFunc = func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
		if link.socket != nil { // to cancel a statement: the server does that by itself, by its statement_timeout
			return nil, errDialled
		}
		link.socket, err = c.network.Dial(ctx, "tcp", database.address())
		return link.socket, err
	}
	return config
}

// execute runs the statement in a transaction, which is over when the connection is closed without a commit.
func execute(ctx context.Context, conn *pgconn.PgConn, database *database, input *settings) (map[string]any, error) {
	if err := begin(ctx, conn, database, input.readOnly()); err != nil {
		return nil, err
	}
	statement, err := conn.Prepare(ctx, "", input.Query, nil)
	if err != nil {
		return nil, err
	}
	params, err := encodeParams(input.Params, statement.ParamOIDs)
	if err != nil {
		return nil, err
	}
	names, err := columns(statement.Fields)
	if err != nil {
		return nil, err
	}
	found := &collection{names: names, fields: statement.Fields, limit: input.rows(), rows: []any{}}
	reader := conn.ExecPrepared(ctx, "", params, nil, nil)
	for reader.NextRow() {
		if err := found.add(reader.Values()); err != nil {
			return nil, err
		}
		if found.truncated && input.readOnly() {
			return found.output(0), nil // the rest is left where it is
		}
	}
	tag, err := reader.Close()
	if _, tooLarge := errors.AsType[*pgproto3.ExceededMaxBodyLenErr](err); tooLarge {
		return nil, tooManyBytes()
	}
	if err != nil {
		return nil, err
	}
	if !input.readOnly() {
		if _, err := conn.Exec(ctx, "COMMIT").ReadAll(); err != nil {
			return nil, err
		}
	}
	return found.output(tag.RowsAffected()), nil
}

func begin(ctx context.Context, conn *pgconn.PgConn, database *database, readOnly bool) error {
	mode := "BEGIN READ WRITE"
	if readOnly {
		mode = "BEGIN READ ONLY"
	}
	timeout := "0"
	if deadline, ok := ctx.Deadline(); ok {
		left := deadline.Sub(clock.System()) // the deadline of a context is by this clock, whatever the engine's is
		timeout = strconv.FormatInt(min(max(left.Round(time.Millisecond).Milliseconds(), 1), math.MaxInt32), 10)
	}
	var searchPath []byte
	if database.searchPath != "" {
		searchPath = []byte(database.searchPath)
	}
	batch := &pgconn.Batch{}
	batch.ExecParams(mode, nil, nil, nil, nil)
	batch.ExecParams(prepareSession, [][]byte{[]byte(timeout), searchPath}, nil, nil, nil)
	_, err := conn.ExecBatch(ctx, batch).ReadAll()
	return err
}

// columns are the names of the columns, which become fields.
func columns(fields []pgconn.FieldDescription) ([]string, error) {
	names := make([]string, len(fields))
	seen := make(map[string]bool, len(fields))
	for i, field := range fields {
		names[i] = validText([]byte(field.Name))
		if seen[names[i]] {
			return nil, component.Failure(problem.ComponentError, "two columns have the same name: name them apart with AS")
		}
		seen[names[i]] = true
	}
	return names, nil
}

// collection gathers rows up to the limits.
type collection struct {
	names     []string
	fields    []pgconn.FieldDescription
	limit     int
	rows      []any
	bytes     int
	truncated bool
}

// add decodes a row, unless there are enough.
func (c *collection) add(values [][]byte) error {
	if c.truncated = len(c.rows) == c.limit; c.truncated {
		return nil
	}
	if len(values) != len(c.fields) {
		return errMisunderstood
	}
	row := make(map[string]any, len(values))
	for i, value := range values {
		c.bytes += len(value) + len(c.names[i])
		if c.bytes > maxBytes {
			return tooManyBytes()
		}
		row[c.names[i]] = decode(c.fields[i].DataTypeOID, value)
	}
	c.rows = append(c.rows, row)
	return nil
}

func tooManyBytes() error {
	return component.Failure(problem.StateTooLarge, "the rows are larger than 512 KiB: ask for less, or lower max_rows")
}

// output counts the rows, or those that were changed by a statement that gives none.
func (c *collection) output(affected int64) map[string]any {
	count := float64(len(c.rows))
	if len(c.fields) == 0 {
		count = float64(affected)
	}
	return map[string]any{"rows": c.rows, "row_count": count, "truncated": c.truncated}
}
