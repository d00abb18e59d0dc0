package query

import (
	"time"

	"github.com/galley-engine/galley/schemas/credit"
)

// StatementRequest asks for the statement of a period: From, up to but not including To.
type StatementRequest struct {
	CustomerID string    `json:"customer_id"`
	From       time.Time `json:"from"`
	To         time.Time `json:"to"`
}

// StatementReply is the balance before and after a period and what happened between, in the order of the ledger: the period's rows are
// those after the last one that is older than From, up to the last one that is older than To. So one period's Closing is the next
// one's Opening, also where a clock was set back.
type StatementReply struct {
	Opening   credit.Micro `json:"opening_balance"`
	Movements []Movement   `json:"movements"`
	// Charged is what executions cost: debits less refunds.
	Charged credit.Micro `json:"credits_charged"`
	Closing credit.Micro `json:"closing_balance"`
	// AddsUp tells that Opening and the Movements make Closing. Both balances are those that stand in the ledger; neither is computed
	// from the movements.
	AddsUp bool `json:"adds_up"`
}

// Movement is the sum of the rows of a kind.
type Movement struct {
	// Kind is that of Transaction.
	Kind string `json:"kind"`
	// GrantKind is what grants were given for, empty for the other kinds.
	GrantKind GrantKind    `json:"grant_kind,omitempty"`
	Rows      int64        `json:"rows"`
	Credits   credit.Micro `json:"credits"`
}
