package actionhttp

import (
	"context"
	"encoding/base64"
	"encoding/json"
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
	headerContentType   = "Content-Type"
	headerAuthorization = "Authorization"
	contentTypeJSON     = "application/json"
	contentTypeForm     = "application/x-www-form-urlencoded"
	contentTypeBinary   = "application/octet-stream"
)

// newRequest builds the request. Its error is a *problem.Error: the author's values came out of templates, so that the recipe's
// publication could not check them.
func (c *Component) newRequest(ctx context.Context, call *component.Call, with map[string]any, target *url.URL) (*http.Request, error) {
	method, err := method(with["method"])
	if err != nil {
		return nil, err
	}
	header, err := header(with["headers"])
	if err != nil {
		return nil, err
	}
	if err := authorize(with["auth"], header); err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, target.String(), http.NoBody)
	if err != nil {
		return nil, component.Failure(problem.ComponentError, "method and url do not make a request")
	}
	request.Header = header
	return request, c.setBody(ctx, call, with, request)
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

func target(value, query any) (*url.URL, error) {
	text, ok := value.(string)
	if !ok {
		return nil, component.Failure(problem.ComponentError, "url is not a text")
	}
	parsed, err := url.Parse(text)
	switch {
	case err != nil || parsed.Hostname() == "":
		return nil, component.Failure(problem.ComponentError, "url is not a complete address such as https://example.com/path")
	case parsed.Scheme != "http" && parsed.Scheme != "https":
		return nil, component.Failure(problem.AddressRefused, "url is neither http nor https")
	case parsed.User != nil:
		return nil, component.Failure(problem.ComponentError, "url holds a user name: use auth instead")
	}
	if err := addQuery(parsed, query); err != nil {
		return nil, err
	}
	return parsed, nil
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

// authorize writes auth as the Authorization header, which a redirect to another origin does not get.
func authorize(value any, header http.Header) error {
	if value == nil {
		return nil
	}
	if header.Get(headerAuthorization) != "" {
		return component.Failure(problem.ComponentError, "give either auth or an Authorization header")
	}
	fields, _ := value.(map[string]any)
	basic, _ := fields["basic"].(map[string]any)
	token, _ := fields["bearer"].(string)
	username, hasName := basic["username"].(string)
	password, hasPassword := basic["password"].(string)
	switch {
	case hasName && hasPassword && token == "" && !strings.Contains(username, ":"):
		header.Set(headerAuthorization, "Basic "+base64.StdEncoding.EncodeToString([]byte(username+":"+password)))
	case basic == nil && token != "" && !strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		header.Set(headerAuthorization, "Bearer "+token)
	default:
		return component.Failure(problem.ComponentError, "auth is neither basic, with a username without a colon and a password, nor bearer, "+
			"with a token of printable characters")
	}
	return nil
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
