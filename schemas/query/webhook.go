package query

import (
	"time"

	"github.com/galley-engine/galley/schemas/event"
)

// Names of the queries about webhooks.
const (
	// AuditWebhookSet (audit): AuditWebhookSetRequest to AuditWebhookSetReply. Idempotent, but for a new secret: it says what is to be.
	AuditWebhookSet = "webhook_set"
	// AuditWebhookShow (audit): AuditWebhookRequest to AuditWebhook.
	AuditWebhookShow = "webhook"
	// AuditWebhookDelete (audit): AuditWebhookDeleteRequest to AuditWebhook, as it was.
	AuditWebhookDelete = "webhook_delete"
)

// Intervals between deliveries, in seconds.
const (
	DefaultWebhookInterval = 60 * 60
	MinWebhookInterval     = 60
	MaxWebhookInterval     = 30 * 24 * 60 * 60
)

// AuditWebhookRequest asks for a customer's webhook.
type AuditWebhookRequest struct {
	CustomerID string `json:"customer_id"`
}

// AuditWebhookSetRequest says where a customer wants the tree heads of the audit log delivered.
type AuditWebhookSetRequest struct {
	CustomerID string `json:"customer_id"`
	URL        string `json:"url"`
	// IntervalSeconds is DefaultWebhookInterval when it is 0.
	IntervalSeconds int64 `json:"interval_seconds,omitempty"`
	// NewSecret has a new secret made, in place of the one there is.
	NewSecret bool        `json:"new_secret,omitempty"`
	Actor     event.Actor `json:"actor"`
}

// AuditWebhookSetReply is the webhook, and its secret if that was made by the request. Nothing tells it again.
type AuditWebhookSetReply struct {
	Webhook AuditWebhook `json:"webhook"`
	Secret  string       `json:"secret,omitempty"`
}

// AuditWebhookDeleteRequest ends the deliveries.
type AuditWebhookDeleteRequest struct {
	CustomerID string      `json:"customer_id"`
	Actor      event.Actor `json:"actor"`
}

// AuditWebhook is where a customer's tree heads are delivered, and how that went.
type AuditWebhook struct {
	URL             string    `json:"url"`
	IntervalSeconds int64     `json:"interval_seconds" doc:"Heads are delivered at most once in so many seconds"`
	CreatedAt       time.Time `json:"created_at"`
	UpdatedAt       time.Time `json:"updated_at"`
	// DeliveredSize is the size of the head that was delivered last, absent with DeliveredAt when none was.
	DeliveredSize int64      `json:"delivered_size,omitempty" doc:"How many leaves the log had in the head that was delivered last"`
	DeliveredAt   *time.Time `json:"delivered_at,omitempty"`
	// Failures are those since then.
	Failures  int        `json:"failures" doc:"Attempts that have failed since the last delivery"`
	LastError string     `json:"last_error,omitempty"`
	FailedAt  *time.Time `json:"failed_at,omitempty"`
	// NextAttempt is when a head is delivered at the earliest.
	NextAttempt time.Time `json:"next_attempt_at" doc:"When a head is delivered at the earliest, provided that the log has grown"`
	// Withheld is why no head is delivered whenever that is, and what ends it; absent when heads are.
	Withheld string `json:"withheld,omitempty" doc:"Why nothing is delivered until a new secret is made; absent while all is well"`
}
