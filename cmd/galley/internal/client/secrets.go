package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Secret is what can be known of a secret from outside.
type Secret struct {
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Secrets lists the customer's secrets by name.
func (c *Client) Secrets(ctx context.Context) ([]Secret, error) {
	found, err := call[page[Secret]](ctx, c, request{method: http.MethodGet, path: api + "/secrets"})
	return found.Items, err
}

// SetSecret sets a secret.
func (c *Client) SetSecret(ctx context.Context, name, value string) error {
	_, err := c.do(ctx, request{method: http.MethodPut, path: secretPath(name), body: map[string]string{"value": value}})
	return err
}

// DeleteSecret deletes a secret.
func (c *Client) DeleteSecret(ctx context.Context, name string) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: secretPath(name)})
	return err
}

func secretPath(name string) string { return api + "/secrets/" + url.PathEscape(name) }
