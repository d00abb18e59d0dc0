package query

import (
	"time"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
)

// SubscriptionStatus is how a customer's subscription stands.
type SubscriptionStatus string

const (
	// SubscriptionNone: the customer has never had a subscription.
	SubscriptionNone SubscriptionStatus = "none"
	// SubscriptionActive: the customer has what the plan and the features say.
	SubscriptionActive SubscriptionStatus = "active"
	// SubscriptionCancelled: the customer has it no longer.
	SubscriptionCancelled SubscriptionStatus = "cancelled"
)

// SubscriptionRequest asks for a customer's subscription.
type SubscriptionRequest struct {
	CustomerID string `json:"customer_id"`
}

// SubscriptionReply is a customer's subscription, with the balance of the same moment.
type SubscriptionReply struct {
	CustomerID string `json:"customer_id"`
	// Plan is empty when there is no subscription.
	Plan     string             `json:"plan"`
	Status   SubscriptionStatus `json:"status"`
	Features []string           `json:"features"`
	Balance  credit.Micro       `json:"balance"`
	// UpdatedAt is when the subscription was last changed, absent when there is none.
	UpdatedAt *time.Time `json:"updated_at,omitempty"`
	// SubscriptionTerm is absent for a plan that is not published: such a subscription is a note from which nothing follows.
	*SubscriptionTerm
}

// SubscriptionTerm is what a subscription to a published plan has.
type SubscriptionTerm struct {
	// Version is that of the plan.
	Version int `json:"version" required:"false"`
	// Period is the one that goes on, or the last one when the subscription is cancelled.
	Period   SubscriptionPeriod `json:"period" required:"false"`
	Anchor   int                `json:"anchor_day" required:"false"`
	TimeZone string             `json:"time_zone" required:"false"`
	// Next is what happens at the end of the period, absent when the subscription is renewed as it is.
	Next *SubscriptionChange `json:"next_change,omitempty"`
}

// SubscriptionPeriod is a time in which the credits of one month are given: from Start until just before End.
type SubscriptionPeriod struct {
	// Subscription counts those that the customer has had, Number the periods of this one, both from 1.
	Subscription int       `json:"subscription"`
	Number       int       `json:"number"`
	Start        time.Time `json:"start"`
	End          time.Time `json:"end"`
}

// SubscriptionChange is what happens at a time: a change to another plan, or the end.
type SubscriptionChange struct {
	At     time.Time          `json:"at"`
	Status SubscriptionStatus `json:"status"`
	// Plan and Version are empty when the subscription ends.
	Plan    string `json:"plan,omitempty"`
	Version int    `json:"version,omitempty"`
}

// SubscribeRequest says what a customer's subscription is to be.
type SubscribeRequest struct {
	CustomerID string `json:"customer_id"`
	Plan       string `json:"plan"`
	// Status and Features are for a plan that is not published. Status is active or cancelled.
	Status   SubscriptionStatus `json:"status"`
	Features []string           `json:"features"`
	// Version is that of a published plan, the newest one when it is 0.
	Version int `json:"version,omitempty"`
	// Start, Anchor and TimeZone are for a subscription that begins: now, with the day that it is, in UTC, where they are empty.
	Start    *time.Time  `json:"start,omitempty"`
	Anchor   int         `json:"anchor_day,omitempty"`
	TimeZone string      `json:"time_zone,omitempty"`
	Actor    event.Actor `json:"actor"`
}

// CancelSubscriptionRequest ends a customer's subscription, at the end of its period or at once.
type CancelSubscriptionRequest struct {
	CustomerID string      `json:"customer_id"`
	AtOnce     bool        `json:"at_once,omitempty"`
	Actor      event.Actor `json:"actor"`
}
