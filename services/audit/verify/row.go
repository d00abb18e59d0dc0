package verify

import (
	"time"

	"github.com/galley-engine/galley/services/audit/internal/leaf"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// stored is a row as it is stored. Nothing in it is believed.
type stored struct {
	sequence int64
	leaf     []byte
	// columns repeat the leaf; they are absent in an export. occurred is in microseconds of Unix time, own the customer's sequence.
	columns  bool
	occurred int64
	own      *int64
	text     [textColumns][]byte
	// payload tells whether there is one, of owner's.
	payload bool
	owner   []byte
	salt    []byte
	data    []byte
}

// Columns of text, in the order in which they are read.
const (
	columnEvent = iota
	columnCustomer
	columnAction
	columnResourceType
	columnResource
	columnActorType
	columnActor
	columnOutcome
	columnTrace
	textColumns
)

// checked is what a row says and what is wrong with it as far as it can be told from the row alone.
type checked struct {
	sequence int64
	hash     tree.Hash
	// err is set when the leaf cannot be read; all below is empty then.
	err      error
	chained  bool
	customer string
	own      int64
	previous tree.Hash
	payload  Payload
	// changed says that what is beside the row is not what its digest is of.
	changed bool
	// columns are those that say something else, and restored is the hash of the leaf with what they say in it.
	columns  []string
	restored tree.Hash
}

// check looks at one row.
func check(s *stored) checked {
	made := checked{sequence: s.sequence, hash: tree.LeafHash(s.leaf)}
	read, err := parse(s.leaf)
	if err != nil {
		made.err = err
		return made
	}
	made.chained, made.customer, made.own, made.previous = read.Version != leaf.Unchained, read.CustomerID, read.CustomerSequence, read.Previous
	if s.columns {
		s.compare(&read, &made)
	}
	made.payload = noPayload(&read)
	if s.payload {
		made.payload, err = checkPayload(&read, s.salt, s.data)
		made.changed = err != nil
	}
	return made
}

// precision is what Postgres keeps of a time, in microseconds.
const precision = 1

// compare finds the columns that differ from the leaf.
func (s *stored) compare(read *leaf.Leaf, made *checked) {
	columns := [textColumns]struct {
		name  string
		value *string
	}{
		columnEvent: {"event_id", &read.EventID}, columnCustomer: {"customer_id", &read.CustomerID},
		columnAction: {"action_type", &read.Action}, columnResourceType: {"resource_type", &read.ResourceType},
		columnResource: {"resource_id", &read.ResourceID}, columnActorType: {"actor_type", &read.Actor.Type},
		columnActor: {"actor_id", &read.Actor.ID}, columnOutcome: {"outcome", &read.Outcome}, columnTrace: {"trace_id", &read.TraceID},
	}
	restored := *read
	for i, column := range columns {
		if string(s.text[i]) != *column.value {
			made.columns = append(made.columns, column.name)
		}
	}
	if d := s.occurred - read.Time.UnixMicro(); d < -precision || d > precision {
		made.columns = append(made.columns, "occurred_at")
		restored.Time = time.UnixMicro(s.occurred).UTC()
	}
	if (s.own != nil) != made.chained || made.chained && *s.own != read.CustomerSequence {
		made.columns = append(made.columns, "customer_sequence")
		if s.own != nil {
			restored.CustomerSequence = *s.own
		}
	}
	if s.payload && string(s.owner) != read.CustomerID {
		made.columns = append(made.columns, "payloads.customer_id")
	}
	if len(made.columns) == 0 {
		return
	}
	restored.EventID, restored.CustomerID = string(s.text[columnEvent]), string(s.text[columnCustomer])
	restored.Action, restored.ResourceType = string(s.text[columnAction]), string(s.text[columnResourceType])
	restored.ResourceID, restored.Outcome = string(s.text[columnResource]), string(s.text[columnOutcome])
	restored.Actor.Type, restored.Actor.ID = string(s.text[columnActorType]), string(s.text[columnActor])
	restored.TraceID = string(s.text[columnTrace])
	made.restored = tree.LeafHash(restored.AppendJSON(nil))
}
