package report

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
)

func TestBalance(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := New(&out, nil)
	over := at(5)
	r.Balance(query.BalanceReply{CustomerID: "alice", Grants: []query.Lot{}})
	r.Balance(query.BalanceReply{
		CustomerID: "bob", Posted: 12 * credit.One, Available: 17 * credit.One, Overdraft: 5 * credit.One, Grants: []query.Lot{
			{ID: "month", Kind: query.GrantMonthly, Amount: 10 * credit.One, Remaining: 2_500_000, ExpiresAt: &over},
			{ID: "bought", Kind: query.GrantTopUp, Amount: 9_500_000, Remaining: 9_500_000},
		},
	})
	require.Equal(t, `
  alice   0 credits

  bob   17 credits
  balance     12 credits
  overdraft   5 credits
  grant     left    of   expires               id
  monthly    2.5    10   2026-01-02 03:04:05   month
  top_up     9.5   9.5   never                 bought

`, out.String())
}
