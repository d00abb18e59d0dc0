// Package actionhttp runs action.http: one call of an HTTP API. The names of the answer's headers are in lower case, and its body is
// decoded when it says that it is JSON, else it is a string (null when it is empty).
//
// A body is sent as JSON, except a string together with a Content-Type header that is not JSON, which is sent as it is.
package actionhttp

import (
	"context"

	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/outbound"
)

// MaxBody is the most that is read of an answer, decompressed.
const MaxBody = 1 << 20

// Component is action.http.
type Component struct {
	network *outbound.Network
}

// New makes the component.
func New(network *outbound.Network) *Component {
	return &Component{network: network}
}

// Execute makes the call.
func (c *Component) Execute(ctx context.Context, call *component.Call) (component.Result, error) {
	request, err := newRequest(ctx, call)
	if err != nil {
		return component.Result{}, err
	}
	response, err := c.network.Do(call, request)
	if err != nil {
		return component.Result{}, err
	}
	defer func() { _ = response.Body.Close() }()
	if err := c.network.Refusal(response); err != nil {
		outbound.Discard(response)
		return component.Result{}, err
	}
	body, err := outbound.ReadBody(response, MaxBody)
	if err != nil {
		return component.Result{}, err
	}
	decoded, err := decodeBody(response.Header.Get("Content-Type"), body)
	if err != nil {
		return component.Result{}, err
	}
	return component.Result{Output: map[string]any{
		"status": float64(response.StatusCode), "headers": decodeHeader(response.Header), "body": decoded,
	}}, nil
}
