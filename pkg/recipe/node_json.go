package recipe

import (
	"bytes"
	"encoding/json"
	"sort"
	"strconv"
	"strings"
)

// jsonReader builds the tree from a document that json.Valid has accepted, so that its decoder cannot fail.
type jsonReader struct {
	*reader
	decoder *json.Decoder
	doc     []byte
	// starts holds the offset of the first byte of each line.
	starts []int
}

func newJSONReader(r *reader, doc []byte) *jsonReader {
	decoder := json.NewDecoder(bytes.NewReader(doc))
	decoder.UseNumber()
	starts := []int{0}
	for i, b := range doc {
		if b == '\n' {
			starts = append(starts, i+1)
		}
	}
	return &jsonReader{reader: r, decoder: decoder, doc: doc, starts: starts}
}

// place is where the next token begins.
func (r *jsonReader) place() (line, col int) {
	offset := int(r.decoder.InputOffset())
	for offset < len(r.doc) && strings.IndexByte(" \t\r\n,:", r.doc[offset]) >= 0 {
		offset++
	}
	line = sort.SearchInts(r.starts, offset+1)
	return line, offset - r.starts[line-1] + 1
}

func (r *jsonReader) next() json.Token {
	token, err := r.decoder.Token()
	if err != nil {
		return nil
	}
	return token
}

func (r *jsonReader) value(parent *node, name string, depth int) *node {
	line, col := r.place()
	n := &node{kind: kindRefused, parent: parent, token: name, line: line, col: col}
	if depth > maxDepth {
		r.report(CodeLimitExceeded, n, "nested more than %d levels deep", maxDepth)
		var skipped json.RawMessage
		_ = r.decoder.Decode(&skipped)
		return n
	}
	switch token := r.next().(type) {
	case nil:
		n.kind = kindNull
	case bool:
		n.kind, n.truth = kindBool, token
	case string:
		n.kind, n.text = kindString, token
		r.checkText(n)
	case json.Number:
		n.kind, n.text = kindNumber, token.String()
		// A number that is out of range becomes an infinity, which checkNumber refuses.
		n.number, _ = strconv.ParseFloat(n.text, 64)
		r.checkNumber(n)
	case json.Delim:
		if token == '[' {
			r.list(n, depth)
		} else {
			r.object(n, depth)
		}
	}
	return n
}

func (r *jsonReader) list(n *node, depth int) {
	n.kind = kindList
	for i := 0; r.decoder.More(); i++ {
		n.items = append(n.items, r.value(n, strconv.Itoa(i), depth+1))
	}
	r.next()
}

func (r *jsonReader) object(n *node, depth int) {
	n.kind = kindObject
	for r.decoder.More() {
		line, col := r.place()
		key, _ := r.next().(string)
		r.addField(n, field{key: key, line: line, col: col, value: r.value(n, key, depth+1)})
	}
	r.next()
}
