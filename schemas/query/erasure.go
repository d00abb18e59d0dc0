package query

import "github.com/galley-engine/galley/schemas/event"

// AuditErase (audit): AuditErasureRequest to AuditErasureReply. Idempotent: what is erased is erased.
const AuditErase = "erase"

// MaxErasedEvents is how many event ids one request may name.
const MaxErasedEvents = 200

// AuditErasureRequest has the payloads of a customer's rows erased: salt and data, so that nobody can tell any more what the leaf's digest is
// of. The leaves stay. It names events, or a resource, or an actor.
type AuditErasureRequest struct {
	CustomerID string `json:"customer_id"`

	EventIDs     []string `json:"event_ids,omitempty"`
	ResourceType string   `json:"resource_type,omitempty"`
	ResourceID   string   `json:"resource_id,omitempty"`
	ActorID      string   `json:"actor_id,omitempty"`

	// After is the Next of the reply before, 0 at first.
	After int64 `json:"after,omitempty"`
	// Actor is who asks for it.
	Actor event.Actor `json:"actor"`
}

// AuditErasureReply says what this request has erased. Rows are erased in bounded batches: Next is the After of the next one, 0 at the end.
type AuditErasureReply struct {
	Erased int64 `json:"erased"`
	Next   int64 `json:"next,omitempty"`
}
