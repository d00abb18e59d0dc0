// Package leaf makes the leaves of the audit log: it reads events and writes their canonical form.
//
// # Canonical form, version 2
//
// A leaf is one JSON object (RFC 8259, UTF-8) without white space. Its members stand in this order; those marked with ? are
// absent when they are empty:
//
//	v                  2
//	event_id           the event's ce-id: unique in the log
//	type               its ce-type, "" of event.malformed
//	time               its ce-time, in UTC, RFC 3339 with as many digits after the second as it needs, up to nine
//	customer_id        whose log it belongs to, "" for nobody's
//	customer_sequence  the customer's leaves counted from 1, without a gap
//	previous ?         leaf hash (RFC 6962) of the customer's leaf before this one, 64 lowercase hexadecimal digits; absent in the first
//	actor_type         who did it
//	actor_id
//	action_type        what was done, "<resource>.<verb>"
//	resource_type      what it was done to
//	resource_id
//	outcome            how it ended
//	error_code ?       the reason, when it did not end well
//	microcredits ?     a whole number: quoted in execution.accepted, debited in execution.debited, charged in execution.completed
//	steps ?            of execution.completed only: how each step ended, as the event's header galley-steps says it
//	trace_id ?         the trace (W3C) that it belongs to, 32 hexadecimal digits
//	data_digest        SHA-256(salt, data): 16 random bytes, then the event's data; 64 lowercase hexadecimal digits
//
// The data of event.malformed is a JSON object in place of the event's own: type, subject, reason and the event's data in base64.
//
// In strings " and \ are escaped with \, control characters as \u00xx in lowercase, and nothing else is escaped.
//
// The digest commits the log to all of the event while the leaf itself holds none of its data, and says nothing of it to whoever
// has not the salt: not even whether a guess is right. So data and salt can be erased, and the leaf stays as it is.
//
// # Personal data
//
// A leaf is for ever, so it holds identifiers, codes, times and amounts, and no text that somebody wrote freely. Ids are made by galley or
// chosen by the customer: those of customers, agents, recipes, schedules and secrets are, and so are the resource_type and resource_id of
// an audit.note, and the ids in activities that programs of the installation publish themselves. Whoever chooses them must not choose names
// or addresses of people: an id stays in the leaf when what it stands for is erased. A run request's message id, a rejection's message, the
// reasons of people, and anything that a malformed event says are in the data alone.
//
// # Version 1
//
// It has no customer_sequence, previous and steps, and in place of data_digest a member data_sha256, the SHA-256 of the data alone. Those of
// event.malformed have type, and after trace_id the members subject and reason: where the event was published, and what is wrong with it.
// Logs from before the Merkle tree begin with such leaves; none are made any more.
//
// Readers must know v: another version may have other members.
package leaf

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// Versions of the canonical form.
const (
	// Version is that of the leaves that are made.
	Version = 2
	// Unchained is that of old leaves, without the customer's chain.
	Unchained = 1
)

// SaltSize is the size of the salt of a digest in bytes.
const SaltSize = 16

// Leaf is one leaf of the log. Its strings are valid UTF-8, without control characters and of limited length, whatever the event
// held.
type Leaf struct {
	Version    int
	EventID    string
	Type       string
	Time       time.Time
	CustomerID string
	// CustomerSequence counts the customer's leaves from 1. Previous is the hash of the one before, zero when there is none.
	CustomerSequence int64
	Previous         tree.Hash
	Actor            event.Actor
	Action           string
	ResourceType     string
	ResourceID       string
	Outcome          string
	ErrorCode        string
	// Credits is an amount in micro-credits; it counts only when Priced.
	Credits int64
	Priced  bool
	// Steps says how each step ended.
	Steps   string
	TraceID string
	// Subject and Reason are those of a malformed event, in leaves of version 1 only.
	Subject string
	Reason  string
	// Digest is Digest(salt, data) of the event's data.
	Digest [sha256.Size]byte
}

// Digest is the SHA-256 of the salt and then the data.
func Digest(salt, data []byte) [sha256.Size]byte {
	var digest [sha256.Size]byte
	hash := sha256.New()
	_, _ = hash.Write(salt) // a hash takes everything
	_, _ = hash.Write(data)
	hash.Sum(digest[:0])
	return digest
}

