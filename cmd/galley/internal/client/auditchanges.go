package client

import (
	"context"
	"net/http"

	"github.com/galley-engine/galley/schemas/query"
)

// Erasure names the audit events whose payloads are to be erased: by their ids, or of a resource, or of an actor.
type Erasure struct {
	EventIDs     []string `json:"event_ids,omitempty"`
	ResourceType string   `json:"resource_type,omitempty"`
	ResourceID   string   `json:"resource_id,omitempty"`
	ActorID      string   `json:"actor_id,omitempty"`
}

// EraseAudit erases what a customer's audit events say, and gives how many had something to erase. The customer is that of the key when it is
// empty.
func (c *Client) EraseAudit(ctx context.Context, customer string, what *Erasure) (int64, error) {
	found, err := call[struct {
		Erased int64 `json:"erased"`
	}](ctx, c, request{method: http.MethodPost, path: auditPath + "/erasures", query: ofCustomer(customer), body: what})
	return found.Erased, err
}

// Webhook is where tree heads are delivered, with the secret if it is new.
type Webhook struct {
	query.AuditWebhook

	Secret string `json:"secret,omitempty"`
}

// WebhookSettings are what can be set.
type WebhookSettings struct {
	URL             string `json:"url"`
	IntervalSeconds int64  `json:"interval_seconds,omitempty"`
	NewSecret       bool   `json:"new_secret,omitempty"`
}

// SetAuditWebhook says where the customer's tree heads are delivered.
func (c *Client) SetAuditWebhook(ctx context.Context, customer string, settings *WebhookSettings) (Webhook, error) {
	return call[Webhook](ctx, c, request{method: http.MethodPut, path: auditPath + "/webhook", query: ofCustomer(customer), body: settings})
}

// AuditWebhook tells where they are delivered.
func (c *Client) AuditWebhook(ctx context.Context, customer string) (Webhook, error) {
	return call[Webhook](ctx, c, request{method: http.MethodGet, path: auditPath + "/webhook", query: ofCustomer(customer)})
}

// DeleteAuditWebhook ends the deliveries.
func (c *Client) DeleteAuditWebhook(ctx context.Context, customer string) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: auditPath + "/webhook", query: ofCustomer(customer)})
	return err
}
