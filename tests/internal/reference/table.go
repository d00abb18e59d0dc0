package reference

import (
	"slices"
	"strings"
)

// maxNesting bounds how deep a table looks into objects; a schema may refer to itself.
const maxNesting = 6

// row is one field of an input or output.
type row struct {
	name, kind, unless, description string
}

// table lists the fields of a JSON Schema, those of objects inside by their dotted names.
type table struct {
	root *object
	rows []row
}

func rowsOf(schema *object) []row {
	t := table{root: schema}
	t.fields("", schema, 0)
	return t.rows
}

// fields adds the fields of an object, and of each of the choices that it leaves.
func (t *table) fields(prefix string, schema *object, depth int) {
	schema = t.resolve(schema)
	if schema == nil || depth > maxNesting {
		return
	}
	if properties := schema.object("properties"); properties != nil {
		for _, f := range properties.fields {
			t.field(prefix+f.name, f.value, required(schema, f.name), depth)
		}
	}
	if more := schema.object("additionalProperties"); more != nil && prefix != "" {
		t.inside(prefix+"<name>", more, depth)
	}
	for _, keyword := range []string{"allOf", "anyOf", "oneOf"} {
		for _, choice := range schema.list(keyword) {
			if choice, ok := choice.(*object); ok {
				t.fields(prefix, choice, depth+1)
			}
		}
	}
}

func (t *table) field(name string, value any, required bool, depth int) {
	schema, ok := value.(*object)
	if !ok || slices.ContainsFunc(t.rows, func(r row) bool { return r.name == name }) {
		// A choice that says more about a field that has a row.
		return
	}
	resolved := t.resolve(schema)
	r := row{name: name, kind: t.kind(schema, 0), description: schema.text("description")}
	if r.description == "" {
		r.description = resolved.text("description")
	}
	if resolved.has("default") {
		r.unless = "`" + plain(resolved.get("default")) + "`"
	}
	if required {
		r.unless = "required"
	}
	t.rows = append(t.rows, r)
	t.inside(name, schema, depth)
}

// inside adds what the value of a field consists of.
func (t *table) inside(name string, schema *object, depth int) {
	resolved := t.resolve(schema)
	t.fields(name+".", resolved, depth+1)
	if items := resolved.object("items"); items != nil {
		t.inside(name+"[]", items, depth+1)
	}
	for _, keyword := range []string{"anyOf", "oneOf"} {
		for _, choice := range resolved.list(keyword) {
			choice, _ := choice.(*object)
			if items := t.resolve(choice).object("items"); items != nil && depth < maxNesting {
				t.inside(name+"[]", items, depth+1)
			}
		}
	}
}

func required(schema *object, name string) bool {
	return slices.Contains(schema.list("required"), any(name))
}

// resolve follows a reference within the schema.
func (t *table) resolve(schema *object) *object {
	for range maxNesting {
		if !schema.has("$ref") {
			return schema
		}
		target := t.root
		for _, token := range strings.Split(strings.TrimPrefix(schema.text("$ref"), "#"), "/")[1:] {
			target = target.object(token)
		}
		schema = target
	}
	return nil
}

// kind says in words what a value is, with its limits.
func (t *table) kind(schema *object, depth int) string {
	schema = t.resolve(schema)
	if schema == nil || depth > maxNesting {
		return "any value"
	}
	for _, keyword := range []string{"oneOf", "anyOf"} {
		if schema.has("type", "properties") {
			break
		}
		var kinds []string
		for _, choice := range schema.list(keyword) {
			if choice, ok := choice.(*object); ok {
				kinds = append(kinds, t.kind(choice, depth+1))
			}
		}
		if len(kinds) > 0 {
			return strings.Join(slices.Compact(kinds), " or ")
		}
	}
	switch {
	case schema.has("enum"):
		return choices(schema.list("enum"))
	case schema.has("const"):
		return "`" + plain(schema.get("const")) + "`"
	}
	if types := schema.list("type"); types != nil {
		var kinds []string
		for _, name := range types {
			one := with(&object{}, schema)
			one.set("type", name)
			kinds = append(kinds, t.kind(one, depth+1))
		}
		return strings.Join(kinds, " or ")
	}
	switch schema.text("type") {
	case "string":
		return text(schema)
	case "integer", "number":
		return schema.text("type") + span(schema, "minimum", "maximum", "")
	case "array":
		list := "list" + span(schema, "minItems", "maxItems", "")
		if items := schema.object("items"); items != nil {
			list += " of " + t.kind(items, depth+1)
		}
		return list
	case "object":
		if more := schema.object("additionalProperties"); more != nil {
			return "object of " + t.kind(more, depth+1)
		}
		return "object"
	case "":
		return "any value"
	}
	return schema.text("type")
}

func text(schema *object) string {
	switch schema.text("format") {
	case "galley-id":
		return "id"
	case "galley-duration":
		return "duration"
	case "date-time":
		return "time"
	case "email":
		return "e-mail address"
	}
	return "string" + span(schema, "minLength", "maxLength", " characters")
}

// span is the limits of a value, or of its length.
func span(schema *object, low, high, unit string) string {
	least, most := schema.text(low), schema.text(high)
	switch {
	case most != "" && most == least:
		return " (" + most + unit + ")"
	case least != "" && most != "":
		return " (" + least + " to " + most + unit + ")"
	case most != "":
		return " (up to " + most + unit + ")"
	case least != "" && unit == "":
		return " (from " + least + ")"
	}
	// That a text is not empty goes without saying.
	return ""
}

func choices(values []any) string {
	var names []string
	for _, value := range values {
		names = append(names, "`"+plain(value)+"`")
	}
	return strings.Join(names, ", ")
}

// plain is a value as an author writes it.
func plain(value any) string {
	if text, ok := value.(string); ok {
		return text
	}
	return inline(value)
}
