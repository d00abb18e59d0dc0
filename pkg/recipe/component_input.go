package recipe

import (
	"slices"
	"strconv"
	"time"
)

// checkWith checks the literal parts of a component's input against its schema; a template can become anything.
func (k *compilation) checkWith(kind Kind, with *node) {
	component := k.component(kind)
	if component == nil {
		return
	}
	for _, v := range component.schema.violations(with.native()) {
		if at, exists := with.find(v.tokens); !exists || !at.isTemplate() {
			k.reportBelow(with, v, v.code())
		}
	}
	d := &decoder{reader: k.reader, components: k.Compiler}
	switch kind {
	case KindChat:
		k.chat(with)
	case KindRecipeRun:
		d.id(with.literal("agent"))
		d.id(with.literal("recipe"))
	case KindWaitFor:
		k.wait(d, with.literal("duration"))
	case KindWaitEvent:
		d.id(with.literal("name"))
		k.wait(d, with.literal("timeout"))
	case KindApproval:
		k.wait(d, with.literal("timeout"))
	case KindStateDelete:
		k.fieldNames(with.field("fields"))
	default:
	}
}

// chat checks what is asked, and in which form the answer is to be, as far as it is known.
func (k *compilation) chat(with *node) {
	prompt, messages := with.field("prompt"), with.field("messages")
	switch {
	case prompt == nil && messages == nil:
		k.reportAt(CodeMissingField, pointer(with.path(), "prompt"), with.line, with.col, "give prompt or messages")
	case prompt != nil && messages != nil && !prompt.isTemplate() && !messages.isTemplate(): // one of two templates may be null
		k.report(CodeInvalidValue, messages, "give either prompt or messages, not both")
	}
	if wanted := with.field("output_schema"); wanted != nil && wanted.kind == kindObject && !wanted.holdsTemplate() {
		k.schema(wanted)
	}
}

// fieldNames refuses names that are known only when the step runs: what the state holds is checked before.
func (k *compilation) fieldNames(list *node) {
	if list == nil {
		return
	}
	for _, n := range append([]*node{list}, list.items...) {
		if n.isTemplate() {
			k.report(CodeInvalidValue, n, "name the fields themselves: an expression cannot say which")
		}
	}
}

func (k *compilation) wait(d *decoder, n *node) {
	var wait time.Duration
	if d.duration(n, MaxTimeout, &wait); wait > k.timeout {
		k.report(CodeInvalidDuration, n, "the whole recipe may take only %s: raise timeout under spec to wait for %s", k.timeout, wait)
	}
}

// literal is the field when it is a string without expressions; anything else is not known yet or has been reported.
func (n *node) literal(name string) *node {
	f := n.field(name)
	if f == nil || f.kind != kindString || f.isTemplate() {
		return nil
	}
	return f
}

// find is the node at these reference tokens, or the nearest one above it and false.
func (n *node) find(tokens []string) (*node, bool) {
	for _, token := range tokens {
		next := n.field(token)
		if i, err := strconv.Atoi(token); n.kind == kindList && err == nil && i >= 0 && i < len(n.items) {
			next = n.items[i]
		}
		if next == nil {
			return n, false
		}
		n = next
	}
	return n, true
}

// isTemplate reports whether the node is a string with an expression in it.
func (n *node) isTemplate() bool {
	if n.kind != kindString {
		return false
	}
	segments, err := splitTemplate(n.text)
	return err != nil || slices.ContainsFunc(segments, func(s segment) bool { return s.isExpression })
}

// holdsTemplate reports whether the node or anything below it is a template.
func (n *node) holdsTemplate() bool {
	return n.isTemplate() || slices.ContainsFunc(n.items, (*node).holdsTemplate) ||
		slices.ContainsFunc(n.fields, func(f field) bool { return f.value.holdsTemplate() })
}
