package report

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
)

func metered() client.Price {
	return client.Price{Max: 300_000, Rates: []client.Rate{
		{Meter: "input_tokens", Credits: 1000, Per: 1000}, {Meter: "units", Credits: 1500, Per: 1},
	}}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	New(&out, nil).Quote(client.Quote{
		AgentID: "clerk", RecipeID: "scan", Version: 2, Quoted: 320_000, Available: 1, Steps: []client.QuotedStep{
			{ID: "open", Kind: "state.set", Max: 20_000, Price: client.Price{Fixed: 20_000, MaxItems: 1}},
			{ID: "read", Kind: "ai.chat", Max: 300_000, Price: metered()},
		},
	})
	require.Equal(t, `
  clerk/scan   version 2
  step   kind        price                                          at most
  open   state.set   0.02 an item                                      0.02
  read   ai.chat     0.001 per 1000 input tokens, 0.0015 per unit       0.3
  at most     0.32 credits
  available   0.000001 credits, not covered
`, out.String())
}

func TestReceipt(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r, price := New(&out, nil), metered()
	r.Receipt(client.Receipt{
		ExecutionID: "0190", AgentID: "clerk", RecipeID: "scan", Version: 2, Status: event.StatusPartial,
		Receipt:  event.Receipt{Quoted: 320_000, Debited: 320_000, Refunded: 309_999},
		Consumed: 10_001, Capped: 2, Settled: true,
		Steps: []client.ReceiptStep{
			{ID: "read", Kind: "ai.chat", Status: event.StepSuccess, Credits: 10_003, Usage: &event.Usage{Units: 7}, Price: &price},
			{ID: "evil\x1b", Status: event.StepPartial, Items: &event.ItemCount{Total: 3, Succeeded: 2, Failed: 1}},
		},
		Transactions: []query.Transaction{
			{ID: 1, Kind: "debit", Amount: -320_000, BalanceAfter: 680_000, CreatedAt: at(1)},
			{ID: 2, Kind: "refund", Amount: 309_999, BalanceAfter: 989_999, CreatedAt: at(2)},
		},
	})
	require.Equal(t, `
  clerk/scan   version 2, execution 0190
  step    kind      status     items   used      price                                           credits
  read    ai.chat   success            7 units   0.001 per 1000 input tokens, 0.0015 per unit   0.010003
  evil              partial   2 of 3                                                                   0
  status        partial
  quoted        0.32
  debited       0.32
  refunded      0.309999
  consumed      0.010001
  not charged   0.000002 above the debit

  Ledger
  row   time           kind       amount    balance
    1   03:04:01.005   debit       -0.32       0.68
    2   03:04:02.005   refund   0.309999   0.989999
`, out.String())
	out.Reset()
	r.Receipt(client.Receipt{Status: event.StatusAccepted})
	require.Contains(t, out.String(), "It is not settled yet")
	require.NotContains(t, out.String(), "Ledger")
}

func TestUsageAndStatement(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := New(&out, nil)
	figures := client.Figures{Executions: 1, Steps: 2, Credits: 41_234, InputTokens: 1000, OutputTokens: 117}
	r.Usage(client.Period{From: "2026-11-01", To: "2026-11-30", TimeZone: "Europe/Berlin"}, client.Usage{
		UnderWay: 3, Items: []client.UsageRow{{Day: "2026-11-02", AgentID: "cook", RecipeID: "soup", Figures: figures}}, Total: figures,
	})
	r.Statement(client.Statement{
		CustomerID: "alice", From: "2026-11-01", To: "2026-11-30", StatementReply: query.StatementReply{
			Opening: 1_000_000, Charged: 41_234, Closing: 958_767, AddsUp: true, Movements: []query.Movement{
				{Kind: "grant", GrantKind: query.GrantTopUp, Rows: 1, Credits: 1}, {Kind: "debit", Rows: 12, Credits: -41_234},
			},
		},
	})
	require.Equal(t, `
  Usage   2026-11-01 to 2026-11-30, Europe/Berlin
          day          recipe      executions   steps    credits   tokens in   tokens out   units
          2026-11-02   cook/soup            1       2   0.041234        1000          117       0
  total                                     1       2   0.041234        1000          117       0
  3 executions are under way, which are not in it

  alice   2026-11-01 to 2026-11-30, UTC
                   rows     credits
  balance before                  1
  grant (top_up)      1    0.000001
  debit              12   -0.041234
  balance after            0.958767
  charged   0.041234 credits
`, out.String())
}
