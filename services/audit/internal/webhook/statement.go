package webhook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/schemas/query"
)

const columns = `url, interval_seconds, created_at, updated_at, delivered_size, delivered_at, failures, last_error, failed_at, due_at, nonce`

func scan(row pgx.Row, hook *query.AuditWebhook, nonce *[]byte) error {
	err := row.Scan(&hook.URL, &hook.IntervalSeconds, &hook.CreatedAt, &hook.UpdatedAt, &hook.DeliveredSize, &hook.DeliveredAt, &hook.Failures,
		&hook.LastError, &hook.FailedAt, &hook.NextAttempt, nonce)
	for _, at := range []*time.Time{&hook.CreatedAt, &hook.UpdatedAt, hook.DeliveredAt, hook.FailedAt, &hook.NextAttempt} {
		if at != nil {
			*at = at.UTC()
		}
	}
	return err
}

// lock reads the customer's webhook, nil when there is none, and keeps others from making or changing it until the transaction ends. The
// deliverer, which does neither, goes on.
func lock(ctx context.Context, tx pgx.Tx, customer string) (hook *query.AuditWebhook, nonce []byte, err error) {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('audit.webhooks/' || $1, 0))`, customer); err != nil {
		return nil, nil, fmt.Errorf("lock the row: %w", err)
	}
	hook = new(query.AuditWebhook)
	err = scan(tx.QueryRow(ctx, `SELECT `+columns+` FROM audit.webhooks WHERE customer_id = $1`, customer), hook, &nonce)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the row: %w", err)
	}
	return hook, nonce, nil
}

// upsert stores a webhook. One whose address has changed is tried at once; another interval counts from the last delivery.
func upsert(ctx context.Context, tx pgx.Tx, request *query.AuditWebhookSetRequest, nonce []byte, now time.Time) (query.AuditWebhook, error) {
	const statement = `
		INSERT INTO audit.webhooks AS hook (customer_id, url, interval_seconds, nonce, created_at, updated_at, due_at)
		VALUES ($1, $2, $3, $4, $5, $5, $5)
		ON CONFLICT (customer_id) DO UPDATE SET
			url = excluded.url, interval_seconds = excluded.interval_seconds, nonce = excluded.nonce, updated_at = excluded.updated_at,
			failures = 0, last_error = '', failed_at = NULL,
			due_at = CASE WHEN hook.url <> excluded.url OR hook.delivered_at IS NULL THEN excluded.due_at
				ELSE hook.delivered_at + excluded.interval_seconds * interval '1 second' END
		RETURNING ` + columns
	var hook query.AuditWebhook
	row := tx.QueryRow(ctx, statement, request.CustomerID, request.URL, request.IntervalSeconds, nonce, now)
	if err := scan(row, &hook, new([]byte)); err != nil {
		return query.AuditWebhook{}, fmt.Errorf("store the row: %w", err)
	}
	return hook, nil
}

// target is a webhook that a head is due at.
type target struct {
	Customer string
	URL      string
	Nonce    []byte
	Interval int64
	Failures int
}

// claim gives webhooks that have not got the head and may be tried, and keeps them from being tried again until then, also when nobody can
// record what comes of it.
func claim(ctx context.Context, pool *pgxpool.Pool, origin string, size int64, now, until time.Time) ([]target, error) {
	const statement = `
		UPDATE audit.webhooks SET due_at = $4
		WHERE customer_id IN (
			SELECT customer_id FROM audit.webhooks
			WHERE due_at <= $3 AND (origin <> $1 OR delivered_size < $2) ORDER BY due_at, customer_id LIMIT $5 FOR UPDATE SKIP LOCKED)
		RETURNING customer_id, url, nonce, interval_seconds, failures`
	rows, err := pool.Query(ctx, statement, origin, size, now, until, batch)
	if err != nil {
		return nil, fmt.Errorf("look for webhooks: %w", err)
	}
	due, err := pgx.CollectRows(rows, pgx.RowToStructByPos[target])
	if err != nil {
		return nil, fmt.Errorf("look for webhooks: %w", err)
	}
	return due, nil
}

// recordDelivery stores that a head has arrived, unless the webhook is another one by now.
func recordDelivery(ctx context.Context, pool *pgxpool.Pool, to *target, origin string, size int64, now time.Time) error {
	const statement = `
		UPDATE audit.webhooks SET origin = $4, delivered_size = $5, delivered_at = $6, failures = 0, last_error = '', failed_at = NULL,
			due_at = $6::timestamptz + interval_seconds * interval '1 second'
		WHERE customer_id = $1 AND url = $2 AND nonce = $3`
	if _, err := pool.Exec(ctx, statement, to.Customer, to.URL, to.Nonce, origin, size, now); err != nil {
		return fmt.Errorf("record a delivery to %s: %w", to.Customer, err)
	}
	return nil
}

// recordFailure stores why a head has not arrived, unless the webhook is another one by now.
func recordFailure(ctx context.Context, pool *pgxpool.Pool, to *target, reason string, now, again time.Time) error {
	const statement = `
		UPDATE audit.webhooks SET failures = failures + 1, last_error = $4, failed_at = $5, due_at = $6
		WHERE customer_id = $1 AND url = $2 AND nonce = $3`
	if _, err := pool.Exec(ctx, statement, to.Customer, to.URL, to.Nonce, reason, now, again); err != nil {
		return fmt.Errorf("record a failed delivery to %s: %w", to.Customer, err)
	}
	return nil
}
