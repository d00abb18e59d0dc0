package catalogue

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/secret"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
)

// SetSecret sets a secret of a customer. Executions see it within seconds. The value goes to the bucket alone, and only sealed.
func (c *Catalogue) SetSecret(ctx context.Context, customer, name, value string, author Author) error {
	var found rules
	found.require(secret.ValidName(name), "/name", secret.ErrInvalidName.Error())
	found.require(secret.ValidValue(value), "/value", secret.ErrInvalidValue.Error())
	return c.changeSecret(ctx, activity.Entry{
		Customer: customer, Action: event.ActionSecretSet, ResourceID: name, Author: author, After: map[string]any{"value": event.Redacted},
	}, found, func(ctx context.Context) error { return c.secrets.Put(ctx, customer, name, value) })
}

// DeleteSecret forgets a secret of a customer.
func (c *Catalogue) DeleteSecret(ctx context.Context, customer, name string, author Author) error {
	var found rules
	found.require(secret.ValidName(name), "/name", secret.ErrInvalidName.Error())
	return c.changeSecret(ctx, activity.Entry{
		Customer: customer, Action: event.ActionSecretDeleted, ResourceID: name, Author: author, Before: map[string]any{"value": event.Redacted},
	}, found, func(ctx context.Context) error { return c.secrets.Delete(ctx, customer, name) })
}

// changeSecret changes the bucket while it holds the lock on the customer, so that changes of a customer's secrets and their activities
// are in the same order. What is called off between bucket and commit is done but not recorded; the caller, who was told of a
// failure, does it again.
func (c *Catalogue) changeSecret(ctx context.Context, change activity.Entry, found rules, apply func(ctx context.Context) error) error {
	found.id("/customer_id", change.Customer)
	if err := found.err(); err != nil {
		return err
	}
	if err := c.requireSecrets(); err != nil {
		return err
	}
	err := postgres.Transact(ctx, c.pool, change.Customer, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `SELECT FROM ingest.customers WHERE customer_id = $1 FOR NO KEY UPDATE`, change.Customer)
		if err != nil {
			return fmt.Errorf("lock customer: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return notFound("there is no customer %q", change.Customer)
		}
		if err := c.record(ctx, tx, change); err != nil {
			return err
		}
		return apply(ctx)
	})
	switch {
	case errors.Is(err, secret.ErrNotSet):
		return notFound("the secret %q is not set", change.ResourceID)
	case errors.Is(err, secret.ErrTooMany):
		return conflict("%s", secret.ErrTooMany)
	case err != nil:
		return failure("change secret", err)
	}
	c.outbox.Wake()
	return nil
}

// Secrets tells which secrets a customer has, by name. Nothing here gives a value.
func (c *Catalogue) Secrets(ctx context.Context, customer string) ([]secret.Info, error) {
	if err := c.requireSecrets(); err != nil {
		return nil, err
	}
	if err := c.RequireCustomer(ctx, customer); err != nil {
		return nil, err
	}
	found, err := c.secrets.List(ctx, customer)
	if err != nil {
		return nil, failure("list secrets", err)
	}
	return found, nil
}

// requireSecrets is UNAVAILABLE, for good, where no key is set.
func (c *Catalogue) requireSecrets() error {
	if c.secretKeys.None() {
		return &problem.Error{
			Code: problem.Unavailable, Message: "there are no secrets here: the operator has to set " + secret.Setting + " for ingest and executor",
		}
	}
	return nil
}
