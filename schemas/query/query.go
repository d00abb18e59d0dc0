// Package query holds the messages of the request-reply queries between services. A refusal is a reply with the header
// galley-error whose data is a problem.Error.
package query

import (
	"encoding/json"
	"time"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
)

// Names of the services, as used in query subjects, event sources and Postgres roles.
const (
	ServiceIngest   = "ingest"
	ServiceBilling  = "billing"
	ServiceExecutor = "executor"
	ServiceAudit    = "audit"
)

// Names of the queries: the last token of galley.query.<service>.<name>.
const (
	// Ready is answered by every service: Readiness.
	Ready = "ready"
	// Start (ingest): StartRequest to StartReply. Idempotent by Key.
	Start = "start"
	// Outcomes (ingest): OutcomesRequest to OutcomesReply.
	Outcomes = "outcomes"
	// Limits (ingest): LimitsRequest to LimitsReply.
	Limits = "limits"
	// Balance (billing): BalanceRequest to BalanceReply.
	Balance = "balance"
	// Grant (billing): GrantRequest to GrantReply. Idempotent by ID.
	Grant = "grant"
	// Overdraft (billing): OverdraftRequest to BalanceReply. Idempotent: it says what is to be.
	Overdraft = "overdraft"
	// LowBalance (billing): LowBalanceRequest to BalanceReply. Idempotent: it says what is to be.
	LowBalance = "low_balance"
	// Transactions (billing): TransactionsRequest to TransactionsReply.
	Transactions = "transactions"
	// Statement (billing): StatementRequest to StatementReply.
	Statement = "statement"
	// Reconciliation (billing): ReconciliationRequest to ReconciliationReply.
	Reconciliation = "reconciliation"
	// Subscription (billing): SubscriptionRequest to SubscriptionReply.
	Subscription = "subscription"
	// Subscribe (billing): SubscribeRequest to SubscriptionReply. Idempotent: it says what is to be.
	Subscribe = "subscribe"
	// CancelSubscription (billing): CancelSubscriptionRequest to SubscriptionReply. Idempotent: it says what is to be.
	CancelSubscription = "cancel_subscription"
	// PublishPlan (billing): PublishPlanRequest to PublishPlanReply. Idempotent by content.
	PublishPlan = "publish_plan"
	// Plans (billing): PlansRequest to PlansReply.
	Plans = "plans"
	// OnePlan (billing): PlanRequest to Plan.
	OnePlan = "plan"
	// RetirePlan (billing): RetirePlanRequest to Plan. Idempotent.
	RetirePlan = "retire_plan"
)

// Readiness tells whether a service can do its work; Checks maps each dependency to "ok" or to what is wrong.
type Readiness struct {
	Ready  bool              `json:"ready"`
	Checks map[string]string `json:"checks"`
}

// StartRequest has a step of an execution run another one. The same Key is the same execution.
type StartRequest struct {
	Key         string          `json:"key"`
	CustomerID  string          `json:"customer_id"`
	AgentID     string          `json:"agent_id"`
	RecipeID    string          `json:"recipe_id"`
	Version     int             `json:"version,omitempty"`
	Input       json.RawMessage `json:"input_data"`
	Actor       event.Actor     `json:"actor"`
	Parent      event.Parent    `json:"parent"`
	TraceParent string          `json:"trace_parent,omitempty"`
}

// StartReply names the execution.
type StartReply struct {
	ExecutionID string `json:"execution_id"`
}

// MaxLimited is how many recipes a LimitsRequest may name.
const MaxLimited = 256

// LimitsRequest asks how many executions of a customer, and of each of these recipes, may be under way at the same time.
type LimitsRequest struct {
	CustomerID string   `json:"customer_id"`
	Recipes    []Recipe `json:"recipes,omitempty"`
}

// Recipe names a recipe of a customer.
type Recipe struct {
	AgentID  string `json:"agent_id"`
	RecipeID string `json:"recipe_id"`
}

// LimitsReply is what holds now: for executions that are accepted from here on, and for those that wait for a slot.
type LimitsReply struct {
	// AsOf is a moment before it was looked up.
	AsOf time.Time `json:"as_of"`
	// MaxConcurrency is the customer's limit, its own or its plan's; 0 for none.
	MaxConcurrency int `json:"max_concurrency"`
	// Recipes are those that the customer has.
	Recipes []RecipeLimit `json:"recipes,omitempty"`
}

// RecipeLimit is the limit of a recipe's latest version.
type RecipeLimit struct {
	Recipe
	Version int `json:"version"`
	// Concurrency is 0 for no limit.
	Concurrency int `json:"concurrency"`
}

// BalanceRequest asks for a customer's balance.
type BalanceRequest struct {
	CustomerID string `json:"customer_id"`
}

