package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// operatorKey, secretsKey and auditKey are those of split mode; galley up makes its own.
const (
	operatorKey = "galley_admin_0123456789abcdef0123456789abcdef"
	auditKey    = "PRIVATE+KEY+galley-test+5007e685+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	secretsKey  = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
)

const callTimeout = 60 * time.Second

// Client calls the HTTP API with one key; an empty key sends none.
type Client struct {
	Base string
	Key  string
}

// Answer is an HTTP response, read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// String is the answer as a person wants to see it.
func (a Answer) String() string { return fmt.Sprintf("%d %s", a.Status, a.Body) }

// JSON decodes the body.
func (a Answer) JSON(target any) error {
	if err := json.Unmarshal(a.Body, target); err != nil {
		return fmt.Errorf("decode %s: %w", a, err)
	}
	return nil
}

// Call sends body, as it is when it is []byte and as JSON otherwise, nothing when it is nil. Headers are names and values in turn.
func (c *Client) Call(ctx context.Context, method, path string, body any, headers ...string) (Answer, error) {
	var reader io.Reader = http.NoBody
	switch body := body.(type) {
	case nil:
	case []byte:
		reader = bytes.NewReader(body)
	default:
		text, err := json.Marshal(body)
		if err != nil {
			return Answer{}, fmt.Errorf("encode request: %w", err)
		}
		reader = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, c.Base+path, reader)
	if err != nil {
		return Answer{}, fmt.Errorf("make request: %w", err)
	}
	if c.Key != "" {
		request.Header.Set("Authorization", "Bearer "+c.Key)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer response.Body.Close() //nolint:errcheck // it was read to its end
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return Answer{Status: response.StatusCode, Header: response.Header, Body: text}, nil
}
