// Package leaf makes the rows of the audit log: it reads events and writes their canonical form.
//
// # Canonical form, version 1
//
// A leaf is one JSON object (RFC 8259, UTF-8) without white space. Its members stand in this order; those marked with ? are
// absent when they are empty:
//
//	v               1
//	event_id        the event's ce-id: unique in the log
//	type            its ce-type
//	time            its ce-time, in UTC, RFC 3339 with as many digits after the second as it needs, up to nine
//	customer_id     whose log it belongs to, "" for nobody's
//	actor_type      who did it
//	actor_id
//	action_type     what was done, "<resource>.<verb>"
//	resource_type   what it was done to
//	resource_id
//	outcome         how it ended
//	error_code ?    the reason, when it did not end well
//	microcredits ?  a whole number: quoted in execution.accepted, debited in execution.debited, charged in execution.completed
//	trace_id ?      the trace (W3C) that it belongs to, 32 hexadecimal digits
//	subject ?       of event.malformed only: where the event was published
//	reason ?        of event.malformed only: what is wrong with it
//	data_sha256     SHA-256 of the event's data, 64 lowercase hexadecimal digits
//
// In strings " and \ are escaped with \, control characters as \u00xx in lowercase, and nothing else is escaped.
//
// The same event always gives the same bytes. The digest commits the log to all of the event while the leaf itself holds none
// of its data. Readers must know v: another version may have other members.
package leaf

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/galley-engine/galley/schemas/event"
)

// Version is the version of the canonical form.
const Version = 1

// Leaf is one row of the log. Its strings are valid UTF-8, without control characters and of limited length, whatever the event
// held.
type Leaf struct {
	EventID      string
	Type         string
	Time         time.Time
	CustomerID   string
	Actor        event.Actor
	Action       string
	ResourceType string
	ResourceID   string
	Outcome      string
	ErrorCode    string
	// Credits is an amount in micro-credits; it counts only when Priced.
	Credits int64
	Priced  bool
	TraceID string
	// Subject and Reason are set when, and only when, the event is malformed.
	Subject string
	Reason  string
	// Digest is the SHA-256 of the event's data.
	Digest [sha256.Size]byte
}

// AppendJSON appends the canonical form to b.
func (l *Leaf) AppendJSON(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"v":`...), Version, 10)
	b = appendMember(b, "event_id", l.EventID)
	b = appendMember(b, "type", l.Type)
	b = l.Time.UTC().AppendFormat(append(b, `,"time":"`...), time.RFC3339Nano)
	b = append(b, '"')
	b = appendMember(b, "customer_id", l.CustomerID)
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
	b = appendOptional(b, "trace_id", l.TraceID)
	b = appendOptional(b, "subject", l.Subject)
	b = appendOptional(b, "reason", l.Reason)
	b = hex.AppendEncode(append(b, `,"data_sha256":"`...), l.Digest[:])
	return append(b, `"}`...)
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
