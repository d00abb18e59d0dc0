package reference

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/galley-engine/galley/pkg/recipe"
)

// annotations are the keywords that refuse nothing.
func annotations() []string {
	return []string{"title", "description", "default", "examples", "deprecated"}
}

// refusing are the keywords that can refuse a string, besides type.
func refusing() []string {
	return []string{
		"enum", "const", "pattern", "minLength", "maxLength", "format", "$ref", "allOf", "anyOf", "oneOf", "not", "if",
	}
}

// editorSchema is the schema of a component's input as an editor needs it: at each place where a value may be there may be a string
// with an expression instead, as the loader has it.
func editorSchema(c *component) (*object, error) {
	e := editor{kind: c.Kind}
	changed := e.schema(c.with)
	return changed, errors.Join(e.problems...)
}

type editor struct {
	kind     recipe.Kind
	problems []error
}

// value changes the schema of a place that an expression may fill.
func (e *editor) value(schema any) any {
	o, ok := schema.(*object)
	if !ok {
		return schema
	}
	changed := e.schema(o)
	if takesText(o) {
		return changed
	}
	around, rest := &object{}, &object{}
	for _, f := range changed.fields {
		if slices.Contains(annotations(), f.name) {
			around.set(f.name, f.value)
		} else {
			rest.set(f.name, f.value)
		}
	}
	around.set("anyOf", []any{definition("expression"), rest})
	return around
}

// takesText tells whether the schema takes every string, and so those with expressions.
func takesText(schema *object) bool {
	if schema.has(refusing()...) {
		return false
	}
	switch kind := schema.get("type").(type) {
	case nil:
		return true
	case []any:
		return slices.Contains(kind, any("string"))
	default:
		return kind == "string"
	}
}

// schema changes what lies inside a schema.
func (e *editor) schema(schema *object) *object {
	changed := &object{}
	for _, f := range schema.fields {
		switch f.name {
		case "$schema", "x-galley":
		case "$id", "$anchor", "$dynamicRef", "$dynamicAnchor":
			e.problems = append(e.problems, fmt.Errorf("%s cannot be used here", f.name))
		case "$ref":
			changed.set(f.name, e.reference(f.value))
		case "format":
			e.format(changed, f.value)
		case "type":
			// The definition of a format of galley's says it.
			if !strings.HasPrefix(schema.text("format"), "galley-") {
				changed.set(f.name, f.value)
			}
		case "properties", "patternProperties":
			changed.set(f.name, e.each(f.value, e.value))
		case "$defs", "dependentSchemas":
			changed.set(f.name, e.each(f.value, e.inner))
		case "additionalProperties", "unevaluatedProperties", "items", "unevaluatedItems":
			changed.set(f.name, e.value(f.value))
		case "prefixItems":
			changed.set(f.name, e.each(f.value, e.value))
		case "allOf", "anyOf":
			changed.set(f.name, e.each(f.value, e.inner))
		case "oneOf":
			e.oneOf(changed, f.value)
		case "then", "else":
			changed.set(f.name, e.inner(f.value))
		default:
			// Neither if, not and the like: what they say holds for values that are there, not for expressions.
			changed.set(f.name, e.references(f.value))
		}
	}
	return changed
}

func (e *editor) inner(schema any) any {
	if o, ok := schema.(*object); ok {
		return e.schema(o)
	}
	return schema
}

// each changes the values of an object or a list.
func (e *editor) each(values any, change func(any) any) any {
	switch values := values.(type) {
	case *object:
		changed := &object{}
		for _, f := range values.fields {
			changed.set(f.name, change(f.value))
		}
		return changed
	case []any:
		changed := make([]any, len(values))
		for i, value := range values {
			changed[i] = change(value)
		}
		return changed
	}
	return values
}

// oneOf becomes anyOf where expressions have been let in: one could fit several choices.
func (e *editor) oneOf(target *object, choices any) {
	changed := e.each(choices, e.inner)
	name := "oneOf"
	if !bytes.Equal(format(changed), format(e.references(choices))) {
		name = "anyOf"
	}
	if target.has(name) {
		e.problems = append(e.problems, fmt.Errorf("oneOf beside %s cannot be used here", name))
	}
	target.set(name, changed)
}

// format replaces the formats that only galley knows by definitions.
func (e *editor) format(target *object, format any) {
	switch format {
	case "galley-id":
		target.set("$ref", "#/$defs/id")
	case "galley-duration":
		target.set("$ref", "#/$defs/duration")
	default:
		target.set("format", format)
	}
}

// reference moves a reference to where the schema is in that of recipes.
func (e *editor) reference(ref any) any {
	path, local := strings.CutPrefix(fmt.Sprint(ref), "#")
	if !local {
		e.problems = append(e.problems, fmt.Errorf("a reference to another document: %s", path))
	}
	return "#/$defs/" + string(e.kind) + path
}

// references moves all references in a value that is otherwise left alone.
func (e *editor) references(value any) any {
	o, ok := value.(*object)
	if !ok {
		return e.each(value, e.references)
	}
	changed := &object{}
	for _, f := range o.fields {
		if f.name == "$ref" {
			changed.set(f.name, e.reference(f.value))
		} else {
			changed.set(f.name, e.references(f.value))
		}
	}
	return changed
}
