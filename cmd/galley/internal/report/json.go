package report

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/galley-engine/galley/schemas/event"
)

const (
	maxColumns = 6
	// maxCell is the longest text that a table has room for.
	maxCell = 40
	maxRows = 8
)

// records finds the list of objects in the data of a response that is worth a table: the first by name that is not empty. name is
// "" when there is none.
func records(data json.RawMessage) (name string, list []map[string]any) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return "", nil
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		list = nil
		if json.Unmarshal(fields[name], &list) == nil && len(list) > 0 {
			return name, list
		}
	}
	return "", nil
}

// columnsOf chooses the fields to show of a list of objects: those that hold a text or number, the telling ones first.
func columnsOf(list []map[string]any) []string {
	telling := []string{"name", "title", "score", "rating", "reviews", "city", "state", "phone", "email", "website"}
	rank := func(name string) int {
		if i := slices.Index(telling, name); i >= 0 {
			return i
		}
		return len(telling)
	}
	var names []string
	for name, value := range list[0] {
		switch value := value.(type) {
		case string:
			if len(value) <= maxCell {
				names = append(names, name)
			}
		case float64, bool:
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	return names[:min(len(names), maxColumns)]
}

// proseOf are the fields of a list of objects that hold a text too long for a table.
func proseOf(list []map[string]any) []string {
	var names []string
	for name, value := range list[0] {
		if text, ok := value.(string); ok && len(text) > maxCell {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// envelope is the response as JSON. A list that a table has shown is left out.
func envelope(response event.Response, shown string) string {
	var fields map[string]json.RawMessage
	if shown != "" && json.Unmarshal(response.Data, &fields) == nil {
		fields[shown] = json.RawMessage(`"` + ellipsis + ` as above"`)
		response.Data = encode(fields)
	}
	return layout(encode(response))
}

// encode leaves <, > and & as they are. Values of these types can always be encoded.
func encode(value any) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value)
	return bytes.TrimSpace(out.Bytes())
}

// layout breaks compact JSON into lines. What is inside of an element of a list stays on its line.
func layout(compact []byte) string {
	var out strings.Builder
	var open []byte
	quoted, escaped := false, false
	breakLine := func(depth int) bool {
		if list := bytes.IndexByte(open, '['); list >= 0 && list < len(open)-1 {
			return false
		}
		out.WriteString("\n" + strings.Repeat(indent, depth))
		return true
	}
	for i, c := range compact {
		switch {
		case quoted:
			out.WriteByte(c)
			quoted = escaped || c != '"'
			escaped = !escaped && c == '\\'
		case c == '{' || c == '[':
			out.WriteByte(c)
			open = append(open, c)
			if compact[i+1] != c+2 {
				breakLine(len(open))
			}
		case c == '}' || c == ']':
			if compact[i-1] != c-2 {
				breakLine(len(open) - 1)
			}
			open = open[:len(open)-1]
			out.WriteByte(c)
		case c == ',':
			out.WriteByte(c)
			if !breakLine(len(open)) {
				out.WriteByte(' ')
			}
		case c == ':':
			out.WriteString(": ")
		default:
			out.WriteByte(c)
			quoted = c == '"'
		}
	}
	return out.String()
}
