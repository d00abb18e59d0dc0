package actionhttp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/galley-engine/galley/pkg/file"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// setBody gives the request one of body, form and body_file, and the header that says what it is unless the author has set it.
func (c *Component) setBody(ctx context.Context, call *component.Call, with map[string]any, request *http.Request) error {
	given := 0
	for _, name := range []string{"body", "form", "body_file"} {
		if with[name] != nil {
			given++
		}
	}
	switch {
	case given == 0:
		request.Body = http.NoBody
		return nil
	case given > 1:
		return component.Failure(problem.ComponentError, "give only one of body, form and body_file")
	case with["form"] != nil:
		text, err := encodeForm(with["form"])
		if err == nil {
			setBytes(request, []byte(text), contentTypeForm)
		}
		return err
	case with["body_file"] != nil:
		return c.setFile(ctx, call, with["body_file"], request)
	}
	contentType := request.Header.Get(headerContentType)
	if text, ok := with["body"].(string); ok && contentType != "" && !isJSON(contentType) {
		setBytes(request, []byte(text), contentType)
		return nil
	}
	encoded, err := json.Marshal(with["body"])
	if err != nil {
		return component.Failure(problem.ComponentError, "body cannot be written as JSON")
	}
	setBytes(request, encoded, contentTypeJSON)
	return nil
}

// setBytes sets a body that can be sent again, when a connection turns out to be closed or a redirect asks for it.
func setBytes(request *http.Request, body []byte, contentType string) {
	setType(request, contentType)
	request.ContentLength = int64(len(body))
	request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	request.Body = io.NopCloser(bytes.NewReader(body))
	if len(body) == 0 { // else the length would count as unknown
		request.Body = http.NoBody
	}
}

func setType(request *http.Request, contentType string) {
	if request.Header.Get(headerContentType) == "" && contentType != "" {
		request.Header.Set(headerContentType, contentType)
	}
}

// encodeForm takes scalars and lists of scalars. Null leaves a field out.
func encodeForm(value any) (string, error) {
	fields, ok := value.(map[string]any)
	if !ok {
		return "", component.Failure(problem.ComponentError, "form is not an object")
	}
	encoded := make(url.Values, len(fields))
	for name, value := range fields {
		values, isList := value.([]any)
		if !isList {
			values = []any{value}
		}
		for _, value := range values {
			if value == nil {
				continue
			}
			text, ok := scalar(value)
			if !ok {
				return "", component.Failure(problem.ComponentError, "form field %q is neither text, number, boolean nor a list of them", name)
			}
			encoded.Add(name, text)
		}
	}
	return encoded.Encode(), nil
}

// setFile sends a file of the customer, streamed out of the store.
func (c *Component) setFile(ctx context.Context, call *component.Call, value any, request *http.Request) error {
	reference, _ := value.(map[string]any)
	id, _ := reference["file"].(string)
	if id == "" {
		return component.Failure(problem.ComponentError, "body_file is not a reference to a file, such as {file: …}")
	}
	open := func() (io.ReadCloser, file.Ref, error) {
		content, stored, err := c.files.Open(ctx, call.Execution.Customer, id)
		switch {
		case errors.Is(err, file.ErrNotFound):
			err = component.Failure(problem.FileUnavailable, "the file in body_file is not there, or not any more")
		case err != nil:
			err = component.Retryable(problem.Unavailable, "the file in body_file cannot be read at the moment")
		}
		return content, stored, err
	}
	content, stored, err := open()
	if err != nil {
		return err
	}
	contentType := stored.ContentType
	if strings.ContainsFunc(contentType, isControl) {
		contentType = contentTypeBinary
	}
	setType(request, contentType)
	if stored.Size == 0 {
		request.Body = http.NoBody
		return content.Close()
	}
	request.ContentLength, request.Body = stored.Size, content
	request.GetBody = func() (io.ReadCloser, error) {
		again, _, err := open()
		return again, err
	}
	return nil
}
