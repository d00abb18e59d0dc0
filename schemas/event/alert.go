package event

import (
	"time"

	"github.com/galley-engine/galley/schemas/credit"
)

// AlertKind is the last token of a billing subject: what a customer is told of the balance.
type AlertKind string

const (
	// AlertLowBalance: the balance has fallen below the threshold that was set for it.
	AlertLowBalance AlertKind = "low_balance"
	// AlertExhausted: a debit was refused for lack of credits, or nothing is left for one.
	AlertExhausted AlertKind = "exhausted"
)

// Type is the CloudEvents type of the alert.
func (k AlertKind) Type() string {
	return "dev.galley.billing." + string(k) + ".v1"
}

// Alert says how the balance stood. It is told once, until a grant has brought the balance back. Data of low_balance and exhausted.
type Alert struct {
	CustomerID string       `json:"customer_id"`
	Balance    credit.Micro `json:"balance"`
	// Overdraft is how far debits may bring the balance below 0.
	Overdraft credit.Micro `json:"overdraft"`
	// Threshold is absent when none is set.
	Threshold  *credit.Micro `json:"threshold,omitempty"`
	OccurredAt time.Time     `json:"occurred_at"`
}
