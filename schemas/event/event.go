// Package event holds the events of galley: CloudEvents 1.0 in NATS binary mode, attributes in ce- headers, the data always JSON. What a
// consumer filters, counts or bills by is repeated in headers, so that no consumer has to decode data that it only passes on.
package event

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/problem"
)

// Kind is the last token of a journal subject: what happened to the execution.
type Kind string

const (
	// Accepted opens the journal. Data: Request. Appended by ingest.
	Accepted Kind = "accepted"
	// Funded says that the quoted maximum was debited. Data: Funding. Appended by billing.
	Funded Kind = "funded"
	// Started fences an earlier worker: before the first effect outside the process, and when an execution is taken over or woken. Data:
	// Checkpoint. Appended by the executor.
	Started Kind = "started"
	// Step is a durable checkpoint. Data: Checkpoint. Appended by the executor.
	Step Kind = "step"
	// Waiting says that nobody works on the execution until it is woken. Data: Checkpoint. Appended by the executor; and, before funded, by
	// billing, with the number WaitingForCredits: then the execution waits until the balance covers it.
	Waiting Kind = "waiting"
	// Completed ends the journal, exactly once. Data: Response. Appended by whoever ends the execution.
	Completed Kind = "completed"
)

// WaitingForCredits stands in the place of the number of a waiting event that billing appends.
const WaitingForCredits = "credits"

// Type is the CloudEvents type of the journal event.
func (k Kind) Type() string {
	return "dev.galley.execution." + string(k) + ".v1"
}

// HasCheckpoint tells whether the event's data is a Checkpoint.
func (k Kind) HasCheckpoint() bool {
	return k == Started || k == Step || k == Waiting
}

// CloudEvents types outside the journal.
const (
	TypeRunRequested = "dev.galley.run.requested.v1"
	TypeRunRejected  = "dev.galley.run.rejected.v1"
	TypeActivity     = "dev.galley.activity.v1"
)

// Headers of every event (CloudEvents 1.0 attributes, its distributed-tracing extension under its W3C name).
const (
	HeaderSpecVersion = "ce-specversion"
	HeaderID          = "ce-id"
	HeaderType        = "ce-type"
	HeaderSource      = "ce-source"
	HeaderTime        = "ce-time"
	HeaderTraceParent = "traceparent"
)

// MaxHeaders is how many headers an event may have, those that guard its append included, before its map doubles in every process
// that reads it. Every event but a completed one stays within it: only what a consumer reads without the data belongs in a header.
const MaxHeaders = 14

// Attributes of journal events.
const (
	// HeaderSubject is what is run, as RecipeVersion writes it. CloudEvents: what the event is about.
	HeaderSubject = "ce-subject"
	// HeaderActor is who asked for the execution, "<type>:<id>".
	HeaderActor = "ce-actor"
	// HeaderCredits is a whole number of micro-credits: in accepted the quoted maximum, in funded what was debited, in completed
	// what is charged in the end.
	HeaderCredits = "ce-microcredits"
	// HeaderCreditsUntil (accepted of an execution that waits for credits when it is short of them) is until when, in RFC 3339.
	HeaderCreditsUntil = "ce-creditsuntil"
	// HeaderStatus (completed only) is the status of the response.
	HeaderStatus = "ce-status"
	// HeaderCode (completed only) is the code of the first error, absent on success.
	HeaderCode = "ce-errorcode"
	// HeaderDuration (completed only) is the duration in milliseconds.
	HeaderDuration = "ce-durationms"
)

// Headers that are not attributes of the event.
const (
	// HeaderReply is the inbox of a synchronous caller: whoever appends completed also publishes its data there.
	HeaderReply = "galley-reply"
	// HeaderParent (accepted and funded of an execution that another one runs) is where that one is woken up when this one has ended.
	HeaderParent = "galley-parent"
	// HeaderSteps (completed only) is how the steps ended, see Response.Steps; absent when none did.
	HeaderSteps = "galley-steps"
	// HeaderAppend is unique to one append, so that its author recognises its own event after a lost acknowledgement.
	HeaderAppend = "galley-append"
	// HeaderError is the code of a refusal in a reply to a query; the data is then a problem.Error.
	HeaderError = "galley-error"
)

// Status is how an execution stands.
type Status string

const (
	// StatusAccepted: in the journal, not started yet.
	StatusAccepted Status = "accepted"
	// StatusRunning: funded, or in the middle of its steps.
	StatusRunning Status = "running"
	// StatusWaiting: in the middle of its steps, of which those that can go on wait for a time, an event, an approval or another
	// execution; or before its first step, waiting for credits or for a slot.
	StatusWaiting Status = "waiting"
	// StatusSuccess: every step that was not skipped succeeded and the output is valid.
	StatusSuccess Status = "success"
	// StatusPartial: a step that may fail did, the rest and the output are fine.
	StatusPartial Status = "partial"
	// StatusFailed: anything else.
	StatusFailed Status = "failed"
)

