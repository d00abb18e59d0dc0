package leaf

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
)

// Actions of the log that are not those of an activity.
const (
	// ActionAccepted: an execution was asked for and accepted.
	ActionAccepted = "execution.accepted"
	// ActionDebited: the execution's quoted maximum was debited.
	ActionDebited = "execution.debited"
	// ActionCompleted: the execution ended. The outcome is its status.
	ActionCompleted = "execution.completed"
	// ActionRejected: a request to run a recipe was refused.
	ActionRejected = "run.rejected"
	// ActionMalformed: something was published that is no event of galley's. The leaf says only where it stands; its Malformed says more.
	ActionMalformed = "event.malformed"
)

// Types of resources that are not those of an activity.
const (
	// ResourceExecution is an execution, by its id.
	ResourceExecution = "execution"
	// ResourceRequest is a request to run a recipe, "<stream>/<sequence>". The id that its producer gave it may say anything, and is in the
	// event's data.
	ResourceRequest = "run_request"
	// ResourceEvent is a malformed event, "<stream>/<sequence>".
	ResourceEvent = "event"
)

// Limits in bytes. An event whose id is longer is malformed; other text is cut off.
const (
	maxID    = 200
	maxText  = 256
	maxSteps = 2048
)

const (
	maxYear           = 9999
	traceParentLength = 55
	traceIDStart      = 3
	traceIDEnd        = 35
)

// Event is a message as it stands in its stream. What it holds is foreign input.
type Event struct {
	Stream   string
	Sequence uint64
	// Stored is when the stream stored it.
	Stored  time.Time
	Subject string
	Header  nats.Header
	Data    []byte
}

// Payload is what a leaf's digest is of.
type Payload struct {
	Data []byte
	// Kept tells that the log has to keep it, because nothing else does: the data of the journal is kept elsewhere, and is large.
	Kept bool
}

// Malformed is the payload, in JSON, of a leaf of ActionMalformed. All of it may hold whatever somebody published.
type Malformed struct {
	// Type is the ce-type and Subject where it was published, both cut off.
	Type    string `json:"type"`
	Subject string `json:"subject"`
	// Reason is what is wrong with it.
	Reason string `json:"reason"`
	Data   []byte `json:"data"`
}

// Of makes the event's leaf, all of it but the place in the customer's chain and the digest, and the payload that the digest is of. There is a
// leaf for every event: what cannot be understood gives one of ActionMalformed.
func Of(e *Event) (Leaf, Payload) {
	payload := Payload{Data: e.Data, Kept: e.Stream == subject.StreamActivity}
	read, err := e.read()
	if err != nil {
		read, payload = e.malformed(err)
	}
	read.Version = Version
	return read, payload
}

func (e *Event) read() (Leaf, error) {
	if strings.HasPrefix(e.Subject, prefix(subject.AllExecutions)) {
		return e.execution()
	}
	if strings.HasPrefix(e.Subject, prefix(subject.AllRejected)) {
		return e.rejection()
	}
	return e.activity()
}

// prefix is what the subjects that the wildcard captures start with.
func prefix(wildcard string) string {
	return strings.TrimSuffix(wildcard, ">")
}

