package sandbox

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strings"
)

const (
	// maxNesting and maxValues bound an instance, whatever the schema says.
	maxNesting = 16
	maxValues  = 2000
)

// fill writes a small JSON document that fits the schema, with what the prompt says where that is of use. Schemas that say more than
// these do (not, if, dependentSchemas, contains) may get a document that does not fit.
func fill(schema any, prompt string) string {
	f := filler{root: schema, facts: newFacts(prompt)}
	text, err := json.Marshal(f.value(schema, place{name: "answer"}))
	if err != nil {
		return "null"
	}
	return string(text)
}

// place says where in the document a value belongs.
type place struct {
	// name is the field, or that of the list around it; index is the position there.
	name  string
	index int
	depth int
}

type filler struct {
	root  any
	facts facts
	// values counts what was made.
	values int
}

// value makes an instance of the schema.
func (f *filler) value(of any, at place) any {
	f.values++
	if at.depth > maxNesting || f.values > maxValues {
		return nil
	}
	schema := f.resolve(of)
	if constant, ok := schema["const"]; ok {
		return constant
	}
	if choices, ok := schema["enum"].([]any); ok && len(choices) > 0 {
		return f.choose(choices, at)
	}
	if examples, ok := schema["examples"].([]any); ok && len(examples) > 0 {
		return examples[at.index%len(examples)]
	}
	for _, keyword := range []string{"anyOf", "oneOf"} {
		if options, ok := schema[keyword].([]any); ok && len(options) > 0 {
			merged := maps.Clone(schema)
			delete(merged, keyword)
			merge(merged, f.resolve(options[0]))
			return f.value(merged, place{at.name, at.index, at.depth + 1})
		}
	}
	switch kindOf(schema) {
	case "object":
		return f.object(schema, at)
	case "array":
		return f.array(schema, at)
	case "integer", "number":
		return f.number(schema, at)
	case "boolean":
		return f.hash(at)%2 == 0
	case "null":
		return nil
	}
	return f.text(schema, at)
}

// resolve follows references inside the document and merges allOf. A schema that is none is the one that allows everything.
func (f *filler) resolve(of any) map[string]any {
	schema, _ := of.(map[string]any)
	for range maxNesting {
		reference, ok := schema["$ref"].(string)
		if !ok {
			break
		}
		rest := maps.Clone(schema)
		delete(rest, "$ref")
		target, _ := lookup(f.root, reference).(map[string]any)
		merge(rest, target)
		schema = rest
	}
	all, ok := schema["allOf"].([]any)
	if !ok {
		return schema
	}
	merged := maps.Clone(schema)
	delete(merged, "allOf")
	delete(merged, "$ref")
	for _, part := range all {
		if part, ok := part.(map[string]any); ok {
			if reference, ok := part["$ref"].(string); ok {
				part, _ = lookup(f.root, reference).(map[string]any)
			}
			merge(merged, part)
		}
	}
	return merged
}

// merge adds what another schema says; properties and required are united, the rest stays as it is where both say something.
func merge(into, other map[string]any) {
	for keyword, value := range other {
		switch existing := into[keyword].(type) {
		case nil:
			into[keyword] = value
		case map[string]any:
			if more, ok := value.(map[string]any); ok && keyword == "properties" {
				united := maps.Clone(more)
				maps.Copy(united, existing)
				into[keyword] = united
			}
		case []any:
			if more, ok := value.([]any); ok && keyword == "required" {
				into[keyword] = append(slices.Clone(existing), more...)
			}
		}
	}
}

// lookup finds what a reference such as #/$defs/lead refers to.
func lookup(root any, reference string) any {
	pointer, ok := strings.CutPrefix(reference, "#")
	if !ok {
		return nil
	}
	if pointer == "" {
		return root
	}
	at := root
	for token := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		fields, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = fields[strings.NewReplacer("~1", "/", "~0", "~").Replace(token)]
	}
	return at
}

// kindOf is the type that a schema asks for; the first one that is not null where it allows several.
func kindOf(schema map[string]any) string {
	switch named := schema["type"].(type) {
	case string:
		return named
	case []any:
		for _, option := range named {
			if name, ok := option.(string); ok && name != "null" {
				return name
			}
		}
		if len(named) > 0 {
			return "null"
		}
	}
	switch {
	case schema["properties"] != nil || schema["required"] != nil:
		return "object"
	case schema["items"] != nil || schema["prefixItems"] != nil:
		return "array"
	case schema["minimum"] != nil || schema["maximum"] != nil:
		return "number"
	}
	return "string"
}

