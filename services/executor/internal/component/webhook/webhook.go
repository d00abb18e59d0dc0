// Package webhook runs correspondence.webhook: JSON for another program, signed as Standard Webhooks says
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/outbound"
)

// MaxBody is the most that is sent, in bytes.
const MaxBody = 256 << 10

// The headers of Standard Webhooks.
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
)

// A secret is so many bytes, in base64, after a prefix.
const (
	secretPrefix = "whsec_"
	minSecret    = 24
	maxSecret    = 64
)

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

// typed is what is sent of an event with a type.
type typed struct {
	Type      string          `json:"type"`
	Timestamp time.Time       `json:"timestamp"`
	Data      json.RawMessage `json:"data"`
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
	response, err := c.network.Do(call, request)
	if err != nil {
		return component.Result{}, err
	}
	defer func() { _ = response.Body.Close() }()
	defer outbound.Discard(response)
	if err := c.network.Refusal(response); err != nil {
		return component.Result{}, err
	}
	// A redirect may have made a GET of it, or gone to another host, where the signature does not follow.
	arrived := response.Request.Method == http.MethodPost && response.Request.Header.Get(headerSignature) != ""
	switch {
	case !arrived:
		return component.Result{}, component.Failure(problem.UpstreamRejected, "the receiver is elsewhere now: give the url that it redirects to")
	case response.StatusCode >= http.StatusMultipleChoices:
		return component.Result{}, component.Failure(problem.UpstreamRejected, "the receiver answered %d", response.StatusCode)
	}
	return component.Result{Output: map[string]any{"status": float64(response.StatusCode)}}, nil
}

func (c *Component) newRequest(ctx context.Context, call *component.Call, with *input) (*http.Request, error) {
	target, err := url.Parse(with.URL)
	if err != nil || target.Scheme != "http" && target.Scheme != "https" || target.Hostname() == "" || target.User != nil {
		return nil, component.Failure(problem.ComponentError, "url is not a complete address such as https://example.com/hook, without a user name")
	}
	key, err := decodeSecret(with.Secret)
	if err != nil {
		return nil, err
	}
	now := c.clock()
	body, err := with.body(now)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, component.Failure(problem.ComponentError, "url is not an address")
	}
	id, timestamp := messageID(call), strconv.FormatInt(now.Unix(), 10)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(headerID, id)
	request.Header.Set(headerTimestamp, timestamp)
	request.Header.Set(headerSignature, "v1,"+sign(key, id, timestamp, body))
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
		if body, err = json.Marshal(typed{Type: in.Type, Timestamp: now.UTC(), Data: body}); err != nil {
			return nil, component.Failure(problem.ComponentError, "payload cannot be written as JSON")
		}
	}
	if len(body) > MaxBody {
		return nil, component.Failure(problem.ComponentError, "payload is larger than 256 KiB")
	}
	return body, nil
}

// decodeSecret gives the bytes of a secret. Its error does not show it.
func decodeSecret(secret string) ([]byte, error) {
	encoded, prefixed := strings.CutPrefix(secret, secretPrefix)
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if !prefixed || err != nil || len(key) < minSecret || len(key) > maxSecret {
		return nil, component.Failure(problem.ComponentError, "secret is not whsec_ and 24 to 64 bytes in base64")
	}
	return key, nil
}

// messageID is the same for all attempts of a step.
func messageID(call *component.Call) string {
	digest := sha256.Sum256([]byte(call.Execution.Customer + "/" + call.IdempotencyKey()))
	return "msg_" + hex.EncodeToString(digest[:16])
}

// sign is the signature of version 1.
func sign(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write([]byte(id + "." + timestamp + "."))
	_, _ = mac.Write(body)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
