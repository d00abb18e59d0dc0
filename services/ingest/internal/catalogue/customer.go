package catalogue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
)

const (
	maxName        = 200
	maxDescription = 2000
	maxVars        = 32 << 10

	// memberVars is what the settings are called in activities.
	memberVars = "vars"
)

// Customer is a tenant.
type Customer struct {
	CustomerID string `json:"customer_id"`
	Name       string `json:"name"`
	// Vars are the settings that recipes read as vars.<name>: a JSON object.
	Vars      json.RawMessage `json:"vars"`
	CreatedAt time.Time       `json:"created_at"`
}

func (c *Customer) validate() error {
	var found rules
	found.id("/customer_id", c.CustomerID)
	found.text("/name", c.Name, maxName)
	found.vars("/vars", c.Vars)
	return found.err()
}

// vars checks settings. Their values may hold anything; their names are those that an expression can spell.
func (r *rules) vars(path string, vars json.RawMessage) {
	r.require(len(vars) <= maxVars, path, fmt.Sprintf("must have at most %d bytes", maxVars))
	var names map[string]json.RawMessage
	if err := json.Unmarshal(vars, &names); err != nil || names == nil {
		r.require(false, path, "must be an object")
		return
	}
	escape := strings.NewReplacer("~", "~0", "/", "~1") // RFC 6901
	for _, name := range slices.Sorted(maps.Keys(names)) {
		r.require(isName(name), path+"/"+escape.Replace(name), "a name must match [A-Za-z_][A-Za-z0-9_]{0,63}")
	}
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// CreateCustomer makes a customer with a first API key, whose text is given here and never again. A customer that exists is a
// CONFLICT.
func (c *Catalogue) CreateCustomer(ctx context.Context, customer Customer, author Author) (Customer, IssuedKey, error) {
	if len(customer.Vars) == 0 {
		customer.Vars = json.RawMessage("{}")
	}
	if err := customer.validate(); err != nil {
		return Customer{}, IssuedKey{}, err
	}
	customer.CreatedAt = c.clock()
	var key IssuedKey
	err := postgres.Transact(ctx, c.pool, customer.CustomerID, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO ingest.customers (customer_id, name, vars, created_at) VALUES ($1, $2, $3, $4)`,
			customer.CustomerID, customer.Name, customer.Vars, customer.CreatedAt)
		if sqlState(err) == stateUnique {
			return conflict("customer %q exists already", customer.CustomerID)
		}
		if err != nil {
			return err
		}
		err = c.record(ctx, tx, activity.Entry{
			Customer: customer.CustomerID, Action: event.ActionCustomerCreated, ResourceID: customer.CustomerID, Author: author,
			After: map[string]any{"name": customer.Name, memberVars: customer.Vars}, Secret: []string{memberVars},
		})
		if err != nil {
			return err
		}
		key, err = c.issueKey(ctx, tx, customer.CustomerID, "first key", author)
		return err
	})
	if err != nil {
		return Customer{}, IssuedKey{}, failure("create customer", err)
	}
	c.forget(customer.CustomerID, resourceCustomer)
	c.outbox.Wake()
	return customer, key, nil
}

// SetVars replaces a customer's settings. Executions that are accepted afterwards see the new ones.
func (c *Catalogue) SetVars(ctx context.Context, customer string, vars json.RawMessage, author Author) error {
	var found rules
	found.id("/customer_id", customer)
	found.vars("", vars)
	if err := found.err(); err != nil {
		return err
	}
	err := postgres.Transact(ctx, c.pool, customer, func(tx pgx.Tx) error {
		var before json.RawMessage
		err := tx.QueryRow(ctx, `SELECT vars FROM ingest.customers WHERE customer_id = $1 FOR NO KEY UPDATE`, customer).Scan(&before)
		if errors.Is(err, pgx.ErrNoRows) {
			return notFound("there is no customer %q", customer)
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE ingest.customers SET vars = $2 WHERE customer_id = $1`, customer, vars); err != nil {
			return err
		}
		// Values stay out of the audit log: they are the customer's to change and to remove.
		return c.record(ctx, tx, activity.Entry{
			Customer: customer, Action: event.ActionCustomerUpdated, ResourceID: customer, Author: author, Secret: []string{memberVars},
			Before: map[string]any{memberVars: before}, After: map[string]any{memberVars: vars},
		})
	})
	if err != nil {
		return failure("set vars", err)
	}
	c.forget(customer, resourceCustomer)
	c.outbox.Wake()
	return nil
}

// RequireCustomer is NOT_FOUND when there is no such customer.
func (c *Catalogue) RequireCustomer(ctx context.Context, customer string) error {
	_, err := c.settingsOf(ctx, customer)
	return err
}
