package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/galley-engine/galley/schemas/query"
)

// Subscription gets a customer's subscription.
func (c *Client) Subscription(ctx context.Context, customer string) (query.SubscriptionReply, error) {
	return call[query.SubscriptionReply](ctx, c, request{method: http.MethodGet, path: subscriptionPath(customer)})
}

// Terms are what a subscription says.
type Terms struct {
	Plan     string                   `json:"plan"`
	Status   query.SubscriptionStatus `json:"status"`
	Features []string                 `json:"features"`
}

// Subscribe replaces a customer's subscription (operator).
func (c *Client) Subscribe(ctx context.Context, customer string, terms Terms) (query.SubscriptionReply, error) {
	return call[query.SubscriptionReply](ctx, c, request{method: http.MethodPut, path: subscriptionPath(customer), body: terms})
}

func subscriptionPath(customer string) string {
	return api + "/customers/" + url.PathEscape(customer) + "/subscription"
}
