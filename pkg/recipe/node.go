package recipe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

type nodeKind string

const (
	kindNull   nodeKind = "null"
	kindBool   nodeKind = "a boolean"
	kindNumber nodeKind = "a number"
	kindString nodeKind = "a string"
	kindList   nodeKind = "a list"
	kindObject nodeKind = "an object"
	// kindRefused is a value that has been reported already and has no type.
	kindRefused nodeKind = "refused"
)

// node is a value of a document with its place. YAML and JSON both become this tree, so that everything after it does not care
// which of the two an author wrote.
type node struct {
	kind      nodeKind
	line, col int
	// parent and token say where the node hangs; the root has no parent. Paths are built from them only when a problem is
	// reported: kept in each node, they would let a small document with a long key fill the memory.
	parent *node
	token  string
	// text is the content of a string, and a number as it was written: prices must not pass through a float.
	text   string
	truth  bool
	number float64
	items  []*node
	fields []field
	byKey  map[string]*node
}

type field struct {
	key       string
	line, col int
	value     *node
}

// field is nil when there is no such field, also of a nil node.
func (n *node) field(key string) *node {
	if n == nil {
		return nil
	}
	return n.byKey[key]
}

// path is the JSON pointer to the node.
func (n *node) path() string {
	if n.parent == nil {
		return ""
	}
	return pointer(n.parent.path(), n.token)
}

// native is the value as encoding/json would decode it.
func (n *node) native() any {
	switch n.kind {
	case kindBool:
		return n.truth
	case kindNumber:
		return n.number
	case kindString:
		return n.text
	case kindList:
		list := make([]any, len(n.items))
		for i, item := range n.items {
			list[i] = item.native()
		}
		return list
	case kindObject:
		object := make(map[string]any, len(n.fields))
		for _, f := range n.fields {
			object[f.key] = f.value.native()
		}
		return object
	case kindNull, kindRefused:
	}
	return nil
}

// reader builds the tree and collects what is wrong with it.
type reader struct {
	problems Problems
}

// reportAt keeps a problem. Foreign text in it is cut: an error message is not a way to get a document back many times.
func (r *reader) reportAt(code ProblemCode, path string, line, col int, format string, args ...any) {
	if len(r.problems) >= MaxProblems {
		return
	}
	r.problems = append(r.problems, Problem{
		Code: code, Path: shorten(path), Line: line, Column: col, Message: shorten(fmt.Sprintf(format, args...)),
	})
}

func (r *reader) report(code ProblemCode, n *node, format string, args ...any) {
	r.reportAt(code, n.path(), n.line, n.col, format, args...)
}

func shorten(s string) string {
	return cut(s, 450)
}

func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// read returns nil when the document is too broken to look into.
func (r *reader) read(doc []byte) *node {
	if len(doc) > MaxDocumentBytes {
		r.reportAt(CodeLimitExceeded, "", 1, 1, "the document has %d bytes, at most %d are allowed", len(doc), MaxDocumentBytes)
		return nil
	}
	if !utf8.Valid(doc) {
		r.reportAt(CodeSyntax, "", 1, 1, "the document is not UTF-8")
		return nil
	}
	// JSON is read as JSON although YAML nearly contains it: the surrogate pairs that JSON writers emit are an error in YAML.
	if trimmed := bytes.TrimLeft(doc, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '{' && json.Valid(doc) {
		return newJSONReader(r, doc).value(nil, "", 0)
	}
	return r.readYAML(doc)
}

func (r *reader) readYAML(doc []byte) *node {
	decoder := yaml.NewDecoder(bytes.NewReader(doc))
	var root yaml.Node
	if err := decoder.Decode(&root); err != nil {
		line, message := yamlError(err)
		r.reportAt(CodeSyntax, "", line, 1, "%s", message)
		return nil
	}
	if root.Kind != yaml.DocumentNode || len(root.Content) != 1 {
		r.reportAt(CodeSyntax, "", 1, 1, "the document is empty")
		return nil
	}
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case err == nil:
		r.reportAt(CodeSyntax, "", max(second.Line, 1), 1, "one document at a time: remove the second one")
	case !errors.Is(err, io.EOF):
		line, message := yamlError(err)
		r.reportAt(CodeSyntax, "", line, 1, "%s", message)
	}
	return r.fromYAML(root.Content[0], nil, "", 0)
}

