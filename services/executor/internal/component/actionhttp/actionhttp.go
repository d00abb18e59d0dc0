// Package actionhttp runs action.http: one call of an HTTP API, or one for each page of a list. The names of the answer's headers are in
// lower case, and its body is decoded when it says that it is JSON, else it is a string (null when it is empty), unless the recipe asks for
// another form.
//
// A body is sent as JSON, except a string together with a Content-Type header that is not JSON, which is sent as it is; a form and a
// file have their own fields.
package actionhttp

import (
	"context"
	"net/http"

	"github.com/galley-engine/galley/pkg/file"
	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// MaxBody is the most that is read of an answer, decompressed, and of all pages of a list together. An answer that becomes a file may have
// file.MaxBytes.
const MaxBody = 1 << 20

// Component is action.http.
type Component struct {
	network *outbound.Network
	files   *file.Store
}

// New makes the component.
func New(network *outbound.Network, files *file.Store) *Component {
	return &Component{network: network, files: files}
}

// Execute makes the call.
func (c *Component) Execute(ctx context.Context, call *component.Call) (component.Result, error) {
	with, _ := call.With.(map[string]any)
	target, err := target(with["url"], with["query"])
	if err != nil {
		return component.Result{}, err
	}
	if with["paginate"] != nil {
		return c.list(ctx, call, with, target)
	}
	form, err := formOf(with["response"])
	if err != nil {
		return component.Result{}, err
	}
	request, err := c.newRequest(ctx, call, with, target)
	if err != nil {
		return component.Result{}, err
	}
	response, err := c.send(call, request)
	if err != nil {
		return component.Result{}, err
	}
	defer func() { _ = response.Body.Close() }()
	var body any
	if form == formFile {
		body, err = c.keep(ctx, call, response)
	} else {
		body, err = read(form, response)
	}
	if err != nil {
		return component.Result{}, err
	}
	return component.Result{Output: map[string]any{
		"status": float64(response.StatusCode), "headers": decodeHeader(response.Header), "body": body,
	}}, nil
}

// send gives the answer unless it is a refusal; the caller closes its body. Its error is a *problem.Error, possibly with a delay.
func (c *Component) send(call *component.Call, request *http.Request) (*http.Response, error) {
	response, err := c.network.Do(call.Outbound(), request)
	if err != nil {
		_ = request.Body.Close() // a call that the circuit breaker stopped has not closed it
		return nil, err
	}
	if err := c.network.Refusal(response); err != nil {
		outbound.Discard(response)
		_ = response.Body.Close()
		return nil, err
	}
	return response, nil
}
