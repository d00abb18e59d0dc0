package query

import (
	"time"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
)

// ReconciliationRequest asks for the last reconciliation.
type ReconciliationRequest struct{}

// MaxDifferences is how many differences a ReconciliationReply lists.
const MaxDifferences = 100

// ReconciliationReply is what the last reconciliation compared and found.
type ReconciliationReply struct {
	// EndedAt is absent when there has been none yet; the rest is empty then.
	EndedAt *time.Time `json:"ended_at,omitempty"`
	// OK tells that there was no difference.
	OK bool `json:"ok"`
	// Accounts, Charges and Transactions were compared with one another, Events of the journal and open Debits with the charges.
	Accounts     int64 `json:"accounts"`
	Charges      int64 `json:"charges"`
	Transactions int64 `json:"transactions"`
	Events       int64 `json:"events"`
	Debits       int64 `json:"debits"`
	// Found is how many differences there were, Settled how many executions were settled because of them. Differences are the first
	// ones, a line each.
	Found       int64    `json:"found"`
	Settled     int64    `json:"settled"`
	Differences []string `json:"differences"`
}

// MaxOutcomes is how many executions an OutcomesRequest may name.
const MaxOutcomes = 500

// OutcomesRequest asks how executions stand that the journal may have forgotten.
type OutcomesRequest struct {
	Executions []ExecutionKey `json:"executions"`
}

// ExecutionKey names an execution of a customer.
type ExecutionKey struct {
	CustomerID  string `json:"customer_id"`
	ExecutionID string `json:"execution_id"`
}

// OutcomesReply has an Outcome for every execution that is known, in no order.
type OutcomesReply struct {
	Outcomes []Outcome `json:"outcomes"`
}

// Outcome is how an execution stands. Charged is what it cost, once Status is terminal.
type Outcome struct {
	ExecutionKey
	Status  event.Status `json:"status"`
	Charged credit.Micro `json:"charged"`
}