// execution reads an event of the journal. Its subject must be the one that galley itself writes: the journal guards no other, so
// elsewhere the same id could be published twice.
func (e *Event) execution() (Leaf, error) {
	execution, kind, number, err := subject.ParseExecution(e.Subject)
	if err != nil {
		return Leaf{}, err
	}
	if !subject.ValidID(execution.Customer) || !subject.ValidID(execution.ID) || e.Subject != execution.Event(kind, number) {
		return Leaf{}, errors.New("the subject is not that of an execution")
	}
	read, err := e.attributes(event.Kind(kind).Type())
	if err != nil {
		return Leaf{}, err
	}
	if read.EventID != execution.ID+"/"+kind {
		return Leaf{}, fmt.Errorf("%s %.100q is not the event's", event.HeaderID, read.EventID)
	}
	read.CustomerID, read.ResourceType, read.ResourceID = execution.Customer, ResourceExecution, execution.ID
	read.Outcome = string(event.StatusSuccess)
	switch event.Kind(kind) {
	case event.Accepted:
		read.Action = ActionAccepted
	case event.Funded:
		read.Action = ActionDebited
	case event.Completed:
		read.Action = ActionCompleted
		read.Outcome = e.Header.Get(event.HeaderStatus)
		read.ErrorCode = clean(e.Header.Get(event.HeaderCode))
		read.Steps = cleanTo(maxSteps, e.Header.Get(event.HeaderSteps))
		if !event.Status(read.Outcome).Terminal() {
			return Leaf{}, fmt.Errorf("%s %.100q is not how an execution ends", event.HeaderStatus, read.Outcome)
		}
	case event.Started, event.Step:
		return Leaf{}, fmt.Errorf("events of kind %s are not logged", kind)
	default:
		return Leaf{}, fmt.Errorf("unknown kind %.100q", kind)
	}
	if amount := e.Header.Get(event.HeaderCredits); amount != "" {
		if read.Credits, err = strconv.ParseInt(amount, 10, 64); err != nil {
			return Leaf{}, fmt.Errorf("%s %.100q is not a whole number", event.HeaderCredits, amount)
		}
		read.Priced = true
	}
	return read, nil
}

// errData does not repeat what the decoder says: the words of that are not ours, and the leaf must always have the same bytes.
var errData = errors.New("the data is not JSON of the event's type")

// rejection reads the report of a refused request. Its customer may be nobody: a producer can write anything there.
func (e *Event) rejection() (Leaf, error) {
	read, err := e.attributes(event.TypeRunRejected)
	if err != nil {
		return Leaf{}, err
	}
	var rejected event.Rejection
	if json.Unmarshal(e.Data, &rejected) != nil {
		return Leaf{}, errData
	}
	read.CustomerID = e.customer()
	read.Action, read.Outcome = ActionRejected, string(event.StatusFailed)
	read.ErrorCode = clean(string(rejected.Code))
	read.ResourceType, read.ResourceID = ResourceRequest, place(streamOf(rejected.Subject), rejected.Sequence)
	return read, e.unreserved()
}

func (e *Event) activity() (Leaf, error) {
	read, err := e.attributes(event.TypeActivity)
	if err != nil {
		return Leaf{}, err
	}
	var activity event.Activity
	if json.Unmarshal(e.Data, &activity) != nil {
		return Leaf{}, errData
	}
	if activity.CustomerID != e.customer() || e.Subject != subject.Activity(activity.CustomerID, activity.ActionType) {
		return Leaf{}, errors.New("the subject is not that of the activity")
	}
	read.CustomerID = activity.CustomerID
	read.Action = clean(activity.ActionType)
	read.ResourceType, read.ResourceID = clean(activity.ResourceType), clean(activity.ResourceID)
	read.Outcome = clean(activity.Outcome)
	read.Actor = event.Actor{Type: clean(activity.Actor.Type), ID: clean(activity.Actor.ID)}
	return read, e.unreserved()
}

// attributes reads what all events have in their headers.
func (e *Event) attributes(kind string) (Leaf, error) {
	read := Leaf{EventID: e.Header.Get(event.HeaderID), Type: kind, Time: e.Stored, TraceID: traceID(e.Header.Get(event.HeaderTraceParent))}
	if read.EventID == "" || len(read.EventID) > maxID || !printable(read.EventID) {
		return Leaf{}, fmt.Errorf("%s %.100q is not 1 to %d printable ASCII characters", event.HeaderID, read.EventID, maxID)
	}
	if found := e.Header.Get(event.HeaderType); found != kind {
		return Leaf{}, fmt.Errorf("%s %.100q is not %s", event.HeaderType, found, kind)
	}
	if text := e.Header.Get(event.HeaderTime); text != "" {
		parsed, err := time.Parse(time.RFC3339, text)
		if parsed = parsed.UTC(); err != nil || parsed.Year() < 1 || parsed.Year() > maxYear {
			return Leaf{}, fmt.Errorf("%s %.100q is not a time of RFC 3339", event.HeaderTime, text)
		}
		read.Time = parsed
	}
	read.Actor = actor(e.Header.Get(event.HeaderActor))
	return read, nil
}