// BalanceReply is a customer's balance: credits that were granted and neither burnt nor expired, less what is used of the overdraft.
type BalanceReply struct {
	CustomerID string `json:"customer_id"`
	// Posted is the sum of the ledger.
	Posted credit.Micro `json:"posted"`
	// Available is what a debit may take: Posted and the overdraft, without what is over but was not taken back yet.
	Available credit.Micro `json:"available"`
	// Overdraft is how far debits may bring the balance below 0.
	Overdraft credit.Micro `json:"overdraft"`
	// LowBalance is the balance below which the customer is told; absent for none.
	LowBalance *credit.Micro `json:"low_balance,omitempty"`
	// Waiting counts the executions that wait for credits.
	Waiting int `json:"waiting,omitempty"`
	// Grants are those of which something is left, at most MaxLots, in the order in which they are burnt.
	Grants []Lot `json:"grants"`
}

// MaxLots is how many grants a BalanceReply lists.
const MaxLots = 200

// Lot is a grant of which something is left.
type Lot struct {
	ID       string    `json:"grant_id"`
	Kind     GrantKind `json:"kind"`
	Priority int       `json:"priority"`
	// Amount is what was granted, Remaining what is left.
	Amount    credit.Micro `json:"amount"`
	Remaining credit.Micro `json:"remaining"`
	// ExpiresAt is absent for never.
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// OverdraftRequest says how far debits may bring a customer's balance below 0 from now on.
type OverdraftRequest struct {
	CustomerID string       `json:"customer_id"`
	Limit      credit.Micro `json:"limit"`
	Actor      event.Actor  `json:"actor"`
}

// LowBalanceRequest says below which balance a customer is told, from now on.
type LowBalanceRequest struct {
	CustomerID string `json:"customer_id"`
	// Threshold is absent for never.
	Threshold *credit.Micro `json:"threshold,omitempty"`
	Actor     event.Actor   `json:"actor"`
}

// GrantKind is what a grant is given for.
type GrantKind string

const (
	// GrantMonthly: what a plan gives for a period.
	GrantMonthly GrantKind = "monthly"
	// GrantTopUp: what the customer has bought, or was given as if. The default.
	GrantTopUp GrantKind = "top_up"
	// GrantPromotional: a present.
	GrantPromotional GrantKind = "promotional"
	// GrantRollover: what was left of the period before.
	GrantRollover GrantKind = "rollover"
	// GrantProration: what a change of plans within a period makes up.
	GrantProration GrantKind = "proration"
)

// Valid tells whether the kind is one of those above.
func (k GrantKind) Valid() bool {
	switch k {
	case GrantMonthly, GrantTopUp, GrantPromotional, GrantRollover, GrantProration:
		return true
	}
	return false
}

// Priorities of grants: those of a lower one are burnt first.
const (
	DefaultPriority = 50
	MaxPriority     = 100
)

// GrantRequest gives a customer credits. The same ID is the same grant, whatever else the repeated request says.
type GrantRequest struct {
	ID         string       `json:"id"`
	CustomerID string       `json:"customer_id"`
	Amount     credit.Micro `json:"amount"`
	Reason     string       `json:"reason"`
	Actor      event.Actor  `json:"actor"`
	// Kind is GrantTopUp when it is absent.
	Kind GrantKind `json:"kind,omitempty"`
	// Priority is 0 to MaxPriority, DefaultPriority when it is absent.
	Priority *int `json:"priority,omitempty"`
	// ExpiresAt is when what is left of the grant is taken back, absent for never.
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// GrantReply is the ledger row of a grant and the balance after it.
type GrantReply struct {
	Transaction Transaction  `json:"transaction"`
	Balance     BalanceReply `json:"balance"`
	// Repeated tells that the grant had been made before.
	Repeated bool `json:"repeated"`
}

// TransactionsRequest asks for ledger rows, newest first.
type TransactionsRequest struct {
	CustomerID  string `json:"customer_id"`
	ExecutionID string `json:"execution_id,omitempty"`
	// Before is the id of the last row of the previous page, 0 for the first page.
	Before int64 `json:"before,omitempty"`
	Limit  int   `json:"limit"`
}

// TransactionsReply is a page of ledger rows. Next is the Before of the next page, 0 at the end.
type TransactionsReply struct {
	Transactions []Transaction `json:"transactions"`
	Next         int64         `json:"next,omitempty"`
}

// Transaction is a row of the append-only ledger.
type Transaction struct {
	ID         int64  `json:"transaction_id"`
	CustomerID string `json:"customer_id"`
	// Kind is debit, refund, grant, expire or adjust.
	Kind string `json:"kind"`
	// Amount is signed: negative for a debit.
	Amount       credit.Micro `json:"amount"`
	BalanceAfter credit.Micro `json:"balance_after"`
	ExecutionID  string       `json:"execution_id,omitempty"`
	// GrantID is there for grant and expire.
	GrantID   string    `json:"grant_id,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}
