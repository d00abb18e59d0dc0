package actionhttp

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

const (
	headerContentType = "Content-Type"
	contentTypeJSON   = "application/json"
)

// newRequest builds the request. Its error is a *problem.Error: the author's values came out of templates, so that the recipe's
// publication could not check them.
func newRequest(ctx context.Context, call *component.Call) (*http.Request, error) {
	with, _ := call.With.(map[string]any)
	method, err := method(with["method"])
	if err != nil {
		return nil, err
	}
	target, err := target(with["url"], with["query"])
	if err != nil {
		return nil, err
	}
	header, err := header(with["headers"])
	if err != nil {
		return nil, err
	}
	body, err := body(with["body"], header)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, component.Failure(problem.ComponentError, "method and url do not make a request")
	}
	request.Header = header
	return request, nil
}

func method(value any) (string, error) {
	name, ok := value.(string)
	switch {
	case value == nil:
		return http.MethodGet, nil
	case !ok, !isToken(name), name == http.MethodConnect:
		return "", component.Failure(problem.ComponentError, "method is not an HTTP method")
	}
	return name, nil
}

func target(value, query any) (string, error) {
	text, ok := value.(string)
	if !ok {
		return "", component.Failure(problem.ComponentError, "url is not a text")
	}
	parsed, err := url.Parse(text)
	switch {
	case err != nil || parsed.Hostname() == "":
		return "", component.Failure(problem.ComponentError, "url is not a complete address such as https://example.com/path")
	case parsed.Scheme != "http" && parsed.Scheme != "https":
		return "", component.Failure(problem.AddressRefused, "url is neither http nor https")
	case parsed.User != nil:
		return "", component.Failure(problem.ComponentError, "url holds a user name: send an Authorization header instead")
	}
	if err := addQuery(parsed, query); err != nil {
		return "", err
	}
	return parsed.String(), nil
}

// addQuery adds to what the url has already. Null leaves a parameter out.
func addQuery(target *url.URL, value any) error {
	if value == nil {
		return nil
	}
	fields, ok := value.(map[string]any)
	if !ok {
		return component.Failure(problem.ComponentError, "query is not an object")
	}
	query := target.Query()
	for name, value := range fields {
		if value == nil {
			continue
		}
		text, ok := scalar(value)
		if !ok {
			return component.Failure(problem.ComponentError, "query parameter %q is neither text, number nor boolean", name)
		}
		query.Add(name, text)
	}
	target.RawQuery = query.Encode()
	return nil
}

func scalar(value any) (string, bool) {
	switch value := value.(type) {
	case string:
		return value, true
	case bool:
		return strconv.FormatBool(value), true
	case float64:
		text, err := json.Marshal(value)
		return string(text), err == nil
	}
	return "", false
}

func header(value any) (http.Header, error) {
	header := make(http.Header)
	fields, ok := value.(map[string]any)
	if value != nil && !ok {
		return nil, component.Failure(problem.ComponentError, "headers is not an object")
	}
	for name, value := range fields {
		text, ok := scalar(value)
		switch {
		case !isToken(name):
			return nil, component.Failure(problem.ComponentError, "%q is not the name of a header", name)
		case !ok || strings.ContainsFunc(text, isControl):
			return nil, component.Failure(problem.ComponentError, "the value of header %q is not one line of text", name)
		case isReserved(name):
			return nil, component.Failure(problem.ComponentError, "header %q is set by galley", name)
		}
		header.Set(name, text)
	}
	return header, nil
}

// isReserved tells headers that frame the message, name the other side, or are galley's own.
func isReserved(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "proxy-") || slices.Contains([]string{
		"host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "keep-alive", "expect",
		"idempotency-key", event.HeaderTraceParent,
	}, name)
}

func body(value any, header http.Header) (io.Reader, error) {
	if value == nil {
		return http.NoBody, nil
	}
	contentType := header.Get(headerContentType)
	if text, ok := value.(string); ok && contentType != "" && !isJSON(contentType) {
		return strings.NewReader(text), nil
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, component.Failure(problem.ComponentError, "body cannot be written as JSON")
	}
	if contentType == "" {
		header.Set(headerContentType, contentTypeJSON)
	}
	return bytes.NewReader(encoded), nil
}

func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == contentTypeJSON || media == "text/json" || strings.HasSuffix(media, "+json"))
}

func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

func isControl(r rune) bool {
	return r < ' ' && r != '\t' || r == 0x7f
}
