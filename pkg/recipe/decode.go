package recipe

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/galley-engine/galley/schemas/credit"
)

// decoder takes typed values out of the tree and reports what is not as it should be. Its methods return the zero value then,
// and go on: an author wants to see every problem at once.
type decoder struct {
	*reader
	// components describes the kinds.
	components *Compiler
}

func (d *decoder) is(n *node, kind nodeKind) bool {
	if n.kind != kind && n.kind != kindRefused {
		d.report(CodeWrongType, n, "must be %s, not %s", kind, n.kind)
	}
	return n.kind == kind
}

// object checks that n is an object with no other fields than these.
func (d *decoder) object(n *node, names ...string) bool {
	if !d.is(n, kindObject) {
		return false
	}
	for _, f := range n.fields {
		if !slices.Contains(names, f.key) {
			d.reportAt(CodeUnknownField, f.value.path(), f.line, f.col, "there is no field %q here; there are %s",
				f.key, strings.Join(names, ", "))
		}
	}
	return true
}

func (d *decoder) required(n *node, name string) *node {
	value := n.field(name)
	if value == nil && n.kind == kindObject {
		d.reportAt(CodeMissingField, pointer(n.path(), name), n.line, n.col, "%q is missing", name)
	}
	return value
}

// optional is n when it is there and of this kind, else nil.
func (d *decoder) optional(n *node, kind nodeKind) *node {
	if n == nil || !d.is(n, kind) {
		return nil
	}
	return n
}

func (d *decoder) string(n *node) string {
	if !d.is(n, kindString) {
		return ""
	}
	return n.text
}

func (d *decoder) constant(n *node, name, want string) {
	if value := d.required(n, name); value != nil {
		d.oneOf(value, want)
	}
}

func (d *decoder) oneOf(n *node, allowed ...string) string {
	if !d.is(n, kindString) {
		return ""
	}
	if !slices.Contains(allowed, n.text) {
		d.report(CodeInvalidValue, n, "must be %s, not %q", strings.Join(allowed, " or "), n.text)
		return ""
	}
	return n.text
}

// id takes nil for an id that is missing, which required has reported.
func (d *decoder) id(n *node) string {
	if n == nil || !d.is(n, kindString) {
		return ""
	}
	if !isID(n.text) {
		d.report(CodeInvalidID, n, "%q is not an id: a letter or digit, then up to 63 letters, digits, - and _", n.text)
		return ""
	}
	return n.text
}

func isID(s string) bool {
	if s == "" || len(s) > 64 || s[0] == '-' || s[0] == '_' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// duration sets target when n is there and holds a duration above zero and up to limit.
func (d *decoder) duration(n *node, limit time.Duration, target *time.Duration) {
	if n == nil || !d.is(n, kindString) {
		return
	}
	value, err := parseDuration(n.text)
	switch {
	case err != nil:
		d.report(CodeInvalidDuration, n, "%v", err)
	case value <= 0 || value > limit:
		d.report(CodeInvalidDuration, n, "must be above 0 and at most %s", limit)
	default:
		*target = value
	}
}

// ParseDuration reads a duration as recipes write it (500ms, 30s, 5m, 1h30m), above zero and up to [MaxTimeout]: for one that an
// expression made.
func ParseDuration(s string) (time.Duration, error) {
	value, err := parseDuration(s)
	switch {
	case err != nil:
		return 0, err
	case value <= 0 || value > MaxTimeout:
		return 0, fmt.Errorf("%q is not above 0 and at most %s", cut(s, 40), MaxTimeout)
	}
	return value, nil
}

// parseDuration leaves out what time.ParseDuration also takes and nobody means: signs, nanoseconds, "0".
func parseDuration(s string) (time.Duration, error) {
	if ok, err := regexp.MatchString(`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`, s); err != nil || !ok {
		return 0, fmt.Errorf("%q is not a duration such as 500ms, 30s, 5m or 1h30m", cut(s, 40))
	}
	return time.ParseDuration(s)
}

func (d *decoder) amount(n *node) credit.Micro {
	switch n.kind {
	case kindString, kindNumber:
	case kindRefused:
		return 0
	default:
		d.report(CodeWrongType, n, "must be an amount of credits such as \"0.02\", not %s", n.kind)
		return 0
	}
	amount, err := credit.Parse(n.text)
	switch {
	case err != nil || strings.HasPrefix(n.text, "-"):
		d.report(CodeInvalidPrice, n, "%q is not an amount of credits from 0 with at most six decimals", n.text)
		return 0
	case amount > maxAmount:
		d.report(CodeInvalidPrice, n, "an amount is at most %s credits", maxAmount)
		return 0
	}
	return amount
}

func (d *decoder) number(n *node, low, high float64) float64 {
	if !d.is(n, kindNumber) {
		return low
	}
	if n.number < low || n.number > high {
		d.report(CodeInvalidValue, n, "must be from %v to %v", low, high)
		return low
	}
	return n.number
}

// count sets target when n is there and holds a whole number from 1 to high.
func (d *decoder) count(n *node, high int, target *int) {
	if n == nil {
		return
	}
	value := d.number(n, 1, float64(high))
	if value != float64(int(value)) {
		d.report(CodeInvalidValue, n, "must be a whole number")
	}
	*target = int(value)
}
