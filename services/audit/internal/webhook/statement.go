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

const columns = `url, interval_seconds, created_at, updated_at, delivered_size, delivered_at, failures, last_error, failed_at, due_at, nonce,
	key_name`

// stored is a webhook with what its secret is derived from: a random number, and the log's key of this name.
type stored struct {
	query.AuditWebhook

	nonce []byte
	key   string
}

func scan(row pgx.Row) (*stored, error) {
	hook := new(stored)
	err := row.Scan(&hook.URL, &hook.IntervalSeconds, &hook.CreatedAt, &hook.UpdatedAt, &hook.DeliveredSize, &hook.DeliveredAt, &hook.Failures,
		&hook.LastError, &hook.FailedAt, &hook.NextAttempt, &hook.nonce, &hook.key)
	for _, at := range []*time.Time{&hook.CreatedAt, &hook.UpdatedAt, hook.DeliveredAt, hook.FailedAt, &hook.NextAttempt} {
		if at != nil {
			*at = at.UTC()
		}
	}
	return hook, err
}

// lock reads the customer's webhook, nil when there is none, and keeps others from making or changing it until the transaction ends. The
// deliverer, which does neither, goes on.
func lock(ctx context.Context, tx pgx.Tx, customer string) (*stored, error) {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('audit.webhooks/' || $1, 0))`, customer); err != nil {
		return nil, fmt.Errorf("lock the row: %w", err)
	}
	hook, err := scan(tx.QueryRow(ctx, `SELECT `+columns+` FROM audit.webhooks WHERE customer_id = $1`, customer))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // there may be none
	}
	if err != nil {
		return nil, fmt.Errorf("read the row: %w", err)
	}
	return hook, nil
}

// upsert stores a webhook. One whose address has changed is tried at once, and so is one that got nothing because its secret was of another
// key; another interval counts from the last delivery.
func upsert(ctx context.Context, tx pgx.Tx, request *query.AuditWebhookSetRequest, secret *stored, now time.Time) (*stored, error) {
	const statement = `
		INSERT INTO audit.webhooks AS hook (customer_id, url, interval_seconds, nonce, key_name, created_at, updated_at, due_at)
		VALUES ($1, $2, $3, $4, $5, $6, $6, $6)
		ON CONFLICT (customer_id) DO UPDATE SET
			url = excluded.url, interval_seconds = excluded.interval_seconds, nonce = excluded.nonce, key_name = excluded.key_name,
			updated_at = excluded.updated_at, failures = 0, last_error = '', failed_at = NULL,
			due_at = CASE WHEN hook.url <> excluded.url OR hook.key_name <> excluded.key_name OR hook.delivered_at IS NULL THEN excluded.due_at
				ELSE hook.delivered_at + excluded.interval_seconds * interval '1 second' END
		RETURNING ` + columns
	hook, err := scan(tx.QueryRow(ctx, statement, request.CustomerID, request.URL, request.IntervalSeconds, secret.nonce, secret.key, now))
	if err != nil {
		return nil, fmt.Errorf("store the row: %w", err)
	}
	return hook, nil
}

// adopt takes webhooks of which it is not known under which key their secrets were shown for webhooks of this one: there is no reason to
// think that the key was ever another. Only from then on does another key show.
func adopt(ctx context.Context, pool *pgxpool.Pool, key string) error {
	if _, err := pool.Exec(ctx, `UPDATE audit.webhooks SET key_name = $1 WHERE key_name = ''`, key); err != nil {
		return fmt.Errorf("look for webhooks from before: %w", err)
	}
	return nil
}

// Figures tell how it stands with the webhooks of all customers.
type Figures struct {
	// Delivering are those whose last attempt did not fail, Failing those whose did. Withheld get nothing: their secrets are of another key.
	Delivering, Failing, Withheld int64
	// Overdue is for how long a delivery has been due at most, in seconds; the deliverer looks for them every few.
	Overdue float64
}

// Count gives the figures. The key is named, and the pool acts as the role that writes the log.
func Count(ctx context.Context, pool *pgxpool.Pool, key string, now time.Time) (Figures, error) {
	const statement = `
		SELECT count(*) FILTER (WHERE ours AND failures = 0), count(*) FILTER (WHERE ours AND failures > 0), count(*) FILTER (WHERE NOT ours),
			greatest(0, extract(epoch FROM $2::timestamptz - min(due_at) FILTER (WHERE ours AND waits)))
		FROM (
			SELECT failures, due_at, key_name IN ('', $1) AS ours, newest > 0 AND (origin <> $1 OR delivered_size < newest) AS waits
			FROM audit.webhooks, (SELECT coalesce(max(size), 0) AS newest FROM audit.tree_heads) AS signed
		) AS hook`
	var found Figures
	err := pool.QueryRow(ctx, statement, key, now).Scan(&found.Delivering, &found.Failing, &found.Withheld, &found.Overdue)
	if err != nil {
		return Figures{}, fmt.Errorf("count webhooks: %w", err)
	}
	return found, nil
}

// target is a webhook that a head is due at.
type target struct {
	Customer string
	URL      string
	Nonce    []byte
	Interval int64
	Failures int
}

// claim gives webhooks that have not got the head, may be tried, and have a secret of the log's key, and keeps them from being tried again
// until then, also when nobody can record what comes of it.
func claim(ctx context.Context, pool *pgxpool.Pool, origin string, size int64, now, until time.Time) ([]target, error) {
	const statement = `
		UPDATE audit.webhooks SET due_at = $4
		WHERE customer_id IN (
			SELECT customer_id FROM audit.webhooks
			WHERE due_at <= $3 AND (origin <> $1 OR delivered_size < $2) AND key_name IN ('', $1)
			ORDER BY due_at, customer_id LIMIT $5 FOR UPDATE SKIP LOCKED)
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
