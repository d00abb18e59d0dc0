package reference

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// lineLength is how long a line of a formatted document may be before what is on it is broken up.
const lineLength = 140

// object is a JSON object whose fields keep their order: people read what is generated, and the order is part of what it says.
// All other values are what encoding/json makes of them; numbers are json.Number, as they were written.
type object struct {
	fields []field
}

type field struct {
	name  string
	value any
}

// of makes an object of names and values in turn.
func of(namesAndValues ...any) *object {
	made := &object{}
	for pair := range slices.Chunk(namesAndValues, 2) {
		made.set(fmt.Sprint(pair[0]), pair[1])
	}
	return made
}

// get is the value of a field, nil without one or without an object.
func (o *object) get(name string) any {
	if o == nil {
		return nil
	}
	for _, f := range o.fields {
		if f.name == name {
			return f.value
		}
	}
	return nil
}

func (o *object) has(names ...string) bool {
	return o != nil && slices.ContainsFunc(o.fields, func(f field) bool { return slices.Contains(names, f.name) })
}

// set replaces a field, or adds it at the end.
func (o *object) set(name string, value any) {
	for i := range o.fields {
		if o.fields[i].name == name {
			o.fields[i].value = value
			return
		}
	}
	o.fields = append(o.fields, field{name, value})
}

// object is the object in a field, nil when there is none.
func (o *object) object(name string) *object {
	found, _ := o.get(name).(*object)
	return found
}

func (o *object) list(name string) []any {
	found, _ := o.get(name).([]any)
	return found
}

// text is the string or number in a field, "" when there is none.
func (o *object) text(name string) string {
	switch value := o.get(name).(type) {
	case string:
		return value
	case json.Number:
		return value.String()
	}
	return ""
}

// parse reads one JSON document.
func parse(text []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	value, err := parseValue(decoder)
	if err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the document")
	}
	return value, nil
}

func parseObject(text []byte) (*object, error) {
	value, err := parse(text)
	if err != nil {
		return nil, err
	}
	parsed, ok := value.(*object)
	if !ok {
		return nil, errors.New("not an object")
	}
	return parsed, nil
}

func parseValue(decoder *json.Decoder) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		made := &object{}
		for decoder.More() {
			name, err := decoder.Token()
			if err != nil {
				return nil, err
			}
			value, err := parseValue(decoder)
			if err != nil {
				return nil, err
			}
			made.set(fmt.Sprint(name), value)
		}
		_, err = decoder.Token()
		return made, err
	case json.Delim('['):
		list := []any{}
		for decoder.More() {
			value, err := parseValue(decoder)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		_, err = decoder.Token()
		return list, err
	}
	return token, nil
}

// format writes a document in one fixed form: what fits into a line is on one.
func format(value any) []byte {
	return []byte(layout(value, 0, 0) + "\n")
}

// layout writes a value that begins at this column of a line indented so deep.
func layout(value any, indent, column int) string {
	short := inline(value)
	if column+len(short) <= lineLength {
		return short
	}
	const step = 2
	inner := strings.Repeat(" ", indent+step)
	var lines []string
	first, last := "[", "]"
	switch value := value.(type) {
	case *object:
		first, last = "{", "}"
		for _, f := range value.fields {
			name := inline(f.name) + ": "
			lines = append(lines, inner+name+layout(f.value, indent+step, indent+step+len(name)+len(",")))
		}
	case []any:
		for _, element := range value {
			lines = append(lines, inner+layout(element, indent+step, indent+step+len(",")))
		}
	default:
		return short
	}
	return first + "\n" + strings.Join(lines, ",\n") + "\n" + strings.Repeat(" ", indent) + last
}

// inline writes a value on one line.
func inline(value any) string {
	var parts []string
	switch value := value.(type) {
	case *object:
		for _, f := range value.fields {
			parts = append(parts, inline(f.name)+": "+inline(f.value))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		for _, element := range value {
			parts = append(parts, inline(element))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	// Only strings, numbers, truth values and null are left, which can always be written.
	_ = encoder.Encode(value)
	return strings.TrimSuffix(text.String(), "\n")
}