// object has the fields that it must have, or all where it need not have any.
func (f *filler) object(schema map[string]any, at place) map[string]any {
	properties, _ := schema["properties"].(map[string]any)
	names := texts(schema["required"])
	if len(names) == 0 && at.depth < 3 {
		names = slices.Sorted(maps.Keys(properties))
	}
	object := make(map[string]any, len(names))
	for _, name := range names {
		property, described := properties[name]
		if more, ok := schema["additionalProperties"].(map[string]any); ok && !described {
			property = more
		}
		object[name] = f.value(property, place{name: name, index: at.index, depth: at.depth + 1})
	}
	return object
}

func (f *filler) array(schema map[string]any, at place) []any {
	first, _ := schema["prefixItems"].([]any)
	length := max(1, len(first), whole(schema["minItems"], 0))
	if schema["items"] == false {
		length = len(first)
	}
	length = min(length, whole(schema["maxItems"], length), maxValues)
	array := make([]any, 0, min(length, maxQuote))
	for i := range length {
		items := schema["items"]
		if i < len(first) {
			items = first[i]
		}
		array = append(array, f.value(items, place{name: at.name, index: at.index + i, depth: at.depth + 1}))
		if f.values > maxValues {
			break
		}
	}
	return array
}

// number is what the prompt says about the field where that fits, else one of those that do.
func (f *filler) number(schema map[string]any, at place) any {
	step := 0.01
	if kindOf(schema) == "integer" {
		step = 1
	}
	if multiple, ok := schema["multipleOf"].(float64); ok && multiple > 0 {
		step = max(multiple, math.Trunc(step))
	}
	low, bounded := schema["minimum"].(float64)
	if above, ok := schema["exclusiveMinimum"].(float64); ok && (!bounded || above >= low) {
		low, bounded = above+step, true
	}
	high, limited := schema["maximum"].(float64)
	if below, ok := schema["exclusiveMaximum"].(float64); ok && (!limited || below <= high) {
		high, limited = below-step, true
	}
	if !limited {
		high = max(low, 0) + 10*max(step, 1)
	}
	if !bounded {
		low = min(0, high)
	}
	if told, ok := f.facts.number(at); ok && told >= low && (told <= high || !limited) && isMultiple(told, step) {
		return told
	}
	first, last := math.Ceil(low/step), math.Floor(high/step)
	choices := max(1, min(last-first+1, 1000))
	chosen := (first + float64(f.hash(at)%uint64(choices))) * step
	return math.Round(chosen*1e6) / 1e6
}

func isMultiple(number, step float64) bool {
	return step < 1 || math.Abs(math.Remainder(number, step)) < 1e-9
}

// choose prefers what the prompt speaks of.
func (f *filler) choose(choices []any, at place) any {
	if told, ok := f.facts.text(at.name); ok {
		for _, choice := range choices {
			if text, ok := choice.(string); ok && strings.EqualFold(text, told) {
				return choice
			}
		}
	}
	for i := range choices {
		choice := choices[(i+at.index)%len(choices)]
		if text, ok := choice.(string); ok && f.facts.mentions(text) {
			return choice
		}
	}
	return choices[f.hash(at)%uint64(len(choices))]
}

// hash is a number that depends on the prompt and the field, and on nothing else; it goes up by one from each item of a list to the next.
func (f *filler) hash(at place) uint64 {
	hash := fnv.New64a()
	_, _ = fmt.Fprintf(hash, "%s/%s", f.facts.prompt, at.name)
	return hash.Sum64()>>1 + uint64(at.index) //nolint:gosec // an index is not negative
}

// whole is a count in a schema, or else.
func whole(value any, otherwise int) int {
	number, ok := value.(float64)
	if !ok || number < 0 || number > math.MaxInt32 {
		return otherwise
	}
	return int(number)
}

func texts(list any) []string {
	items, _ := list.([]any)
	names := make([]string, 0, len(items))
	for _, item := range items {
		if name, ok := item.(string); ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
