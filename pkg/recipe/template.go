package recipe

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/galley-engine/galley/schemas/problem"
)

// Template is a compiled JSON-like value with expressions in it. It is immutable and safe for concurrent use.
type Template struct {
	root part
}

// Eval fills the template in: map[string]any, []any, string, float64, bool and nil, as encoding/json would decode them.
//
// The value may share memory with the template and with the scope, so that nothing is copied that need not be: neither the
// value nor the scope may be changed afterwards. The error is an [*EvalError], or wraps the cause of the context's end.
func (t *Template) Eval(ctx context.Context, scope *Scope) (any, error) {
	return t.root.eval(&evaluation{ctx: ctx, scope: scope})
}

// part is one node of a template.
type part interface {
	eval(e *evaluation) (any, error)
}

// constant is a subtree without an expression.
type constant struct {
	value any
}

func (c constant) eval(*evaluation) (any, error) {
	return c.value, nil
}

type listPart []part

func (l listPart) eval(e *evaluation) (any, error) {
	values := make([]any, len(l))
	for i, item := range l {
		value, err := item.eval(e)
		if err != nil {
			return nil, err
		}
		values[i] = value
	}
	return values, nil
}

type objectPart []objectField

type objectField struct {
	key   string
	value part
}

func (o objectPart) eval(e *evaluation) (any, error) {
	values := make(map[string]any, len(o))
	for _, f := range o {
		value, err := f.value.eval(e)
		if err != nil {
			return nil, err
		}
		values[f.key] = value
	}
	return values, nil
}

// textPart is mixed text: literals and expressions in turn.
type textPart struct {
	segments []textSegment
	path     string
}

// textSegment is an expression, or a literal where there is none.
type textSegment struct {
	literal    string
	expression *expression
}

func (t textPart) eval(e *evaluation) (any, error) {
	var text strings.Builder
	for _, segment := range t.segments {
		literal := segment.literal
		if segment.expression != nil {
			value, err := segment.expression.eval(e)
			if err != nil {
				return nil, err
			}
			if literal, err = asText(value); err != nil {
				return nil, segment.expression.fail(problem.ExpressionError, err.Error())
			}
		}
		if text.Len()+len(literal) > maxResultBytes {
			return nil, &EvalError{Code: problem.ExpressionLimit, Path: t.path, Message: "the text is too long"}
		}
		text.WriteString(literal)
	}
	return text.String(), nil
}

func asText(value any) (string, error) {
	switch value := value.(type) {
	case string:
		return value, nil
	case bool:
		return strconv.FormatBool(value), nil
	case float64:
		return formatNumber(value), nil
	case nil:
		return "", errors.New("is null, which has no place in a text; write x == null ? \"\" : x")
	}
	text, err := json.Marshal(value)
	return string(text), err
}

// formatNumber writes a number as JSON does: 12, 4.5, 1e+21.
func formatNumber(f float64) string {
	if abs := math.Abs(f); f == math.Trunc(f) && abs < 1e21 {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	text, err := json.Marshal(f)
	if err != nil { // NaN or an infinity, which JSON does not have
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return string(text)
}

// segment is a piece of a template string: literal text, or the source of an expression.
type segment struct {
	text         string
	isExpression bool
}

// splitTemplate takes a string apart. "$${" is a literal "${".
func splitTemplate(s string) ([]segment, error) {
	var segments []segment
	var literal strings.Builder
	for s != "" {
		dollar := strings.IndexByte(s, '$')
		if dollar < 0 {
			literal.WriteString(s)
			break
		}
		literal.WriteString(s[:dollar])
		s = s[dollar:]
		switch {
		case strings.HasPrefix(s, "$${"):
			literal.WriteString("${")
			s = s[len("$${"):]
		case strings.HasPrefix(s, "${"):
			end := expressionEnd(s[len("${"):])
			if end < 0 {
				return nil, errors.New(`"${" has no matching "}"; write "$${" for a literal "${"`)
			}
			if literal.Len() > 0 {
				segments = append(segments, segment{text: literal.String()})
				literal.Reset()
			}
			segments = append(segments, segment{text: s[len("${") : len("${")+end], isExpression: true})
			s = s[len("${")+end+1:]
		default:
			literal.WriteByte('$')
			s = s[1:]
		}
	}
	if literal.Len() > 0 || len(segments) == 0 {
		segments = append(segments, segment{text: literal.String()})
	}
	return segments, nil
}

// soleExpression is the source of a template that is nothing but one expression. The newline at the end of a YAML block does
// not count: nobody means to turn a list into text with it.
func soleExpression(segments []segment) (string, bool) {
	alone := len(segments) == 1 || len(segments) == 2 && segments[1] == segment{text: "\n"}
	return segments[0].text, alone && segments[0].isExpression
}

// expressionEnd is the index of the "}" that ends the CEL expression at the beginning of s, or -1. Braces inside string
// literals and comments do not count, so it has to know how CEL writes those: '…', "…", and both tripled, with backslash escapes
// unless the literal is raw (r"…"), and // to the end of the line.
func expressionEnd(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '{':
			depth++
		case '}':
			if depth == 0 {
				return i
			}
			depth--
		case '"', '\'':
			length := literalLength(s[i:], isRaw(s[:i]))
			if length < 0 {
				return -1
			}
			i += length - 1
		case '/':
			if strings.HasPrefix(s[i:], "//") {
				newline := strings.IndexByte(s[i:], '\n')
				if newline < 0 {
					return -1
				}
				i += newline
			}
		}
	}
	return -1
}

// literalLength is the length of the quoted literal at the beginning of s, or -1 when it does not end.
func literalLength(s string, raw bool) int {
	quote := s[:1]
	if triple := strings.Repeat(quote, 3); strings.HasPrefix(s, triple) {
		quote = triple
	}
	for i := len(quote); i < len(s); i++ {
		switch {
		case s[i] == '\\' && !raw:
			i++
		case strings.HasPrefix(s[i:], quote):
			return i + len(quote)
		}
	}
	return -1
}

// isRaw reports whether the literal that follows has the prefix r, also together with the b of bytes.
func isRaw(before string) bool {
	prefix := strings.ToLower(before[max(0, len(before)-2):])
	return strings.HasSuffix(prefix, "r") || prefix == "rb"
}
