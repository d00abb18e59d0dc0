package event

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxChanges is the most bytes that Changes gives.
const MaxChanges = 16 << 10

const (
	// Omitted stands in place of a member that was too large.
	Omitted = "[omitted]"

	// maxCut is what is left of a text that was too large, maxNesting how deep values may go.
	maxCut     = 256
	maxNesting = 32
	ellipsis   = "…"
)

var errNoObject = errors.New("what was changed is not a JSON object")

// Changes makes the changes of an Activity out of what there was before and what there is afterwards: values that JSON writes as objects, nil
// for nothing. The result is {"before": …, "after": …} with the members that differ, objects within them reduced in the same way; before is
// absent when something was made, after when it is gone. It is nil when nothing differs.
//
// Secrets are replaced by Redacted: what a name such as "password" or "api_key" stands for, what is below one of the names secret, and text
// that looks like a key itself. Whether a secret differs can be seen, but not what it is. What is over MaxChanges is cut off or replaced by
// Omitted, the largest members first.
func Changes(before, after any, secret ...string) (json.RawMessage, error) {
	was, err := objectOf(before)
	if err != nil {
		return nil, err
	}
	is, err := objectOf(after)
	if err != nil {
		return nil, err
	}
	if was != nil && is != nil {
		if was, is = differences(was, is, 0); len(was) == 0 && len(is) == 0 {
			return nil, nil
		}
	}
	if was == nil && is == nil {
		return nil, nil
	}
	clean := redaction{names: secret}
	return encodeChanges(clean.object(was, false, 0), clean.object(is, false, 0))
}

// objectOf gives a value as JSON has it; nil for null.
func objectOf(value any) (map[string]any, error) {
	encoded, err := Encode(value)
	if err != nil {
		return nil, fmt.Errorf("encode what was changed: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(encoded))
	decoder.UseNumber() // amounts stay exact
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		return nil, errNoObject
	}
	return object, nil
}

// differences leaves out what is the same on both sides.
func differences(before, after map[string]any, depth int) (was, is map[string]any) {
	was, is = map[string]any{}, map[string]any{}
	for name, old := range before {
		current, kept := after[name]
		if !kept {
			was[name] = old
			continue
		}
		if reflect.DeepEqual(old, current) {
			continue
		}
		left, leftIsObject := old.(map[string]any)
		right, rightIsObject := current.(map[string]any)
		if leftIsObject && rightIsObject && depth < maxNesting {
			was[name], is[name] = differences(left, right, depth+1)
		} else {
			was[name], is[name] = old, current
		}
	}
	for name, current := range after {
		if _, known := before[name]; !known {
			is[name] = current
		}
	}
	return was, is
}

// side is the members of before or after.
type side struct {
	isBefore bool
	members  map[string]any
}

// member is one that may be too large.
type member struct {
	of   *side
	name string
	size int
}

func encodeChanges(before, after map[string]any) (json.RawMessage, error) {
	var sides []*side
	if before != nil {
		sides = append(sides, &side{true, before})
	}
	if after != nil {
		sides = append(sides, &side{false, after})
	}
	encoded, err := encodeSides(sides)
	if err != nil || len(encoded) <= MaxChanges {
		return encoded, err
	}
	if err := shrink(sides, len(encoded)); err != nil {
		return nil, err
	}
	if encoded, err = encodeSides(sides); err != nil || len(encoded) <= MaxChanges {
		return encoded, err
	}
	for _, s := range sides {
		if err := s.truncate(MaxChanges/len(sides) - len(`{"before":{},`)); err != nil {
			return nil, err
		}
	}
	return encodeSides(sides)
}

// order has before come first.
func order(a, b *side) int {
	switch {
	case a.isBefore == b.isBefore:
		return 0
	case a.isBefore:
		return -1
	}
	return 1
}

func encodeSides(sides []*side) ([]byte, error) {
	var whole struct {
		Before *map[string]any `json:"before,omitempty"`
		After  *map[string]any `json:"after,omitempty"`
	}
	for _, s := range sides {
		if s.isBefore {
			whole.Before = &s.members
		} else {
			whole.After = &s.members
		}
	}
	return Encode(&whole)
}

// shrink makes the largest members small, until the whole of size bytes is small enough or all are.
func shrink(sides []*side, size int) error {
	var members []member
	for _, s := range sides {
		for name, value := range s.members {
			encoded, err := Encode(value)
			if err != nil {
				return err
			}
			members = append(members, member{s, name, len(encoded)})
		}
	}
	slices.SortFunc(members, func(a, b member) int {
		return cmp.Or(b.size-a.size, strings.Compare(a.name, b.name), order(a.of, b.of))
	})
	for _, large := range members {
		if size <= MaxChanges || large.size <= len(Omitted)+2 {
			return nil
		}
		small := Omitted
		if text, isText := large.of.members[large.name].(string); isText {
			small = cut(text)
		}
		encoded, err := Encode(small)
		if err != nil {
			return err
		}
		large.of.members[large.name] = small
		size -= large.size - len(encoded)
	}
	return nil
}

// cut shortens a text, and leaves no half of a character.
func cut(text string) string {
	if len(text) <= maxCut {
		return text
	}
	text = text[:maxCut]
	for text != "" {
		if last, size := utf8.DecodeLastRuneInString(text); last != utf8.RuneError || size > 1 {
			break
		}
		text = text[:len(text)-1]
	}
	return text + ellipsis
}

// truncate keeps as many members as fit, in the order of their names, and counts the others.
func (s *side) truncate(limit int) error {
	names := slices.Sorted(maps.Keys(s.members))
	left := limit - len(`"…":"+9223372036854775807 more"`)
	for i, name := range names {
		encoded, err := Encode(map[string]any{name: s.members[name]})
		if err != nil {
			return err
		}
		if left -= len(encoded); left >= 0 {
			continue
		}
		for _, dropped := range names[i:] {
			delete(s.members, dropped)
		}
		s.members[ellipsis] = fmt.Sprintf("+%d more", len(names)-i)
		return nil
	}
	return nil
}