// fromYAML goes on after what it refuses, so that the rest of the document is still looked at.
func (r *reader) fromYAML(y *yaml.Node, parent *node, token string, depth int) *node {
	n := &node{kind: kindRefused, parent: parent, token: token, line: y.Line, col: y.Column}
	switch {
	case depth > maxDepth:
		r.report(CodeLimitExceeded, n, "nested more than %d levels deep", maxDepth)
		return n
	case y.Kind == yaml.AliasNode || y.Anchor != "":
		r.report(CodeSyntax, n, "YAML anchors and aliases are not allowed: write the value out")
		return n
	}
	switch y.Kind {
	case yaml.ScalarNode:
		r.scalar(n, y)
	case yaml.SequenceNode:
		n.kind = kindList
		r.checkTag(n, y, "!!seq")
		for i, item := range y.Content {
			n.items = append(n.items, r.fromYAML(item, n, strconv.Itoa(i), depth+1))
		}
	case yaml.MappingNode:
		n.kind = kindObject
		r.checkTag(n, y, "!!map")
		for i := 0; i+1 < len(y.Content); i += 2 {
			r.yamlField(n, y.Content[i], y.Content[i+1], depth)
		}
	default:
		r.report(CodeSyntax, n, "not a YAML value")
	}
	return n
}

func (r *reader) checkTag(n *node, y *yaml.Node, allowed string) {
	if tag := y.ShortTag(); tag != allowed {
		r.report(CodeSyntax, n, "the YAML tag %s is not allowed", tag)
	}
}

func (r *reader) yamlField(n *node, key, value *yaml.Node, depth int) {
	if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" || key.Anchor != "" {
		r.reportAt(CodeSyntax, n.path(), key.Line, key.Column, "a key must be a string: put it in quotes")
		return
	}
	r.addField(n, field{
		key: key.Value, line: key.Line, col: key.Column, value: r.fromYAML(value, n, key.Value, depth+1),
	})
}

// checkText refuses the one character that a Postgres text or jsonb column cannot hold.
func (r *reader) checkText(n *node) {
	if strings.IndexByte(n.text, 0) >= 0 {
		r.report(CodeInvalidValue, n, "the character U+0000 is not allowed")
	}
}

func (r *reader) addField(n *node, f field) {
	if n.byKey[f.key] != nil {
		r.reportAt(CodeDuplicateKey, f.value.path(), f.line, f.col, "the key %q is there twice", f.key)
		return
	}
	if strings.IndexByte(f.key, 0) >= 0 {
		r.reportAt(CodeInvalidValue, n.path(), f.line, f.col, "the character U+0000 is not allowed in a key")
		return
	}
	if n.byKey == nil {
		n.byKey = make(map[string]*node)
	}
	n.byKey[f.key] = f.value
	n.fields = append(n.fields, f)
}

func (r *reader) scalar(n *node, y *yaml.Node) {
	n.text = y.Value
	switch tag := y.ShortTag(); tag {
	case "!!str", "!!timestamp":
		n.kind = kindString
		r.checkText(n)
	case "!!null":
		n.kind = kindNull
	case "!!bool":
		n.kind = kindBool
		if err := y.Decode(&n.truth); err != nil {
			r.report(CodeSyntax, n, "not a boolean")
		}
	case "!!int", "!!float":
		n.kind = kindNumber
		if err := y.Decode(&n.number); err != nil {
			r.report(CodeSyntax, n, "not a number")
			return
		}
		r.checkNumber(n)
	default:
		r.report(CodeSyntax, n, "the YAML tag %s is not allowed", tag)
	}
}

// checkNumber refuses what a JSON number cannot carry from one program to another: NaN, infinities, and whole numbers that
// would change on their way through a float64.
func (r *reader) checkNumber(n *node) {
	switch {
	case math.IsNaN(n.number) || math.IsInf(n.number, 0):
		r.report(CodeInvalidValue, n, "%s is not a JSON number", n.text)
		n.number = 0
	case math.Abs(n.number) >= maxExactInteger && n.number == math.Trunc(n.number):
		r.report(CodeInvalidValue, n, "the number %s cannot be kept exactly: put it in quotes", n.text)
	}
}

// yamlError splits "yaml: line 3: did not find …" into line and message.
func yamlError(err error) (line int, message string) {
	if errors.Is(err, io.EOF) {
		return 1, "the document is empty"
	}
	message = err.Error()
	if _, scanErr := fmt.Sscanf(message, "yaml: line %d:", &line); scanErr != nil {
		line = 1
	}
	return line, message
}
