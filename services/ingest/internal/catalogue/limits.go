package catalogue

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/pkg/postgres"
)

// MaxConcurrency is the highest limit of a customer's executions under way at the same time.
const MaxConcurrency = 1000

// Limits are what the operator allows a customer.
type Limits struct {
	// MaxConcurrency is how many executions may be under way at the same time, from 1 to 1000; nil for no limit.
	MaxConcurrency *int `json:"max_concurrency"`
}

// SetLimits replaces a customer's limits. They are pinned by executions that are accepted afterwards.
func (c *Catalogue) SetLimits(ctx context.Context, customer string, limits Limits, author Author) error {
	var found rules
	found.id("/customer_id", customer)
	most := limits.MaxConcurrency
	found.require(most == nil || *most >= 1 && *most <= MaxConcurrency, "/max_concurrency", fmt.Sprintf("must be from 1 to %d, or null", MaxConcurrency))
	if err := found.err(); err != nil {
		return err
	}
	err := postgres.Transact(ctx, c.pool, customer, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE ingest.customers SET max_concurrency = $2 WHERE customer_id = $1`, customer, most)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return notFound("there is no customer %q", customer)
		}
		return c.record(ctx, tx, customer, resourceCustomer, "updated", customer, map[string]any{"max_concurrency": most}, author)
	})
	if err != nil {
		return failure("set limits", err)
	}
	c.forget(customer, resourceCustomer)
	c.outbox.Wake()
	return nil
}

// settings are what executions pin of their customer.
type settings struct {
	vars map[string]any
	// maxConcurrency is 0 for no limit.
	maxConcurrency int
}

// settingsOf gives a customer's settings, normally from memory.
func (c *Catalogue) settingsOf(ctx context.Context, customer string) (settings, error) {
	return c.settings.get(ctx, customer, func(ctx context.Context) (settings, error) { return c.readSettings(ctx, customer) })
}

func (c *Catalogue) readSettings(ctx context.Context, customer string) (settings, error) {
	var found settings
	err := postgres.Query(ctx, c.pool, customer, func(batch *pgx.Batch) {
		batch.Queue(`SELECT vars, coalesce(max_concurrency, 0) FROM ingest.customers WHERE customer_id = $1`, customer).
			QueryRow(func(row pgx.Row) error { return row.Scan(&found.vars, &found.maxConcurrency) })
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return settings{}, notFound("there is no customer %q", customer)
	}
	if err != nil {
		return settings{}, failure("read settings", err)
	}
	return found, nil
}
