package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Key is what can be known of an API key from outside.
type Key struct {
	KeyID     string    `json:"key_id"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
	// RevokedAt is nil for a key that is good.
	RevokedAt *time.Time `json:"revoked_at"`
}

// NewKey is an API key that was just made. It is shown once.
type NewKey struct {
	KeyID  string `json:"key_id"`
	Secret string `json:"api_key"`
}

// Keys lists the API keys of a customer, those that were revoked too (operator).
func (c *Client) Keys(ctx context.Context, customer string) ([]Key, error) {
	return all[Key](ctx, c, keysPath(customer))
}

// CreateKey makes a further key of a customer (operator).
func (c *Client) CreateKey(ctx context.Context, customer, name string) (NewKey, error) {
	return call[NewKey](ctx, c, request{method: http.MethodPost, path: keysPath(customer), body: map[string]string{"name": name}})
}

// RevokeKey makes a key good for nothing, for good (operator). One that was revoked before stays as it is.
func (c *Client) RevokeKey(ctx context.Context, customer, id string) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: keysPath(customer) + "/" + url.PathEscape(id)})
	return err
}

func keysPath(customer string) string {
	return api + "/customers/" + url.PathEscape(customer) + "/keys"
}
