package catalogue

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
)

// MaxConcurrency is the highest limit of a customer's executions under way at the same time.
const MaxConcurrency = 1000

// Limits are what a customer may do.
type Limits struct {
	// MaxConcurrency is how many executions may be under way at the same time, from 1 to 1000; nil for no limit.
	MaxConcurrency *int `json:"max_concurrency"`
}

// LimitSource says whose limit holds.
type LimitSource string

const (
	// LimitOfCustomer: the operator has set it for the customer.
	LimitOfCustomer LimitSource = "customer"
	// LimitOfPlan: the customer's plan has it.
	LimitOfPlan LimitSource = "plan"
	// LimitOfNobody: there is none.
	LimitOfNobody LimitSource = "none"
)

// EffectiveLimits are the limits that hold.
type EffectiveLimits struct {
	Limits
	Source LimitSource `json:"source" enum:"customer,plan,none"`
}

// CustomerLimits are a customer's own limits, those of the customer's plan, and what follows from the two.
type CustomerLimits struct {
	Limits
	Plan      Limits          `json:"plan"`
	Effective EffectiveLimits `json:"effective"`
}

// decide makes the customer's own limit hold where there is one, for more than the plan allows or for less; else the plan's.
func (l *CustomerLimits) decide() {
	switch {
	case l.MaxConcurrency != nil:
		l.Effective = EffectiveLimits{Limits: l.Limits, Source: LimitOfCustomer}
	case l.Plan.MaxConcurrency != nil:
		l.Effective = EffectiveLimits{Limits: l.Plan, Source: LimitOfPlan}
	default:
		l.Effective.Source = LimitOfNobody
	}
}

// Limits gives what limits a customer.
func (c *Catalogue) Limits(ctx context.Context, customer string) (CustomerLimits, error) {
	found, err := c.readSettings(ctx, customer)
	return found.limits, err
}

// SetLimits replaces a customer's own limits. They are pinned by executions that are accepted afterwards, and hold for those that wait.
func (c *Catalogue) SetLimits(ctx context.Context, customer string, limits Limits, author Author) error {
	var found rules
	found.id("/customer_id", customer)
	most := limits.MaxConcurrency
	found.require(most == nil || *most >= 1 && *most <= MaxConcurrency, "/max_concurrency", fmt.Sprintf("must be from 1 to %d, or null", MaxConcurrency))
	if err := found.err(); err != nil {
		return err
	}
	err := postgres.Transact(ctx, c.pool, customer, func(tx pgx.Tx) error {
		var before Limits
		err := tx.QueryRow(ctx, `SELECT max_concurrency FROM ingest.customers WHERE customer_id = $1 FOR NO KEY UPDATE`, customer).
			Scan(&before.MaxConcurrency)
		if errors.Is(err, pgx.ErrNoRows) {
			return notFound("there is no customer %q", customer)
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE ingest.customers SET max_concurrency = $2 WHERE customer_id = $1`, customer, most); err != nil {
			return err
		}
		return c.record(ctx, tx, activity.Entry{
			Customer: customer, Action: event.ActionCustomerUpdated, ResourceID: customer, Author: author, Before: before, After: limits,
		})
	})
	if err != nil {
		return failure("set limits", err)
	}
	c.forget(customer, resourceCustomer)
	c.outbox.Wake()
	c.tellLimited(customer)
	return nil
}

// settings are what executions pin of their customer.
type settings struct {
	vars   map[string]any
	limits CustomerLimits
}

// settingsOf gives a customer's settings, normally from memory.
func (c *Catalogue) settingsOf(ctx context.Context, customer string) (settings, error) {
	return c.settings.get(ctx, customer, func(ctx context.Context) (settings, error) { return c.readSettings(ctx, customer) })
}

func (c *Catalogue) readSettings(ctx context.Context, customer string) (settings, error) {
	var found settings
	err := postgres.Query(ctx, c.pool, customer, func(batch *pgx.Batch) {
		batch.Queue(`SELECT vars, customers.max_concurrency, plan_limits.max_concurrency
			 FROM ingest.customers LEFT JOIN ingest.plan_limits ON plan_limits.customer_id = customers.customer_id
			 WHERE customers.customer_id = $1`, customer).
			QueryRow(func(row pgx.Row) error {
				return row.Scan(&found.vars, &found.limits.MaxConcurrency, &found.limits.Plan.MaxConcurrency)
			})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return settings{}, notFound("there is no customer %q", customer)
	}
	if err != nil {
		return settings{}, failure("read settings", err)
	}
	found.limits.decide()
	return found, nil
}
