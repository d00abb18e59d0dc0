// Package webhook runs correspondence.webhook: JSON for another program, signed as Standard Webhooks says
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/pkg/webhook"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// MaxBody is the most that is sent, in bytes.
const MaxBody = 256 << 10

// Component is correspondence.webhook.
type Component struct {
	network *outbound.Network
	clock   clock.Clock
}

// New makes the component.
func New(network *outbound.Network, now clock.Clock) *Component {
	return &Component{network: network, clock: now}
}

type input struct {
	URL     string          `json:"url"`
	Payload json.RawMessage `json:"payload"`
	Type    string          `json:"type"`
	Secret  string          `json:"secret"`
}

// Execute sends the webhook.
func (c *Component) Execute(ctx context.Context, call *component.Call) (component.Result, error) {
	with, err := component.Input[input](call)
	if err != nil {
		return component.Result{}, err
	}
	request, err := c.newRequest(ctx, call, &with)
	if err != nil {
		return component.Result{}, err
	}
	status, err := webhook.Send(c.network, call.Outbound(), request)
	if err != nil {
		return component.Result{}, err
	}
	return component.Result{Output: map[string]any{"status": float64(status)}}, nil
}

func (c *Component) newRequest(ctx context.Context, call *component.Call, with *input) (*http.Request, error) {
	address, err := webhook.ParseAddress(with.URL)
	if err != nil {
		return nil, component.Failure(problem.ComponentError, "%v", err)
	}
	key, err := webhook.ParseSecret(with.Secret)
	if err != nil {
		return nil, component.Failure(problem.ComponentError, "%v", err)
	}
	now := c.clock()
	body, err := with.body(now)
	if err != nil {
		return nil, err
	}
	message := webhook.Message{Address: address, ID: messageID(call), At: now, Body: body}
	request, err := message.Request(ctx, key)
	if err != nil {
		return nil, component.Failure(problem.ComponentError, "%v", err)
	}
	return request, nil
}

// body is the payload as JSON, inside of an event when it has a type.
func (in *input) body(now time.Time) ([]byte, error) {
	body := []byte(in.Payload)
	if len(body) == 0 {
		body = []byte("null")
	}
	if in.Type != "" {
		var err error
		if body, err = webhook.Typed(in.Type, now, body); err != nil {
			return nil, component.Failure(problem.ComponentError, "payload cannot be written as JSON")
		}
	}
	if len(body) > MaxBody {
		return nil, component.Failure(problem.ComponentError, "payload is larger than 256 KiB")
	}
	return body, nil
}

// messageID is the same for all attempts of a step.
func messageID(call *component.Call) string {
	digest := sha256.Sum256([]byte(call.Execution.Customer + "/" + call.IdempotencyKey()))
	return "msg_" + hex.EncodeToString(digest[:16])
}
