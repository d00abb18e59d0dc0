package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/galley-engine/galley/schemas/query"
)

// Subscription gets a customer's subscription.
func (c *Client) Subscription(ctx context.Context, customer string) (query.SubscriptionReply, error) {
	return call[query.SubscriptionReply](ctx, c, request{method: http.MethodGet, path: subscriptionPath(customer)})
}

// Terms are what a subscription is to be. What is zero is left to the server.
type Terms struct {
	Plan     string                   `json:"plan"`
	Status   query.SubscriptionStatus `json:"status,omitempty"`
	Features []string                 `json:"features,omitempty"`
	Version  int                      `json:"version,omitempty"`
	Start    *time.Time               `json:"start,omitempty"`
	Anchor   int                      `json:"anchor_day,omitempty"`
	TimeZone string                   `json:"time_zone,omitempty"`
}

// Subscribe replaces a customer's subscription (operator).
func (c *Client) Subscribe(ctx context.Context, customer string, terms Terms) (query.SubscriptionReply, error) {
	return call[query.SubscriptionReply](ctx, c, request{method: http.MethodPut, path: subscriptionPath(customer), body: terms})
}

// CancelSubscription ends a customer's subscription, with its period or at once (operator).
func (c *Client) CancelSubscription(ctx context.Context, customer string, atOnce bool) (query.SubscriptionReply, error) {
	at := "period_end"
	if atOnce {
		at = "now"
	}
	return call[query.SubscriptionReply](ctx, c, request{
		method: http.MethodPost, path: subscriptionPath(customer) + "/cancel", body: map[string]string{"at": at},
	})
}

func subscriptionPath(customer string) string {
	return api + "/customers/" + url.PathEscape(customer) + "/subscription"
}
