package recipe

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

func (d *document) canonical() []byte {
	var b bytes.Buffer
	d.root.writeCanonical(&b)
	return b.Bytes()
}

func (n *node) writeCanonical(b *bytes.Buffer) {
	switch n.kind {
	case kindList:
		b.WriteByte('[')
		for i, item := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			item.writeCanonical(b)
		}
		b.WriteByte(']')
	case kindObject:
		fields := slices.Clone(n.fields)
		slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.key, b.key) })
		b.WriteByte('{')
		for i, f := range fields {
			if i > 0 {
				b.WriteByte(',')
			}
			writeJSON(b, f.key)
			b.WriteByte(':')
			f.value.writeCanonical(b)
		}
		b.WriteByte('}')
	case kindNull, kindBool, kindNumber, kindString, kindRefused:
		writeJSON(b, n.native())
	}
}

// writeJSON cannot fail: scalars of a document are finite numbers, valid UTF-8, booleans and null.
func writeJSON(b *bytes.Buffer, scalar any) {
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(scalar); err == nil {
		b.Truncate(b.Len() - 1) // the newline
	}
}
