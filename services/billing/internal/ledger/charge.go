// Package ledger is the money of galley: what customers have, what an execution was debited and refunded, and the append-only
// ledger that proves it.
//
// Everything that concerns a customer happens under the lock of the customer's account row. Decisions are made in Go, in the
// order of the messages, and stored in the same transaction: see [Ledger.Apply].
package ledger

import (
	"time"

	"github.com/google/uuid"

	"github.com/galley-engine/galley/schemas/credit"
)

// Key names an execution of a customer.
type Key struct {
	Customer  string
	Execution uuid.UUID
}

// Action is what an instruction asks for.
type Action string

const (
	// Debit asks for the quoted maximum before the execution runs. What is not covered may wait: see Wait.
	Debit Action = "debit"
	// Settle says that the execution has ended, and what it costs in the end. What was debited beyond that is refunded.
	Settle Action = "settle"
)

// Instruction is what one message asks of the ledger. Amount must not be negative.
type Instruction struct {
	Key
	Action Action
	Amount credit.Micro
	// Wait is zero for a debit that is refused when it is not covered.
	Wait Wait
}

// Wait says that a debit which is not covered waits until credits come.
type Wait struct {
	// Until is when it is refused after all.
	Until time.Time
	// Place is where it stands among the others of the customer that wait: those with a lower one go first.
	Place uint64
}

// State is what was decided about an execution.
//
//	(none) ── debit, covered ──────▶ debited ── settle ──▶ settled
//	   ├───── debit, not covered ──▶ refused
//	   ├───── debit, not covered, may wait ──▶ waiting ── credits come ──▶ debited
//	   │                                          ├────── too late ──────▶ refused
//	   │                                          └────── settle ────────▶ settled
//	   └───── settle (cancelled before the debit came) ──▶ settled
type State string

const (
	// StateDebited: the quoted maximum was taken from the balance; the execution may run.
	StateDebited State = "debited"
	// StateRefused: the balance did not cover the quoted maximum. It stays refused, however often the message is delivered again.
	StateRefused State = "refused"
	// StateSettled: the execution has ended. It is never funded again.
	StateSettled State = "settled"
	// StateWaiting: the balance did not cover the quoted maximum, and the execution waits until it does, or until its time is over.
	StateWaiting State = "waiting"
)

// Charge is how an execution stands with the ledger.
type Charge struct {
	Key
	State State
	// Debited is what was taken; Charged, once it is settled, what it cost in the end.
	Debited, Charged credit.Micro
	// BalanceAfter is the customer's balance after the decision: what the debit left, or what did not cover it.
	BalanceAfter credit.Micro
	// DebitID and RefundID are the rows of the ledger, 0 where no credits moved.
	DebitID, RefundID int64
}