// Standing is how an execution stands whose last event is of this kind, unless that is completed.
func (k Kind) Standing() Status {
	switch k {
	case Accepted:
		return StatusAccepted
	case Waiting:
		return StatusWaiting
	case Funded, Started, Step, Completed:
	}
	return StatusRunning
}

// Terminal tells whether the status can no longer change.
func (s Status) Terminal() bool {
	return s == StatusSuccess || s == StatusPartial || s == StatusFailed
}

// Actor is who did something: a customer's API key, the operator, a NATS producer, a schedule or a service.
type Actor struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// String is "<type>:<id>", the form of HeaderActor.
func (a Actor) String() string {
	return a.Type + ":" + a.ID
}

// RecipeVersion names what an execution runs.
type RecipeVersion struct {
	AgentID  string
	RecipeID string
	Version  int
}

// String is "<agent>/<recipe>/<version>", the form of HeaderSubject.
func (r RecipeVersion) String() string {
	return r.AgentID + "/" + r.RecipeID + "/" + strconv.Itoa(r.Version)
}

// ParseRecipeVersion reads the form of String.
func ParseRecipeVersion(text string) (RecipeVersion, error) {
	agent, rest, _ := strings.Cut(text, "/")
	recipe, number, _ := strings.Cut(rest, "/")
	version, err := strconv.Atoi(number)
	if err != nil || version < 1 || agent == "" || recipe == "" {
		return RecipeVersion{}, fmt.Errorf("%.200q is not <agent>/<recipe>/<version>", text)
	}
	return RecipeVersion{AgentID: agent, RecipeID: recipe, Version: version}, nil
}

// Request is what an execution was asked to do, with everything pinned that could change later. Data of accepted.
type Request struct {
	ExecutionID   string          `json:"execution_id"`
	CustomerID    string          `json:"customer_id"`
	AgentID       string          `json:"agent_id"`
	RecipeID      string          `json:"recipe_id"`
	RecipeVersion int             `json:"recipe_version"`
	Input         json.RawMessage `json:"input_data"`
	// Vars are those of the customer's settings that the recipe reads.
	Vars map[string]any `json:"vars,omitempty"`
	// MaxConcurrency is the customer's limit of executions under way at the same time, 0 for none.
	MaxConcurrency int `json:"max_concurrency,omitempty"`
	// Quoted is the most that the execution can cost.
	Quoted     credit.Micro `json:"quoted_credits"`
	Actor      Actor        `json:"actor"`
	AcceptedAt time.Time    `json:"accepted_at"`
	// Deadline is the latest moment at which the execution may still be going.
	Deadline time.Time `json:"deadline"`
	// Origin is the execution that this one goes on from or repeats, if any.
	Origin *Origin `json:"origin,omitempty"`
	// Parent is the step of another execution that runs this one, if any.
	Parent *Parent `json:"parent,omitempty"`
}

// Verb is how an execution follows from an earlier one.
type Verb string

const (
	// VerbRerun begins again, with the same input.
	VerbRerun Verb = "rerun"
	// VerbRerunFrom keeps the outcomes of the steps before one that is named, and begins there.
	VerbRerunFrom Verb = "rerun_from"
	// VerbResume keeps everything that is done, and begins at the step that failed.
	VerbResume Verb = "resume"
)

// Origin links an execution to the one that it goes on from.
type Origin struct {
	ExecutionID string `json:"execution_id"`
	Verb        Verb   `json:"verb"`
	// Step is where it begins; empty for a rerun.
	Step string `json:"step,omitempty"`
	// State and Steps are what is kept. Steps are outcomes as in a Checkpoint; Credits of each is what this execution is charged for
	// it: the price where the earlier execution gave it back, 0 where it was paid.
	State map[string]any `json:"state,omitempty"`
	Steps []StepOutcome  `json:"steps,omitempty"`
}

// MaxDepth is how deep executions may run executions.
const MaxDepth = 8

// Parent links an execution to the step that runs it.
type Parent struct {
	ExecutionID string `json:"execution_id"`
	Step        string `json:"step"`
	// Depth is 1 when the parent was not run by another execution itself.
	Depth int `json:"depth"`
}

// Debit is the ledger row that paid for an execution.
type Debit struct {
	TransactionID int64        `json:"transaction_id"`
	Amount        credit.Micro `json:"amount"`
	BalanceAfter  credit.Micro `json:"balance_after"`
}

// Funding is the request with its debit. Data of funded.
type Funding struct {
	Debit Debit `json:"debit"`
	Request
}