// AppendJSON appends the canonical form to b.
func (l *Leaf) AppendJSON(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"v":`...), int64(l.Version), 10)
	b = appendMember(b, "event_id", l.EventID)
	b = appendMember(b, "type", l.Type)
	b = l.Time.UTC().AppendFormat(append(b, `,"time":"`...), time.RFC3339Nano)
	b = append(b, '"')
	b = appendMember(b, "customer_id", l.CustomerID)
	if l.Version != Unchained {
		b = strconv.AppendInt(append(b, `,"customer_sequence":`...), l.CustomerSequence, 10)
		if l.Previous != (tree.Hash{}) {
			b = appendHash(b, "previous", l.Previous[:])
		}
	}
	b = appendMember(b, "actor_type", l.Actor.Type)
	b = appendMember(b, "actor_id", l.Actor.ID)
	b = appendMember(b, "action_type", l.Action)
	b = appendMember(b, "resource_type", l.ResourceType)
	b = appendMember(b, "resource_id", l.ResourceID)
	b = appendMember(b, "outcome", l.Outcome)
	b = appendOptional(b, "error_code", l.ErrorCode)
	if l.Priced {
		b = strconv.AppendInt(append(b, `,"microcredits":`...), l.Credits, 10)
	}
	b = appendOptional(b, "steps", l.Steps)
	b = appendOptional(b, "trace_id", l.TraceID)
	name := "data_digest"
	if l.Version == Unchained {
		b = appendOptional(b, "subject", l.Subject)
		b = appendOptional(b, "reason", l.Reason)
		name = "data_sha256"
	}
	return append(appendHash(b, name, l.Digest[:]), '}')
}

// encoded has the members of every version.
type encoded struct {
	Version          int       `json:"v"`
	EventID          string    `json:"event_id"`
	Type             string    `json:"type"`
	Time             time.Time `json:"time"`
	CustomerID       string    `json:"customer_id"`
	CustomerSequence int64     `json:"customer_sequence"`
	Previous         string    `json:"previous"`
	ActorType        string    `json:"actor_type"`
	ActorID          string    `json:"actor_id"`
	Action           string    `json:"action_type"`
	ResourceType     string    `json:"resource_type"`
	ResourceID       string    `json:"resource_id"`
	Outcome          string    `json:"outcome"`
	ErrorCode        string    `json:"error_code"`
	Credits          *int64    `json:"microcredits"`
	Steps            string    `json:"steps"`
	TraceID          string    `json:"trace_id"`
	Subject          string    `json:"subject"`
	Reason           string    `json:"reason"`
	DataDigest       string    `json:"data_digest"`
	DataSHA256       string    `json:"data_sha256"`
}

var errNotCanonical = errors.New("the leaf is not in its canonical form")

// Parse reads a leaf. It must be in its canonical form, to the byte.
func Parse(data []byte) (Leaf, error) {
	var read encoded
	if err := json.Unmarshal(data, &read); err != nil {
		return Leaf{}, fmt.Errorf("the leaf is not JSON: %w", err)
	}
	made := Leaf{
		Version: read.Version, EventID: read.EventID, Type: read.Type, Time: read.Time, CustomerID: read.CustomerID,
		CustomerSequence: read.CustomerSequence, Actor: event.Actor{Type: read.ActorType, ID: read.ActorID}, Action: read.Action,
		ResourceType: read.ResourceType, ResourceID: read.ResourceID, Outcome: read.Outcome, ErrorCode: read.ErrorCode, Steps: read.Steps,
		TraceID: read.TraceID, Subject: read.Subject, Reason: read.Reason,
	}
	digest := read.DataDigest
	switch read.Version {
	case Version:
	case Unchained:
		digest = read.DataSHA256
	default:
		return Leaf{}, fmt.Errorf("version %d of the canonical form is not known", read.Version)
	}
	if read.Credits != nil {
		made.Credits, made.Priced = *read.Credits, true
	}
	if !decodeHash(made.Digest[:], digest) || read.Previous != "" && !decodeHash(made.Previous[:], read.Previous) {
		return Leaf{}, errNotCanonical
	}
	// What is read twice the same way has no second spelling, and no member that is not known.
	if !bytes.Equal(made.AppendJSON(make([]byte, 0, len(data))), data) {
		return Leaf{}, errNotCanonical
	}
	return made, nil
}

func decodeHash(into []byte, text string) bool {
	if len(text) != hex.EncodedLen(len(into)) {
		return false
	}
	_, err := hex.Decode(into, []byte(text))
	return err == nil
}

func appendHash(b []byte, name string, hash []byte) []byte {
	b = append(append(append(b, `,"`...), name...), `":"`...)
	return append(hex.AppendEncode(b, hash), '"')
}

func appendOptional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendMember(b, name, value)
}

func appendMember(b []byte, name, value string) []byte {
	b = append(append(append(b, `,"`...), name...), `":"`...)
	return append(appendEscaped(b, value), '"')
}

const hexDigits = "0123456789abcdef"

func appendEscaped(b []byte, value string) []byte {
	start := 0
	for i := 0; i < len(value); {
		c := value[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(value[i:])
			if r == utf8.RuneError && size == 1 {
				b = utf8.AppendRune(append(b, value[start:i]...), utf8.RuneError)
				start = i + 1
			}
			i += size
			continue
		}
		if c < ' ' || c == '"' || c == '\\' {
			b = append(b, value[start:i]...)
			if c < ' ' {
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
			} else {
				b = append(b, '\\', c)
			}
			start = i + 1
		}
		i++
	}
	return append(b, value[start:]...)
}
