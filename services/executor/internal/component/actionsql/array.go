package actionsql

import (
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// maxDimensions is the most that an array of Postgres has.
const maxDimensions = 6

// elementOf is the type of the elements of an array type, for the types that decode knows and those that are texts.
func elementOf(oid uint32) (element uint32, isArray bool) {
	switch oid {
	case pgtype.BoolArrayOID:
		return pgtype.BoolOID, true
	case pgtype.Int2ArrayOID, pgtype.Int4ArrayOID, pgtype.OIDArrayOID, pgtype.Int8ArrayOID, pgtype.NumericArrayOID:
		return pgtype.NumericOID, true
	case pgtype.Float4ArrayOID, pgtype.Float8ArrayOID:
		return pgtype.Float8OID, true
	case pgtype.JSONArrayOID, pgtype.JSONBArrayOID:
		return pgtype.JSONOID, true
	case pgtype.TimestamptzArrayOID:
		return pgtype.TimestamptzOID, true
	case pgtype.TimestampArrayOID:
		return pgtype.TimestampOID, true
	case pgtype.ByteaArrayOID:
		return pgtype.ByteaOID, true
	case pgtype.TextArrayOID, pgtype.VarcharArrayOID, pgtype.BPCharArrayOID, pgtype.NameArrayOID, pgtype.UUIDArrayOID,
		pgtype.DateArrayOID, pgtype.TimeArrayOID, pgtype.TimetzArrayOID, pgtype.IntervalArrayOID, pgtype.InetArrayOID, pgtype.CIDRArrayOID:
		return pgtype.TextOID, true
	}
	return 0, false
}

// parseArray reads an array as Postgres writes it, such as {1,NULL,"a, b"}, {{1,2},{3,4}} or [0:1]={1,2}; false when it is none.
func parseArray(text string, element func(text string) any) (any, bool) {
	if strings.HasPrefix(text, "[") {
		_, after, found := strings.Cut(text, "=")
		if !found {
			return nil, false
		}
		text = after
	}
	reader := arrayReader{rest: text, element: element}
	list, ok := reader.list(1)
	return list, ok && reader.rest == ""
}

type arrayReader struct {
	rest    string
	element func(text string) any
}

// take consumes one character if it comes next.
func (r *arrayReader) take(character byte) bool {
	if r.rest == "" || r.rest[0] != character {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

func (r *arrayReader) list(depth int) ([]any, bool) {
	if depth > maxDimensions || !r.take('{') {
		return nil, false
	}
	items := []any{}
	if r.take('}') {
		return items, true
	}
	for {
		item, ok := r.item(depth)
		if !ok {
			return nil, false
		}
		items = append(items, item)
		if r.take('}') {
			return items, true
		}
		if !r.take(',') {
			return nil, false
		}
	}
}

func (r *arrayReader) item(depth int) (any, bool) {
	if strings.HasPrefix(r.rest, "{") {
		return r.list(depth + 1)
	}
	if r.take('"') {
		text, ok := r.quoted()
		if !ok {
			return nil, false
		}
		return r.element(text), true
	}
	end := strings.IndexAny(r.rest, `,{}"\`)
	if end <= 0 || r.rest[end] != ',' && r.rest[end] != '}' {
		return nil, false
	}
	text := r.rest[:end]
	r.rest = r.rest[end:]
	if text == "NULL" {
		return nil, true
	}
	return r.element(text), true
}

// quoted reads up to the closing quote; a backslash makes the next character an ordinary one.
func (r *arrayReader) quoted() (string, bool) {
	var text strings.Builder
	for i := 0; i < len(r.rest); i++ {
		switch r.rest[i] {
		case '"':
			r.rest = r.rest[i+1:]
			return text.String(), true
		case '\\':
			if i++; i == len(r.rest) {
				return "", false
			}
		}
		text.WriteByte(r.rest[i])
	}
	return "", false
}

// arrayLiteral writes an array for Postgres. Every element is quoted, which all types take.
func arrayLiteral(items []any, element uint32) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, item := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		switch item := item.(type) {
		case nil:
			b.WriteString("NULL")
		case []any:
			b.WriteString(arrayLiteral(item, element))
		default:
			b.WriteByte('"')
			b.WriteString(strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(string(encode(element, item))))
			b.WriteByte('"')
		}
	}
	b.WriteByte('}')
	return b.String()
}
