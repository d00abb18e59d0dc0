package report

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/schemas/query"
)

func TestWebhook(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := New(&out, nil)
	r.Webhook(client.Webhook{AuditWebhook: query.AuditWebhook{URL: "https://example.com", IntervalSeconds: 3600}, Secret: "whsec_x"})
	r.Webhook(client.Webhook{AuditWebhook: query.AuditWebhook{
		URL: "https://example.com", IntervalSeconds: 60, DeliveredSize: 7, DeliveredAt: new(at(1)), Failures: 2, LastError: "no\x1b", NextAttempt: at(3),
		Withheld: "it is of another key",
	}})
	require.Equal(t, `  url             https://example.com
  at most every   1h0m0s
  delivered       nothing yet
  secret          whsec_x
  the secret is shown this once: the receiver checks the messages with it
  url             https://example.com
  at most every   1m0s
  delivered       7 rows, 2026-01-02 03:04:01
  failed since    2 times: no 
  next attempt    2026-01-02 03:04:03
  NOTHING IS DELIVERED: it is of another key
`, out.String())
}
