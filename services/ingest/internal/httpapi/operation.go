package httpapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
)

const (
	idPattern     = "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
	idDescription = "an id: a letter or digit, then up to 63 letters, digits, - and _"
	defaultLimit  = 50
	maxLimit      = 200
)

// id is an identifier in a parameter or in the document of a body.
type id string

// Schema implements huma.SchemaProvider.
func (id) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: idPattern, PatternDescription: idDescription}
}

// amount is what a credit.Micro looks like outside.
type amount struct{}

// Schema implements huma.SchemaProvider.
func (amount) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeNumber, Description: "Credits, with at most six decimal places"}
}

// status is what an event.Status looks like outside.
type status struct{}

// Schema implements huma.SchemaProvider.
func (status) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: []any{
		string(event.StatusAccepted), string(event.StatusRunning), string(event.StatusWaiting), string(event.StatusSuccess),
		string(event.StatusPartial), string(event.StatusFailed),
	}}
}

// configuration leaves out what huma.DefaultConfig adds: pages that load scripts from elsewhere, and $schema in every body.
func configuration() huma.Config {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	registry.RegisterTypeAlias(reflect.TypeFor[credit.Micro](), reflect.TypeFor[amount]())
	registry.RegisterTypeAlias(reflect.TypeFor[event.Status](), reflect.TypeFor[status]())
	format := huma.Format{
		Marshal: func(w io.Writer, value any) error {
			encoder := json.NewEncoder(w)
			encoder.SetEscapeHTML(false)
			return encoder.Encode(value)
		},
		Unmarshal: json.Unmarshal,
	}
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "galley", Version: "1",
				Description: "Runs recipes. Every refusal is an application/problem+json with a code.",
			},
			Components: &huma.Components{
				Schemas:         registry,
				SecuritySchemes: map[string]*huma.SecurityScheme{"key": {Type: "http", Scheme: "bearer"}},
			},
			Security: []map[string][]string{{"key": {}}},
		},
		Formats:                      map[string]huma.Format{"application/json": format, "json": format},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{ofHuma},
	}
}

// tidy takes out of the OpenAPI document what Huma takes for granted: its own errors, which ofHuma replaces, and arrays that may be null.
func tidy(schemas map[string]*huma.Schema) {
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	for _, schema := range schemas {
		for _, property := range schema.Properties {
			property.Nullable = property.Nullable && property.Type != huma.TypeArray
		}
	}
}

// documented describes a body or response in the OpenAPI document by a Go type.
func documented[T any](routes huma.API, mediaTypes ...string) map[string]*huma.MediaType {
	schema := routes.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
	content := make(map[string]*huma.MediaType, len(mediaTypes))
	for _, mediaType := range mediaTypes {
		content[mediaType] = &huma.MediaType{Schema: schema}
	}
	return content
}

// register adds an operation. body documents what the operation reads by itself; nil for none. Every error of the handler becomes a
// Problem.
func register[Input, Output any](
	a *API, routes huma.API, operation huma.Operation, body map[string]*huma.MediaType,
	handle func(ctx context.Context, caller *caller, input *Input) (*Output, error),
) {
	if operation.Responses == nil {
		operation.Responses = map[string]*huma.Response{}
	}
	operation.Responses["default"] = &huma.Response{
		Description: "A refusal", Content: documented[Problem](routes, problemType),
	}
	operation.SkipValidateBody = true
	huma.Register(routes, operation, func(ctx context.Context, input *Input) (*Output, error) {
		output, err := handle(ctx, &requestOf(ctx).caller, input)
		if err != nil {
			return nil, a.finish(ctx, err)
		}
		return output, nil
	})
	if body != nil {
		item := routes.OpenAPI().Paths[operation.Path]
		for _, added := range []*huma.Operation{item.Post, item.Put} {
			if added != nil && added.OperationID == operation.OperationID {
				added.RequestBody.Content = body
			}
		}
	}
}

// response documents a response besides the usual one.
func response(status int, description string, content map[string]*huma.MediaType) map[string]*huma.Response {
	return map[string]*huma.Response{strconv.Itoa(status): {Description: description, Content: content}}
}

// header documents a header that the operation reads by itself.
func header(name, description string) *huma.Param {
	return &huma.Param{Name: name, In: "header", Description: description, Schema: &huma.Schema{Type: huma.TypeString}}
}

// Scope is the parameter that names a customer.
type Scope struct {
	CustomerID id `query:"customer_id" doc:"The customer; needed by the operator only"`
}

func (s *Scope) customer(c *caller) (string, error) {
	return c.actFor(string(s.CustomerID), Place{In: "query", Path: "/customer_id"})
}

// Paging holds the parameters of a list.
type Paging struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"The most items that are wanted"`
	Cursor string `query:"cursor" maxLength:"500" doc:"The next_cursor of the page before"`
}

// list is a page.
type list[T any] struct {
	Items []T `json:"items"`
	// NextCursor is empty at the end.
	NextCursor string `json:"next_cursor,omitempty" doc:"Where the next page begins; absent at the end"`
}

type listOutput[T any] struct{ Body list[T] }

// page makes a page; next is nil at the end.
func page[T, C any](items []T, next *C) (*listOutput[T], error) {
	out := &listOutput[T]{Body: list[T]{Items: items}}
	if items == nil {
		out.Body.Items = []T{}
	}
	if next == nil {
		return out, nil
	}
	data, err := json.Marshal(next)
	if err != nil {
		return nil, err
	}
	out.Body.NextCursor = base64.RawURLEncoding.EncodeToString(data)
	return out, nil
}

// cursor reads where a page begins, nil for the first one.
func cursor[C any](p *Paging) (*C, error) {
	if p.Cursor == "" {
		return nil, nil //nolint:nilnil // no cursor is the first page
	}
	var read C
	data, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	if err == nil {
		err = json.Unmarshal(data, &read)
	}
	if err != nil {
		return nil, invalid(Place{In: "query", Path: "/cursor", Message: "is not a next_cursor of this list"})
	}
	return &read, nil
}

func created(isNew bool) int {
	if isNew {
		return http.StatusCreated
	}
	return http.StatusOK
}
