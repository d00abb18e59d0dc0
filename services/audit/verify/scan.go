package verify

import (
	"strconv"
	"strings"
	"time"

	"github.com/galley-engine/galley/services/audit/internal/leaf"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// parse reads a leaf. Nearly all leaves are of the form that scan knows, which takes a quarter of the time; leaf.Parse decides about all
// others.
func parse(data []byte) (leaf.Leaf, error) {
	if read, ok := scan(string(data)); ok {
		return read, nil
	}
	return leaf.Parse(data)
}

// scan reads a leaf of version 2 of which no string needs an escape or is other than ASCII. It is false for every other text, though that may
// be a leaf.
func scan(text string) (leaf.Leaf, bool) {
	s := scanner{rest: text, good: true}
	l := leaf.Leaf{Version: leaf.Version}
	s.skip(`{"v":2`)
	l.EventID = s.member(`,"event_id":"`)
	l.Type = s.member(`,"type":"`)
	l.Time = s.time(s.member(`,"time":"`))
	l.CustomerID = s.member(`,"customer_id":"`)
	s.skip(`,"customer_sequence":`)
	l.CustomerSequence = s.number()
	if s.next(`,"previous":"`) {
		l.Previous = s.hash(s.text())
		s.good = s.good && l.Previous != tree.Hash{}
	}
	l.Actor.Type = s.member(`,"actor_type":"`)
	l.Actor.ID = s.member(`,"actor_id":"`)
	l.Action = s.member(`,"action_type":"`)
	l.ResourceType = s.member(`,"resource_type":"`)
	l.ResourceID = s.member(`,"resource_id":"`)
	l.Outcome = s.member(`,"outcome":"`)
	l.ErrorCode = s.optional(`,"error_code":"`)
	if l.Priced = s.next(`,"microcredits":`); l.Priced {
		l.Credits = s.number()
	}
	l.Steps = s.optional(`,"steps":"`)
	l.TraceID = s.optional(`,"trace_id":"`)
	l.Digest = s.hash(s.member(`,"data_digest":"`))
	s.skip(`}`)
	return l, s.good && s.rest == ""
}

// scanner goes through a text from left to right, as long as it is good.
type scanner struct {
	rest string
	good bool
}

// next goes past what must be said literally. It is false when something else stands there.
func (s *scanner) next(literal string) bool {
	rest, found := strings.CutPrefix(s.rest, literal)
	s.rest = rest
	return found
}

func (s *scanner) skip(literal string) {
	s.good = s.good && s.next(literal)
}

// text goes past the rest of a string, and its end.
func (s *scanner) text() string {
	for i := range len(s.rest) {
		switch c := s.rest[i]; {
		case c == '"':
			text := s.rest[:i]
			s.rest = s.rest[i+1:]
			return text
		case c < ' ' || c > '~' || c == '\\':
			s.good = false
			return ""
		}
	}
	s.good = false
	return ""
}

func (s *scanner) member(start string) string {
	if s.skip(start); !s.good {
		return ""
	}
	return s.text()
}

// optional is a member that is absent when it is empty.
func (s *scanner) optional(start string) string {
	if !s.next(start) {
		return ""
	}
	text := s.text()
	s.good = s.good && text != ""
	return text
}

// number goes past a whole number in its only spelling.
func (s *scanner) number() int64 {
	end := 0
	for end < len(s.rest) && (s.rest[end] == '-' || '0' <= s.rest[end] && s.rest[end] <= '9') {
		end++
	}
	n, err := strconv.ParseInt(s.rest[:end], 10, 64)
	var buffer [20]byte
	s.good = s.good && err == nil && string(strconv.AppendInt(buffer[:0], n, 10)) == s.rest[:end]
	s.rest = s.rest[end:]
	return n
}

func (s *scanner) time(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	var buffer [40]byte
	s.good = s.good && err == nil && string(t.UTC().AppendFormat(buffer[:0], time.RFC3339Nano)) == text
	return t
}

// hash reads lowercase hexadecimal digits.
func (s *scanner) hash(text string) (hash tree.Hash) {
	if len(text) != 2*len(hash) {
		s.good = false
		return hash
	}
	for i := range hash {
		high, low := digit(text[2*i]), digit(text[2*i+1])
		s.good = s.good && high >= 0 && low >= 0
		hash[i] = byte(high<<4 | low&0xf) //nolint:gosec // eight bits, when both are digits
	}
	return hash
}

func digit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10 //nolint:mnd // of the sixteen digits
	default:
		return -1
	}
}