// Checkpoint is the whole resume state of an execution. Data of step, started and waiting.
type Checkpoint struct {
	ExecutionID string `json:"execution_id"`
	// Delivery counts the workers that had the execution, from 1.
	Delivery int `json:"delivery"`
	// Owner is the sequence in DELAYS of the message by which the worker got the execution; 0 when that was its funded event. The same
	// message, delivered again, may take the execution over; any other one may not, unless the execution waits.
	Owner     uint64    `json:"owner,omitempty"`
	StartedAt time.Time `json:"started_at"`
	// Checkpoints counts the step events so far, this one included.
	Checkpoints int `json:"checkpoints"`
	// State is the shared state, absent until a step has written it.
	State map[string]any `json:"state,omitempty"`
	// Steps are the outcomes so far, in the order in which the steps ended, and what is done of each foreach under way.
	Steps []StepOutcome `json:"steps"`
	// Waits are what the execution waits for.
	Waits []Wait `json:"waits,omitempty"`
}

// After how long at most an execution looks by itself whether what it waits for has come, in case that nobody calls it: whether a child
// has ended, and whether there is a slot for it.
const (
	MaxChildWait = time.Minute
	MaxSlotWait  = 5 * time.Minute
)

// Wait is a step, or one item of a foreach, that waits; or the execution itself, before its first step.
type Wait struct {
	// Step is absent when the execution waits for credits or for a slot.
	Step string `json:"step,omitempty"`
	// Item is the index in a foreach, absent otherwise.
	Item *int `json:"item,omitempty"`
	// Since is when the wait began, Until when it ends in any case.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Attempts is how many attempts were made before a wait for the next one, Usage what they have used.
	Attempts int    `json:"attempts,omitempty"`
	Usage    *Usage `json:"usage,omitempty"`
	// Event is the name of the event that ends the wait (wait.event).
	Event string `json:"event,omitempty"`
	// Approval is what is to be decided (approval).
	Approval string `json:"approval,omitempty"`
	// Execution is the execution whose end ends the wait (recipe.run).
	Execution string `json:"execution,omitempty"`
	// Slot is the limit because of which the execution may not begin yet.
	Slot SlotLimit `json:"slot,omitempty"`
	// Credits is what the balance has to cover before the execution may begin.
	Credits credit.Micro `json:"credits,omitempty"`
}

// SlotLimit says of what there are as many executions under way as there may be.
type SlotLimit string

const (
	// SlotCustomer is the customer's limit (Request.MaxConcurrency).
	SlotCustomer SlotLimit = "customer"
	// SlotRecipe is the recipe's (spec.concurrency).
	SlotRecipe SlotLimit = "recipe"
)

// StepStatus is how a step ended.
type StepStatus string

const (
	// StepSuccess: the component did its work.
	StepSuccess StepStatus = "success"
	// StepFailed: every attempt failed.
	StepFailed StepStatus = "failed"
	// StepPartial: some items of a foreach failed, which they may, and some succeeded.
	StepPartial StepStatus = "partial"
	// StepSkipped: its condition was false.
	StepSkipped StepStatus = "skipped"
	// StepRunning: a foreach some items of which are not done. Only in checkpoints.
	StepRunning StepStatus = "running"
)

// StepOutcome is the durable outcome of a step.
type StepOutcome struct {
	StepSummary
	// Output is what later steps may read.
	Output any            `json:"output,omitempty"`
	Error  *problem.Error `json:"error,omitempty"`
	// Items are the outcomes of a foreach that are there, by their index; nil for a step without one.
	Items []ItemOutcome `json:"item_outcomes,omitempty"`
}

// ItemOutcome is the durable outcome of one item of a foreach.
type ItemOutcome struct {
	Index      int            `json:"index"`
	Status     StepStatus     `json:"status"`
	Attempts   int            `json:"attempts"`
	DurationMS int64          `json:"duration_ms"`
	Credits    credit.Micro   `json:"credits"`
	Usage      *Usage         `json:"usage,omitempty"`
	Output     any            `json:"output,omitempty"`
	Error      *problem.Error `json:"error,omitempty"`
}

// Usage is what was counted while a step ran, over all its attempts.
type Usage struct {
	InputTokens  int64 `json:"input_tokens,omitempty"`
	OutputTokens int64 `json:"output_tokens,omitempty"`
	// Units are whatever the recipe or a worker counts.
	Units int64 `json:"units,omitempty"`
}

// Plus adds other, which may be nil; so may u. The sum of nothing is nil.
func (u *Usage) Plus(other *Usage) *Usage {
	if u == nil || other == nil {
		return cmp.Or(u, other)
	}
	return &Usage{
		InputTokens: add(u.InputTokens, other.InputTokens), OutputTokens: add(u.OutputTokens, other.OutputTokens),
		Units: add(u.Units, other.Units),
	}
}

