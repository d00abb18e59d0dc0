// Package client calls galley's HTTP API.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/galley-engine/galley/schemas/problem"
)

const maxBody = 16 << 20

// Client calls one server with one key. Its methods may be called at the same time.
type Client struct {
	base string
	key  string
	http *http.Client
}

// New makes a Client of the server at base, such as http://127.0.0.1:8000.
func New(base, key string) *Client {
	// A transport of its own: its idle connections end with Close.
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	return &Client{base: strings.TrimSuffix(base, "/"), key: key, http: &http.Client{Transport: transport}}
}

// Close ends the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Error is a refusal of the server (RFC 9457).
type Error struct {
	Status    int          `json:"status"`
	Detail    string       `json:"detail"`
	Code      problem.Code `json:"code"`
	Retryable bool         `json:"retryable"`
	// Errors are the places of the request that break a rule.
	Errors []Place `json:"errors"`

	body []byte
}

// Place is one place of a request that breaks a rule.
type Place struct {
	Path    string `json:"path"`
	Message string `json:"message"`
	// Code, Line and Column are given for recipe documents.
	Code   string `json:"code"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
}

// Error is the code with everything that the server said.
func (e *Error) Error() string {
	lines := []string{string(e.Code) + ": " + e.Detail}
	for _, place := range e.Errors {
		lines = append(lines, "  "+place.Path+" "+place.Message)
	}
	return strings.Join(lines, "\n")
}

// Is reports whether err is a refusal with the code.
func Is(err error, code problem.Code) bool {
	refused, answered := errors.AsType[*Error](err)
	return answered && refused.Code == code
}

// Retryable reports whether the same call may succeed later: the server says so, or it cannot be reached.
func Retryable(err error) bool {
	refused, answered := errors.AsType[*Error](err)
	_, unreachable := errors.AsType[*url.Error](err)
	return unreachable || answered && refused.Retryable
}

// request is a call of the API.
type request struct {
	method, path string
	query        url.Values
	header       map[string]string
	// body is encoded as JSON unless it is a []byte.
	body any
}

// call sends the request and decodes the answer. A refusal is an *Error.
func call[Answer any](ctx context.Context, c *Client, r request) (answer Answer, err error) {
	body, err := c.do(ctx, r)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return answer, fmt.Errorf("decode galley's answer to %s %s: %w", r.method, r.path, err)
	}
	return answer, nil
}

func (c *Client) do(ctx context.Context, r request) (answer []byte, err error) {
	response, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("read galley's answer: %w", err)
	}
	if response.StatusCode >= http.StatusBadRequest {
		return nil, refusal(response, answer)
	}
	return answer, nil
}

func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	var body []byte
	var err error
	if raw, ok := r.body.([]byte); ok {
		body = raw
	} else if r.body != nil {
		if body, err = json.Marshal(r.body); err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
	}
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	sent, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("call galley: %w", err)
	}
	if body != nil {
		sent.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		sent.Header.Set("Authorization", "Bearer "+c.key)
	}
	for name, value := range r.header {
		sent.Header.Set(name, value)
	}
	response, err := c.http.Do(sent)
	if err != nil {
		return nil, fmt.Errorf("call galley: %w", err)
	}
	return response, nil
}

func refusal(response *http.Response, answer []byte) error {
	refused := &Error{}
	if json.Unmarshal(answer, refused) != nil || refused.Code == "" {
		refused = &Error{Detail: "galley answered " + response.Status, Code: problem.Internal}
	}
	refused.Status, refused.body = response.StatusCode, answer
	return refused
}
