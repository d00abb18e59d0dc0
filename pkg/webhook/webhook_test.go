package webhook_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/webhook"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" //nolint:gosec // the one of the examples of Standard Webhooks

// TestSignature has the example of the specification, and one that was computed with another implementation.
func TestSignature(t *testing.T) {
	t.Parallel()
	key, err := webhook.ParseSecret(secret)
	require.NoError(t, err)
	assert.Equal(t, secret, key.Secret())
	signature := webhook.Sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", `{"test": 2432232314}`)
	assert.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", signature)
}

func TestSecretsThatAreNone(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_!!", "whsec_c2hvcnQ=", "whsec_" + strings.Repeat("A", 100)} {
		_, err := webhook.ParseSecret(text)
		require.ErrorIs(t, err, webhook.ErrSecret)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for text, valid := range map[string]bool{
		"https://example.com/hook?a=b": true, "http://10.0.0.1:80": true,
		"": false, "/hook": false, "example.com": false, "ftp://example.com": false, "https://": false, "https://a:b@example.com": false, "https://%zz": false,
	} {
		_, err := webhook.ParseAddress(text)
		assert.Equal(t, valid, err == nil, text)
	}
}

func TestTyped(t *testing.T) {
	t.Parallel()
	body, err := webhook.Typed("a.b", time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600)), []byte(`{"x":1}`))
	require.NoError(t, err)
	assert.JSONEq(t, `{"type":"a.b","timestamp":"2026-01-02T02:04:05Z","data":{"x":1}}`, string(body))
}
