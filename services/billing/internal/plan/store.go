package plan

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/schemas/query"
)

// lock keeps two changes of a plan apart until the transaction ends. A plan that is not there yet has no row that could be locked.
func lock(ctx context.Context, tx pgx.Tx, id string) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('billing.plans/' || $1, 0))`, id); err != nil {
		return fmt.Errorf("lock plan: %w", err)
	}
	return nil
}

// versionOf finds the version that has the digest, 0 for none, and the newest version of the plan, 0 for none.
func versionOf(ctx context.Context, tx pgx.Tx, id string, digest []byte) (known, newest int, err error) {
	err = tx.QueryRow(ctx, `SELECT COALESCE(max(version) FILTER (WHERE digest = $2), 0), COALESCE(max(version), 0)
		FROM billing.plans WHERE plan_id = $1`, id, digest).Scan(&known, &newest)
	if err != nil {
		return 0, 0, fmt.Errorf("look for the version: %w", err)
	}
	return known, newest, nil
}

func isRetired(ctx context.Context, tx pgx.Tx, id string) (retired bool, err error) {
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM billing.retired_plans WHERE plan_id = $1)`, id).Scan(&retired)
	if err != nil {
		return false, fmt.Errorf("look whether the plan is retired: %w", err)
	}
	return retired, nil
}

func insert(ctx context.Context, tx pgx.Tx, id string, version int, terms, digest []byte, now time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO billing.plans (plan_id, version, terms, digest, published_at) VALUES ($1, $2, $3, $4, $5)`,
		id, version, terms, digest, now)
	if err != nil {
		return fmt.Errorf("insert version %d: %w", version, err)
	}
	return nil
}

func retire(ctx context.Context, tx pgx.Tx, id string, now time.Time) error {
	if _, err := tx.Exec(ctx, `INSERT INTO billing.retired_plans (plan_id, retired_at) VALUES ($1, $2)`, id, now); err != nil {
		return fmt.Errorf("insert retirement: %w", err)
	}
	return nil
}

const selectPlans = `SELECT plan_id, version, terms, published_at, retired_at
	FROM billing.plans LEFT JOIN billing.retired_plans USING (plan_id)`

func load(ctx context.Context, tx pgx.Tx, id string, version int) (query.Plan, error) {
	rows, err := tx.Query(ctx, selectPlans+` WHERE plan_id = $1 AND (version = $2 OR $2 = 0) ORDER BY version DESC LIMIT 1`, id, version)
	if err != nil {
		return query.Plan{}, fmt.Errorf("read plan: %w", err)
	}
	return pgx.CollectOneRow(rows, scan)
}

func newest(ctx context.Context, pool *pgxpool.Pool, after string, retired bool, limit int) ([]query.Plan, error) {
	rows, err := pool.Query(ctx, selectPlans+`
		WHERE plan_id > $1 AND version = (SELECT max(version) FROM billing.plans AS other WHERE other.plan_id = plans.plan_id)
			AND ($2 OR retired_at IS NULL)
		ORDER BY plan_id LIMIT $3`, after, retired, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}

func scan(row pgx.CollectableRow) (query.Plan, error) {
	var found query.Plan
	var terms []byte
	if err := row.Scan(&found.PlanID, &found.Version, &terms, &found.PublishedAt, &found.RetiredAt); err != nil {
		return query.Plan{}, err
	}
	if err := json.Unmarshal(terms, &found.PlanTerms); err != nil {
		return query.Plan{}, fmt.Errorf("decode terms of plan %s: %w", found.PlanID, err)
	}
	found.PublishedAt = found.PublishedAt.UTC()
	if found.RetiredAt != nil {
		*found.RetiredAt = found.RetiredAt.UTC()
	}
	return found, nil
}
