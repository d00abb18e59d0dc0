package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
)

// Balance gets the customer's balance.
func (c *Client) Balance(ctx context.Context) (query.BalanceReply, error) {
	return call[query.BalanceReply](ctx, c, request{method: http.MethodGet, path: api + "/credits"})
}

// Transactions lists the newest rows of the ledger, of one execution or, with "", of all.
func (c *Client) Transactions(ctx context.Context, execution string, limit int) ([]query.Transaction, error) {
	found, err := list[query.Transaction](ctx, c, "/credits/transactions", execution, limit)
	return found.Items, err
}

// Grant is an amount of credits for a customer.
type Grant struct {
	CustomerID string       `json:"customer_id"`
	Amount     credit.Micro `json:"amount"`
	Reason     string       `json:"reason,omitempty"`
	// Kind is that of a top-up, Priority the default, ExpiresAt never when they are absent.
	Kind      query.GrantKind `json:"kind,omitempty"`
	Priority  *int            `json:"priority,omitempty"`
	ExpiresAt *time.Time      `json:"expires_at,omitempty"`
}

// Grant gives a customer credits (operator). With a key, the same call again is the same grant; with "" it is another one.
func (c *Client) Grant(ctx context.Context, grant Grant, key string) (query.GrantReply, error) {
	return call[query.GrantReply](ctx, c, request{
		method: http.MethodPost, path: api + "/credits/grants", body: grant, header: idempotent(key),
	})
}

// SetOverdraft sets how far debits may bring a customer's balance below 0 (operator).
func (c *Client) SetOverdraft(ctx context.Context, customer string, limit credit.Micro) (query.BalanceReply, error) {
	return call[query.BalanceReply](ctx, c, request{
		method: http.MethodPut, path: api + "/customers/" + url.PathEscape(customer) + "/overdraft", body: map[string]any{"limit": limit},
	})
}

// SetLowBalance sets below which balance a customer is told, nil for none (operator).
func (c *Client) SetLowBalance(ctx context.Context, customer string, threshold *credit.Micro) (query.BalanceReply, error) {
	return call[query.BalanceReply](ctx, c, request{
		method: http.MethodPut, path: api + "/customers/" + url.PathEscape(customer) + "/low-balance",
		body: map[string]any{"threshold": threshold},
	})
}