// add stays at the largest number: what is counted comes from outside, and must not come round to nothing.
func add(a, b int64) int64 {
	a, b = max(0, a), max(0, b)
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// StepSummary is what the response tells of a step.
type StepSummary struct {
	ID         string       `json:"id"`
	Status     StepStatus   `json:"status"`
	Attempts   int          `json:"attempts"`
	DurationMS int64        `json:"duration_ms"`
	Credits    credit.Micro `json:"credits"`
	// Usage is what was measured, absent where nothing was.
	Usage *Usage `json:"usage,omitempty"`
	// Metered tells that Credits are for Usage: it is spent, and charged however the execution ends.
	Metered bool `json:"metered,omitempty"`
	// Items counts the items of a foreach; absent for a step without one.
	Items *ItemCount `json:"items,omitempty"`
}

// ItemCount is how the items of a foreach ended. Attempts and Credits of its step are sums over them.
type ItemCount struct {
	Total     int `json:"total"`
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
}

// Response is the one standard response: HTTP body, data of completed, webhook.
type Response struct {
	RecipeID      string          `json:"recipe_id"`
	AgentID       string          `json:"agent_id"`
	RecipeVersion int             `json:"recipe_version"`
	ExecutionID   string          `json:"execution_id"`
	CustomerID    string          `json:"customer_id"`
	Status        Status          `json:"status"`
	Data          json.RawMessage `json:"data"`
	Metadata      Metadata        `json:"metadata"`
	Errors        []problem.Error `json:"errors"`
}

// Metadata is what the response tells about the execution itself.
type Metadata struct {
	DurationMS       int64        `json:"duration_ms"`
	RecordsProcessed int          `json:"records_processed"`
	CreditsConsumed  credit.Micro `json:"credits_consumed"`
	Receipt
	ComponentsExecuted int           `json:"components_executed"`
	Timestamp          time.Time     `json:"timestamp"`
	Steps              []StepSummary `json:"steps"`
}

// Receipt is how CreditsConsumed came about. What is consumed is Debited less Refunded.
type Receipt struct {
	// Quoted is the most that the execution could cost.
	Quoted credit.Micro `json:"quoted_credits"`
	// Debited is what was taken before it ran: what was quoted, or 0 when it ended before that.
	Debited credit.Micro `json:"debited_credits"`
	// Refunded is what of the debit is given back.
	Refunded credit.Micro `json:"refunded_credits"`
}

// Settle fills in what is charged for an execution that was quoted and debited: never more than the debit.
func (m *Metadata) Settle(charged, quoted, debited credit.Micro) {
	m.CreditsConsumed = min(charged, debited)
	m.Receipt = Receipt{Quoted: quoted, Debited: debited, Refunded: debited - m.CreditsConsumed}
}

// Charged is the sum of what the steps are charged for.
func (m *Metadata) Charged() credit.Micro {
	var sum credit.Micro
	for i := range m.Steps {
		sum += m.Steps[i].Credits
	}
	return sum
}

// GiveBack takes the fixed prices off the steps, for an execution that has failed, and gives what is charged all the same: what was
// measured is spent.
func (m *Metadata) GiveBack() credit.Micro {
	for i := range m.Steps {
		if !m.Steps[i].Metered {
			m.Steps[i].Credits = 0
		}
	}
	return m.Charged()
}

// RunRequest is what a producer publishes to ask for an execution, bare or as the data of a CloudEvent.
type RunRequest struct {
	AgentID  string          `json:"agent_id"`
	RecipeID string          `json:"recipe_id"`
	Input    json.RawMessage `json:"input_data"`
	// Version is 0 for the newest.
	Version int `json:"version,omitempty"`
}

// Rejection reports a run request that was refused. Data of galley.run.rejected.<customer>.
type Rejection struct {
	CustomerID string              `json:"customer_id"`
	Subject    string              `json:"subject"`
	MessageID  string              `json:"message_id,omitempty"`
	Sequence   uint64              `json:"sequence"`
	Code       problem.Code        `json:"code"`
	Message    string              `json:"message"`
	Violations []problem.Violation `json:"violations,omitempty"`
	RejectedAt time.Time           `json:"rejected_at"`
}

// Activity is something that a person or service did to the catalogue, keys or credits. Data of galley.activity.>.
type Activity struct {
	CustomerID string `json:"customer_id"`
	// ActionType is "<resource>.<verb>", such as ActionRecipePublished.
	ActionType   string `json:"action_type"`
	ResourceType string `json:"resource_type"`
	ResourceID   string `json:"resource_id"`
	Actor        Actor  `json:"actor"`
	// Changes are what Changes makes; absent where there is nothing to tell.
	Changes    json.RawMessage `json:"changes,omitempty"`
	Outcome    string          `json:"outcome"`
	OccurredAt time.Time       `json:"occurred_at"`
}
