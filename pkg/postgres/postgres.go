// Package postgres is galley's use of Postgres: pools that act as a service's role, migrations, queries limited to one customer
// by row-level security, stored stream positions, and leadership.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// PoolConfig describes a pool of connections.
type PoolConfig struct {
	// URL is a Postgres connection URL. Its user must be a member of Role.
	URL string
	// Role is the role that every connection acts as.
	Role string
	// MaxConns bounds the pool.
	MaxConns int32
	// Batch plans every statement for its actual arguments. Statements over unnest need it: a cached generic plan takes every
	// array for ten rows long.
	Batch bool
	// Settings are further run-time parameters of every connection, such as enable_seqscan.
	Settings map[string]string
}

// Open makes a pool. It connects when it is first used, so the server need not be there yet.
func Open(ctx context.Context, config PoolConfig) (*pgxpool.Pool, error) {
	parsed, err := pgxpool.ParseConfig(config.URL)
	if err != nil {
		return nil, fmt.Errorf("parse database URL: %w", err)
	}
	parsed.MaxConns = config.MaxConns
	parsed.ConnConfig.RuntimeParams["role"] = config.Role
	parsed.ConnConfig.RuntimeParams["application_name"] = config.Role
	parsed.ConnConfig.RuntimeParams["timezone"] = "UTC"
	if config.Batch {
		parsed.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_custom_plan"
	}
	maps.Copy(parsed.ConnConfig.RuntimeParams, config.Settings)
	parsed.AfterConnect = quickArrays
	pool, err := pgxpool.NewWithConfig(ctx, parsed)
	if err != nil {
		return nil, fmt.Errorf("open database pool: %w", err)
	}
	return pool, nil
}

// EveryCustomer is the value of app.customer with which the row-level security policies show all rows. It is no valid customer id,
// and only queries of the operator use it.
const EveryCustomer = "*"

const setCustomer = `SELECT set_config('app.customer', $1, true)`

// Query runs the statements that queue adds in one implicit transaction and one round trip, limited by row-level security to
// the customer's rows. Results go to the callbacks of the queued queries.
func Query(ctx context.Context, pool *pgxpool.Pool, customer string, queue func(batch *pgx.Batch)) error {
	batch := &pgx.Batch{}
	batch.Queue(setCustomer, customer)
	queue(batch)
	return pool.SendBatch(ctx, batch).Close()
}

// Transact runs do in a transaction limited by row-level security to the customer's rows.
func Transact(ctx context.Context, pool *pgxpool.Pool, customer string, do func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, setCustomer, customer); err != nil {
			return fmt.Errorf("limit to customer: %w", err)
		}
		return do(tx)
	})
}

// ErrFenced says that somebody else moved a stored position on.
var ErrFenced = errors.New("another writer moved the position on")

// Position reads a stored stream position from the table positions(name, sequence) of the schema: 0 when there is none.
func Position(ctx context.Context, pool *pgxpool.Pool, schema, name string) (uint64, error) {
	var sequence int64
	statement := `SELECT sequence FROM ` + pgx.Identifier{schema, "positions"}.Sanitize() + ` WHERE name = $1`
	err := pool.QueryRow(ctx, statement, name).Scan(&sequence)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("read position %s: %w", name, err)
	}
	return uint64(sequence), nil //nolint:gosec // sequences start at 0 and never come near 2^63
}

// Advance moves a stored position from after to sequence, in the transaction that stores the effect. It is ErrFenced when the
// position was not after. It locks the position's row, so a second writer waits here and is then fenced.
func Advance(ctx context.Context, tx pgx.Tx, schema, name string, after, sequence uint64) error {
	table := pgx.Identifier{schema, "positions"}.Sanitize()
	statement := `UPDATE ` + table + ` SET sequence = $3 WHERE name = $1 AND sequence = $2`
	if after == 0 {
		statement = `INSERT INTO ` + table + ` AS stored (name, sequence) VALUES ($1, $3)
			ON CONFLICT (name) DO UPDATE SET sequence = excluded.sequence WHERE stored.sequence = $2`
	}
	tag, err := tx.Exec(ctx, statement, name, int64(after), int64(sequence)) //nolint:gosec // see Position
	if err != nil {
		return fmt.Errorf("advance position %s: %w", name, err)
	}
	if tag.RowsAffected() != 1 {
		return fmt.Errorf("position %s after %d: %w", name, after, ErrFenced)
	}
	return nil
}
