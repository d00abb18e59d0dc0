package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/galley-engine/galley/schemas/event"
)

func ofExecution(id, verb string) string {
	return api + "/executions/" + url.PathEscape(id) + verb
}

// Cancel ends an execution and gets its response. reason may be empty.
func (c *Client) Cancel(ctx context.Context, id, reason string) (event.Response, error) {
	return call[event.Response](ctx, c, request{
		method: http.MethodPost, path: ofExecution(id, "/cancel"), body: map[string]string{"reason": reason},
	})
}

// Successor says what an execution that follows from another one runs.
type Successor struct {
	// Version is 0 for the version that the other one ran.
	Version int `json:"version,omitempty"`
	// FromStep is where a rerun begins; empty for the first step.
	FromStep string `json:"from_step,omitempty"`
}

// Resume goes on from where an execution failed, and waits for the end of the new execution as Execute does.
func (c *Client) Resume(ctx context.Context, id string, wish Successor) (event.Response, error) {
	return call[event.Response](ctx, c, request{method: http.MethodPost, path: ofExecution(id, "/resume"), body: wish})
}

// Rerun repeats an execution, and waits for the end of the new execution as Execute does.
func (c *Client) Rerun(ctx context.Context, id string, wish Successor) (event.Response, error) {
	return call[event.Response](ctx, c, request{method: http.MethodPost, path: ofExecution(id, "/rerun"), body: wish})
}

// Signal gives an execution an event. data is JSON.
func (c *Client) Signal(ctx context.Context, id, name string, data json.RawMessage) error {
	_, err := c.do(ctx, request{method: http.MethodPost, path: ofExecution(id, "/signals/"+url.PathEscape(name)), body: data})
	return err
}

// Decision is an answer to an approval.
type Decision struct {
	Approved bool   `json:"approved"`
	Comment  string `json:"comment,omitempty"`
}

// Decide answers an approval; step is "<step>.<index>" for an item of a foreach.
func (c *Client) Decide(ctx context.Context, id, step string, decision Decision) error {
	_, err := c.do(ctx, request{method: http.MethodPost, path: ofExecution(id, "/approvals/"+url.PathEscape(step)), body: decision})
	return err
}