// actor reads "<type>:<id>". Without a type it is all id.
func actor(text string) event.Actor {
	kind, id, found := strings.Cut(text, ":")
	if !found {
		kind, id = "", text
	}
	return event.Actor{Type: clean(kind), ID: clean(id)}
}

// unreserved keeps whoever may publish activities from taking the id of a journal event, or of a malformed one, which would then
// be missing in the log.
func (e *Event) unreserved() error {
	id := e.Header.Get(event.HeaderID)
	for _, kind := range []event.Kind{event.Accepted, event.Funded, event.Completed} {
		if strings.HasSuffix(id, "/"+string(kind)) {
			return fmt.Errorf("%s %.100q is kept for executions", event.HeaderID, id)
		}
	}
	if strings.HasPrefix(id, subject.StreamExecutions+"/") || strings.HasPrefix(id, subject.StreamActivity+"/") {
		return fmt.Errorf("%s %.100q is kept for malformed events", event.HeaderID, id)
	}
	return nil
}

// malformed is the leaf of an event that cannot be understood. Nothing of the event is in it but whose it is by its subject: time is the
// stream's, the actor is nobody.
func (e *Event) malformed(reason error) (Leaf, Payload) {
	where := place(e.Stream, e.Sequence)
	data, err := json.Marshal(Malformed{
		Type: clean(e.Header.Get(event.HeaderType)), Subject: clean(e.Subject), Reason: clean(reason.Error()), Data: e.Data,
	})
	if err != nil {
		panic("encode a malformed event: " + err.Error()) // strings and bytes can always be encoded
	}
	return Leaf{
		// With the time, it stays unique when the stream is made anew and counts from 1 again.
		EventID: where + "/" + strconv.FormatInt(e.Stored.UnixNano(), 10),
		Time:    e.Stored, CustomerID: e.customer(),
		Action: ActionMalformed, ResourceType: ResourceEvent, ResourceID: where, Outcome: string(event.StatusFailed),
	}, Payload{Data: data, Kept: true}
}

// streamOf is where a request that was rejected was: most are requests to run something, some are events for executions or starts of schedules.
func streamOf(name string) string {
	for wildcard, stream := range map[string]string{
		subject.AllSignals: subject.StreamSignals, subject.AllDue: subject.StreamDelays, subject.AllRedrives: subject.StreamRedrives,
	} {
		if strings.HasPrefix(name, prefix(wildcard)) {
			return stream
		}
	}
	return subject.StreamRuns
}

func place(stream string, sequence uint64) string {
	return stream + "/" + strconv.FormatUint(sequence, 10)
}

// customer is whose event it is by its subject, "" when that names no possible customer.
func (e *Event) customer() string {
	customer, _, _ := strings.Cut(strings.TrimPrefix(e.Subject, prefix(subject.AllActivity)), ".")
	if execution, _, _, err := subject.ParseExecution(e.Subject); err == nil {
		customer = execution.Customer
	} else if rest, found := strings.CutPrefix(e.Subject, prefix(subject.AllRejected)); found {
		customer = rest
	}
	if !subject.ValidID(customer) {
		return ""
	}
	return customer
}

// traceID takes the trace id out of a W3C traceparent, "" when there is none.
func traceID(parent string) string {
	if len(parent) < traceParentLength || parent[traceIDStart-1] != '-' || parent[traceIDEnd] != '-' {
		return ""
	}
	id := parent[traceIDStart:traceIDEnd]
	for i := range len(id) {
		if !strings.Contains(hexDigits, id[i:i+1]) {
			return ""
		}
	}
	return id
}
