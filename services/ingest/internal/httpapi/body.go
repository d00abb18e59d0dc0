package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// JSONBody is the body of a request that is read by decode. Like every struct that Huma finds embedded in an input, it is exported.
type JSONBody struct {
	ContentType string `header:"Content-Type" hidden:"true"`
	RawBody     []byte `contentType:"application/json"`
}

// field is a field of a JSON object that a request may have.
type field struct {
	name     string
	required bool
	// into is what json.Unmarshal fills.
	into any
	// must is what the value must be, in words.
	must string
}

// fill does not decode what is passed on as it is, an execution's input above all.
func (f *field) fill(value json.RawMessage) bool {
	if raw, asItIs := f.into.(*json.RawMessage); asItIs {
		*raw = value
		return true
	}
	return json.Unmarshal(value, f.into) == nil
}

func text(name string, into *string) field { return field{name: name, into: into, must: "a string"} }

func identifier(name string, into *string) field {
	return field{name: name, required: true, into: into, must: "a string"}
}

// decode reads a body that is a JSON object of these fields and no others. Unlike encoding/json it tells field names apart by case
// and reports every violation, with its path.
func (b *JSONBody) decode(fields ...field) error {
	if err := b.checkType("application/json"); err != nil {
		return err
	}
	var values map[string]json.RawMessage
	if err := unmarshal(b.RawBody, &values); err != nil {
		return err
	}
	var found []Place
	for _, f := range fields {
		value, given := values[f.name]
		delete(values, f.name)
		switch {
		case !given || bytes.Equal(value, []byte("null")):
			if f.required {
				found = append(found, Place{Path: "/" + f.name, Message: "is missing"})
			}
		case !f.fill(value):
			found = append(found, Place{Path: "/" + f.name, Message: "must be " + f.must})
		}
	}
	unknown := strings.NewReplacer("~", "~0", "/", "~1") // RFC 6901
	for name := range values {
		found = append(found, Place{Path: "/" + unknown.Replace(name), Message: "there is no such field here"})
	}
	if len(found) == 0 {
		return nil
	}
	slices.SortFunc(found, func(a, b Place) int { return strings.Compare(a.Path, b.Path) })
	return invalid(found...)
}

// checkType refuses a body of another media type. A body without one is taken for the first.
func (b *JSONBody) checkType(allowed ...string) error {
	name, _, _ := strings.Cut(b.ContentType, ";")
	name = strings.ToLower(strings.TrimSpace(name))
	if name == "" || slices.Contains(allowed, name) {
		return nil
	}
	p := malformed("the Content-Type must be " + strings.Join(allowed, " or "))
	p.Status, p.Title = http.StatusUnsupportedMediaType, http.StatusText(http.StatusUnsupportedMediaType)
	return p
}

func unmarshal(body []byte, into any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return malformed("the body is empty")
	}
	if !utf8.Valid(body) {
		return malformed("the body is not valid UTF-8")
	}
	err := json.Unmarshal(body, into)
	var syntax *json.SyntaxError
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return malformed(fmt.Sprintf("the body is not valid JSON: %s (byte %d)", syntax.Error(), syntax.Offset))
	case errors.As(err, &wrongType), err == nil && bytes.Equal(bytes.TrimSpace(body), []byte("null")):
		return invalid(Place{Path: "", Message: "must be an object"})
	case err != nil:
		return malformed("the body is not valid JSON")
	}
	return nil
}
