package report

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/query"
)

func TestSubscription(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := New(&out, nil)
	since := at(5)
	r.Subscription(query.SubscriptionReply{CustomerID: "alice", Status: query.SubscriptionNone, Features: []string{}})
	r.Subscription(query.SubscriptionReply{
		CustomerID: "alice", Plan: "pro\x1b", Status: query.SubscriptionActive, Features: []string{"exports", "leads"}, Balance: 1_500_000, UpdatedAt: &since,
	})
	require.Equal(t, `  alice has no subscription

  alice   active
  plan       pro`+" "+`
  features   exports, leads
  balance    1.5 credits
  since      2026-01-02 03:04:05
`, out.String())
}
