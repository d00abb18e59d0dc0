package recipe

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Violation is one way in which a value does not fit a JSON Schema.
type Violation struct {
	// Path is a JSON pointer into the value: to the missing or forbidden property itself where there is one.
	Path    string `json:"path"`
	Message string `json:"message"`

	tokens  []string
	missing bool
	unknown bool
}

// Violations is the error of [Recipe.ValidateInput], [Recipe.ValidateOutput] and [Schema.Validate], sorted by path.
type Violations []Violation

// Error lists the violations in one line.
func (v Violations) Error() string {
	texts := make([]string, len(v))
	for i, violation := range v {
		texts[i] = violation.Path + ": " + violation.Message
	}
	return strings.Join(texts, "; ")
}

// schemaLocation is what the library calls the document of a schema.
const schemaLocation = "galley:///schema"

// Schema is a compiled JSON Schema; nil accepts everything. It is immutable and safe for concurrent use.
type Schema struct {
	compiled *jsonschema.Schema
}

// CompileSchema compiles a JSON Schema 2020-12, as encoding/json decodes one. It reads nothing but the document: a reference to a file or
// a URL is an error, and so is a schema that would take very long to validate against. Where the document breaks the rules for
// schemas, the error is [Violations] of those.
func CompileSchema(document any) (*Schema, error) {
	compiled, err := compile(document)
	var rejected *jsonschema.SchemaValidationError
	var invalid *jsonschema.ValidationError
	switch {
	case errors.As(err, &rejected) && errors.As(rejected.Err, &invalid):
		return nil, violationsOf(invalid)
	case err != nil:
		return nil, errors.New(shorten(schemaMessage(err)))
	}
	return &Schema{compiled: compiled}, nil
}

func compile(document any) (*jsonschema.Schema, error) {
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.UseLoader(jsonschema.SchemeURLLoader{})
	compiler.AssertFormat()
	if err := compiler.AddResource(schemaLocation, document); err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	compiled, err := compiler.Compile(schemaLocation)
	if err != nil {
		return nil, err
	}
	if compiled.DraftVersion != 2020 {
		return nil, errors.New("the schema must be JSON Schema 2020-12: remove $schema")
	}
	if err := checkSize(compiled); err != nil {
		return nil, err
	}
	return compiled, nil
}

// Validate checks a value, as encoding/json decodes one. The error is [Violations].
func (s *Schema) Validate(value any) error {
	if s == nil {
		return nil
	}
	if found := s.violations(value); len(found) > 0 {
		return found
	}
	return nil
}

func (s *Schema) violations(value any) Violations {
	var invalid *jsonschema.ValidationError
	err := s.compiled.Validate(value)
	if err == nil {
		return nil
	}
	if !errors.As(err, &invalid) {
		return Violations{{Message: shorten(err.Error())}}
	}
	return violationsOf(invalid)
}

func violationsOf(invalid *jsonschema.ValidationError) Violations {
	c := violationCollector{printer: message.NewPrinter(language.English)}
	c.collect(invalid)
	slices.SortStableFunc(c.found, func(a, b Violation) int { return strings.Compare(a.Path, b.Path) })
	return c.found
}

type violationCollector struct {
	printer *message.Printer
	found   Violations
}

func (c *violationCollector) collect(e *jsonschema.ValidationError) {
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range k.Missing {
			c.add(Violation{tokens: extend(e.InstanceLocation, name), Message: "is missing", missing: true})
		}
		return
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			c.add(Violation{tokens: extend(e.InstanceLocation, name), Message: "is not a known property", unknown: true})
		}
		return
	}
	if len(e.Causes) == 0 {
		c.add(Violation{tokens: e.InstanceLocation, Message: shorten(e.ErrorKind.LocalizedString(c.printer))})
		return
	}
	for _, cause := range e.Causes {
		c.collect(cause)
	}
}

func (c *violationCollector) add(v Violation) {
	v.Path = shorten(pointers("", v.tokens))
	if len(c.found) < MaxProblems {
		c.found = append(c.found, v)
	}
}

func (v Violation) code() ProblemCode {
	switch {
	case v.missing:
		return CodeMissingField
	case v.unknown:
		return CodeUnknownField
	}
	return CodeInvalidValue
}

func extend(tokens []string, token string) []string {
	return append(slices.Clip(slices.Clone(tokens)), token)
}

func pointers(path string, tokens []string) string {
	for _, token := range tokens {
		path = pointer(path, token)
	}
	return path
}

// schema compiles a schema of the document, nil when there is none.
func (k *compilation) schema(n *node) *Schema {
	if n == nil {
		return nil
	}
	compiled, err := CompileSchema(n.native())
	if violations, ok := errors.AsType[Violations](err); ok {
		for _, v := range violations {
			k.reportBelow(n, v, CodeInvalidSchema)
		}
	} else if err != nil {
		k.report(CodeInvalidSchema, n, "%v", err)
	}
	return compiled
}

// schemaMessage leaves out how the library calls the document.
func schemaMessage(err error) string {
	if remote, ok := errors.AsType[*jsonschema.LoadURLError](err); ok {
		return fmt.Sprintf("a reference to another document is not allowed: %s", remote.URL)
	}
	return strings.ReplaceAll(err.Error(), schemaLocation, "")
}

// reportBelow reports what is wrong at a place in n, or at the nearest place above it that exists.
func (k *compilation) reportBelow(n *node, v Violation, code ProblemCode) {
	nearest, _ := n.find(v.tokens)
	k.reportAt(code, pointers(n.path(), v.tokens), nearest.line, nearest.col, "%s", v.Message)
}

// declaredProperties are the names that an input can have for certain; nil when the schema lets others in, or is too clever to
// tell.
func declaredProperties(schema *node) map[string]bool {
	properties := schema.field("properties")
	if properties == nil {
		return nil
	}
	for _, keyword := range []string{
		"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties", "dependentSchemas", "unevaluatedProperties",
	} {
		if schema.field(keyword) != nil {
			return nil
		}
	}
	if additional := schema.field("additionalProperties"); additional != nil && (additional.kind != kindBool || additional.truth) {
		return nil
	}
	names := make(map[string]bool)
	for _, f := range properties.fields {
		names[f.key] = true
	}
	return names
}
