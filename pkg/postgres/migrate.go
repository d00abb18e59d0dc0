package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // goose speaks database/sql
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/galley-engine/galley/pkg/lifecycle"
)

// Schema is one service's part of the database.
type Schema struct {
	// Name is the name of the schema and of the service.
	Name string
	// Roles are created without login before the migrations run, and granted to the migrating user.
	Roles []string
	// Migrations holds goose's SQL files at its top level.
	Migrations fs.FS
	// LockID keeps two processes from migrating the same schema at once. It differs between services.
	LockID int64
}

const (
	lockPeriod  = 200 * time.Millisecond
	lockTries   = 300
	roleTries   = 20
	createRole  = `DO $$ BEGIN CREATE ROLE %s NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`
	memberQuery = `SELECT pg_has_role(current_user, $1, 'MEMBER')`
)

// Migrate brings the schema up to date. It is safe to call from several processes at once.
func Migrate(ctx context.Context, url string, schema Schema) error {
	if err := prepare(ctx, url, schema); err != nil {
		return fmt.Errorf("prepare schema %s: %w", schema.Name, err)
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	defer func() { _ = db.Close() }()
	locker, err := lock.NewPostgresSessionLocker(
		lock.WithLockID(schema.LockID), lock.WithLockTimeout(1, lockTries))
	if err != nil {
		return fmt.Errorf("make migration lock: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, schema.Migrations,
		goose.WithSessionLocker(locker), goose.WithTableName(schema.Name+".schema_migrations"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read migrations of %s: %w", schema.Name, err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate schema %s: %w", schema.Name, err)
	}
	return nil
}

// prepare makes what the migrations build on. Roles belong to the whole cluster, beyond any lock of one database: another
// database's migration may make the same role at the same moment, which Postgres reports as an internal error.
func prepare(ctx context.Context, url string, schema Schema) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, role := range schema.Roles {
		if err := ensureRole(ctx, conn, role); err != nil {
			return fmt.Errorf("role %s: %w", role, err)
		}
	}
	_, err = conn.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+pgx.Identifier{schema.Name}.Sanitize())
	if code := sqlState(err); code == "23505" || code == "42P06" {
		return nil
	}
	return err
}

func ensureRole(ctx context.Context, conn *pgx.Conn, role string) error {
	name := pgx.Identifier{role}.Sanitize()
	for try := 1; ; try++ {
		_, err := conn.Exec(ctx, fmt.Sprintf(createRole, name))
		var member bool
		if err == nil {
			err = conn.QueryRow(ctx, memberQuery, role).Scan(&member)
		}
		if err == nil && !member {
			_, err = conn.Exec(ctx, `GRANT `+name+` TO CURRENT_USER`)
		}
		concurrent := sqlState(err) == "XX000" || sqlState(err) == "23505"
		if err == nil || !concurrent || try == roleTries || !lifecycle.Sleep(ctx, lockPeriod/10) {
			return err
		}
	}
}

func sqlState(err error) string {
	if failure, ok := errors.AsType[*pgconn.PgError](err); ok {
		return failure.Code
	}
	return ""
}
