// Package webhook signs messages for other programs as Standard Webhooks says
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md), and tells whether they have arrived.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/problem"
)

// The headers of Standard Webhooks.
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
)

// A secret is so many bytes, in base64, after a prefix.
const (
	secretPrefix = "whsec_"
	minSecret    = 24
	maxSecret    = 64
)

var (
	// ErrSecret says that a text is no secret.
	ErrSecret = errors.New("secret is not whsec_ and 24 to 64 bytes in base64")
	// ErrAddress says that a text is not the address of a receiver.
	ErrAddress = errors.New("url is not a complete address such as https://example.com/hook, without a user name")
)

// Key signs. It is secret.
type Key []byte

// ParseSecret reads a key as receivers know it. The error is ErrSecret, and does not show the text.
func ParseSecret(secret string) (Key, error) {
	encoded, prefixed := strings.CutPrefix(secret, secretPrefix)
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if !prefixed || err != nil || len(key) < minSecret || len(key) > maxSecret {
		return nil, ErrSecret
	}
	return key, nil
}

// Secret is the key as receivers know it.
func (k Key) Secret() string {
	return secretPrefix + base64.StdEncoding.EncodeToString(k)
}

// sign is the signature of version 1.
func (k Key) sign(id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, k)
	_, _ = mac.Write([]byte(id + "." + timestamp + "."))
	_, _ = mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// ParseAddress reads the address of a receiver. The error is ErrAddress.
func ParseAddress(text string) (*url.URL, error) {
	address, err := url.Parse(text)
	if err != nil || address.Scheme != "http" && address.Scheme != "https" || address.Hostname() == "" || address.User != nil {
		return nil, ErrAddress
	}
	return address, nil
}

// Typed is the body of an event with a type, as JSON.
func Typed(kind string, at time.Time, data json.RawMessage) ([]byte, error) {
	body, err := json.Marshal(struct {
		Type      string          `json:"type"`
		Timestamp time.Time       `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	}{kind, at.UTC(), data})
	if err != nil {
		return nil, fmt.Errorf("encode the event: %w", err)
	}
	return body, nil
}

// Message is what is sent.
type Message struct {
	Address *url.URL
	// ID is the same for all attempts.
	ID   string
	At   time.Time
	Body []byte
}

// Request makes the signed request.
func (m *Message) Request(ctx context.Context, key Key) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, m.Address.String(), bytes.NewReader(m.Body))
	if err != nil {
		return nil, ErrAddress
	}
	timestamp := strconv.FormatInt(m.At.Unix(), 10)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(HeaderID, m.ID)
	request.Header.Set(HeaderTimestamp, timestamp)
	request.Header.Set(HeaderSignature, key.sign(m.ID, timestamp, m.Body))
	return request, nil
}

// Send sends a signed request, and gives the status with which the receiver has taken it. Its error is a *problem.Error, possibly inside an
// outbound.DelayError; that of a receiver who has not taken it is not shown with the receiver's own words.
func Send(network *outbound.Network, call *outbound.Call, request *http.Request) (status int, err error) {
	response, err := network.Do(call, request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	defer outbound.Discard(response)
	if err := network.Refusal(response); err != nil {
		return 0, err
	}
	// A redirect may have made a GET of it, or gone to another host, where the signature does not follow.
	arrived := response.Request.Method == http.MethodPost && response.Request.Header.Get(HeaderSignature) != ""
	switch {
	case !arrived:
		return 0, problem.Failure(problem.UpstreamRejected, "the receiver is elsewhere now: give the url that it redirects to")
	case response.StatusCode >= http.StatusMultipleChoices:
		return 0, problem.Failure(problem.UpstreamRejected, "the receiver answered %d", response.StatusCode)
	}
	return response.StatusCode, nil
}
