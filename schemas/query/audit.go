package query

import (
	"encoding/json"
	"time"

	"github.com/galley-engine/galley/schemas/audit"
)

// Names of the queries that audit answers.
const (
	// AuditEvents: AuditEventsRequest to AuditEventsReply.
	AuditEvents = "events"
	// AuditTreeHead: AuditTreeHeadRequest to AuditTreeHeadReply.
	AuditTreeHead = "tree_head"
	// AuditInclusion: AuditInclusionRequest to audit.Inclusion.
	AuditInclusion = "inclusion"
	// AuditConsistency: AuditConsistencyRequest to audit.Consistency.
	AuditConsistency = "consistency"
	// AuditExport: AuditExportRequest to AuditExportReply.
	AuditExport = "export"
)

// AuditNobody is the customer of the rows that belong to none. audit.Everyone is that of all rows.
const AuditNobody = "-"

// AuditEventsRequest asks for audit rows, newest first. What is empty limits nothing.
type AuditEventsRequest struct {
	// CustomerID is a customer's id, AuditNobody or audit.Everyone.
	CustomerID   string `json:"customer_id"`
	ActionType   string `json:"action_type,omitempty"`
	ResourceType string `json:"resource_type,omitempty"`
	ResourceID   string `json:"resource_id,omitempty"`
	ActorType    string `json:"actor_type,omitempty"`
	ActorID      string `json:"actor_id,omitempty"`
	Outcome      string `json:"outcome,omitempty"`
	// From and To limit when rows were recorded, To not included.
	From *time.Time `json:"from,omitempty"`
	To   *time.Time `json:"to,omitempty"`
	// Before is the Next of the previous page, 0 for the first page.
	Before int64 `json:"before,omitempty"`
	Limit  int   `json:"limit"`
}

// AuditEventsReply is a page of audit rows. It may have fewer than the limit, even none, and go on: Next is the Before of the next page, 0 at
// the end.
type AuditEventsReply struct {
	Events []AuditEvent `json:"events"`
	Next   int64        `json:"next,omitempty"`
}

// AuditEvent is a row of the audit log.
type AuditEvent struct {
	Sequence int64 `json:"sequence" doc:"The row's place in the log, from 1; minus one, it is the index of its leaf"`
	// CustomerID is empty for what belongs to nobody.
	CustomerID       string    `json:"customer_id,omitempty" doc:"Absent for what belongs to no customer"`
	CustomerSequence int64     `json:"customer_sequence,omitempty" doc:"Its place among the customer's rows, from 1; absent in rows from before galley counted them"`
	EventID          string    `json:"event_id"`
	ActionType       string    `json:"action_type" doc:"What was done, <resource>.<verb>"`
	ResourceType     string    `json:"resource_type"`
	ResourceID       string    `json:"resource_id"`
	ActorType        string    `json:"actor_type"`
	ActorID          string    `json:"actor_id"`
	Outcome          string    `json:"outcome"`
	ErrorCode        string    `json:"error_code,omitempty"`
	OccurredAt       time.Time `json:"occurred_at"`
	RecordedAt       time.Time `json:"recorded_at" doc:"When it was written into the log"`
	TraceID          string    `json:"trace_id,omitempty"`
	// Steps says how the steps of an execution ended, as the event's header galley-steps says it.
	Steps string `json:"steps,omitempty" doc:"How each step of an execution ended"`
	// Changes are those of an activity; absent where there are none, and when they were erased.
	Changes json.RawMessage `json:"changes,omitempty" doc:"What differs, before and after, without secrets; absent when there is nothing to tell, or no more"`
	Erased  bool            `json:"erased,omitempty" doc:"What the log kept beside the leaf was erased"`
	// Leaf is the stored canonical form, verbatim.
	Leaf json.RawMessage `json:"leaf" doc:"What the log vouches for, in its canonical form"`
}

// AuditTreeHeadRequest asks for the newest tree head.
type AuditTreeHeadRequest struct{}

// AuditTreeHeadReply is the newest signed tree head, and how the signing stands.
type AuditTreeHeadReply struct {
	// Origin is the log's name. PublicKey verifies its heads; whoever verifies must have it from elsewhere.
	Origin    string `json:"origin" doc:"The log's name"`
	PublicKey string `json:"public_key" doc:"Verifies the note; whoever verifies must have it from elsewhere"`
	// Rows is how many rows the log has now, of which the head covers Size.
	Rows int64 `json:"rows" doc:"How many rows the log has now"`
	// Note is the signed note; it, Size, Root and SignedAt are absent when nothing was signed yet.
	Size     int64      `json:"size,omitempty" doc:"How many rows the head covers"`
	Root     string     `json:"root,omitempty" doc:"The root of the tree over them, in base64"`
	SignedAt *time.Time `json:"signed_at,omitempty"`
	Note     string     `json:"note,omitempty" doc:"The tree head, a signed note"`
	// Fault is why nothing is signed any more, absent while all is well.
	Fault string `json:"fault,omitempty" doc:"Why nothing is signed any more; absent while all is well"`
}

// AuditInclusionRequest asks for the proof that an event is in the log.
type AuditInclusionRequest struct {
	// CustomerID is whose event it must be, audit.Everyone for anybody's.
	CustomerID string `json:"customer_id"`
	EventID    string `json:"event_id"`
}

// AuditConsistencyRequest asks for the proof that the log of Older rows is the beginning of that of Newer.
type AuditConsistencyRequest struct {
	Older int64 `json:"older"`
	// Newer is the size of a signed tree head, 0 for the newest one.
	Newer int64 `json:"newer,omitempty"`
}

// AuditExportRequest asks for a page of an export.
type AuditExportRequest struct {
	// CustomerID is whose leaves are wanted, audit.Everyone for the whole log.
	CustomerID string `json:"customer_id"`
	// From is the Next of the page before, absent for the first page.
	From *AuditExportPlace `json:"from,omitempty"`
}

// AuditExportPlace is where an export goes on.
type AuditExportPlace struct {
	// Size is that of the tree head that the export ends with: it was chosen for the first page.
	Size int64 `json:"size"`
	// Kind is that of the next line; KindLeaf, KindTile or KindHead. Index and Level are the first that it may have; of a head, Index is its
	// size.
	Kind  audit.Kind `json:"kind"`
	Level int        `json:"level,omitempty"`
	Index int64      `json:"index"`
}

// AuditExportReply is a page of an export: lines, each an audit.Line.
type AuditExportReply struct {
	Lines []json.RawMessage `json:"lines"`
	// Next is where the next page begins, absent at the end.
	Next *AuditExportPlace `json:"next,omitempty"`
	// Size and Root are those of the tree head that the export ends with.
	Size int64  `json:"size"`
	Root string `json:"root"`
}
