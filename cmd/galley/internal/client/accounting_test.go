package client_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
)

func TestAccounting(t *testing.T) {
	t.Parallel()
	answers := map[string]string{
		"POST /api/v1/recipes/quote":                                                  `{"quoted_credits":0.5,"covered":true,"steps":[{"id":"a","price":{"fixed":0.5,"max_items":2}}]}`,
		"GET /api/v1/executions/e%2F1/receipt":                                        `{"quoted_credits":0.5,"debited_credits":0.5,"refunded_credits":0.2,"credits_consumed":0.3,"settled":true}`,
		"GET /api/v1/usage?customer_id=a&from=x&group_by=day%2Ckind&time_zone=z&to=y": `{"items":[{"kind":"k","steps":2}],"total":{"units":3}}`,
		"GET /api/v1/usage?format=csv&from=x&group_by=day&to=y":                       "day\r\n",
		"GET /api/v1/statement?from=x&to=y":                                           `{"customer_id":"a","opening_balance":1.5,"adds_up":true}`,
		"GET /api/v1/statement?format=csv&from=x&to=y":                                "line\r\n",
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, known := answers[r.Method+" "+r.URL.RequestURI()]
		if !known {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(server.Close)
	c := client.New(server.URL, "")
	t.Cleanup(c.Close)

	quote, err := c.Quote(t.Context(), event.RunRequest{AgentID: "a", RecipeID: "r"})
	require.NoError(t, err)
	require.Equal(t, client.Quote{
		Quoted: 500_000, Covered: true, Steps: []client.QuotedStep{{ID: "a", Price: client.Price{Fixed: 500_000, MaxItems: 2}}},
	}, quote)
	receipt, err := c.Receipt(t.Context(), "e/1")
	require.NoError(t, err)
	require.Equal(t, client.Receipt{
		Receipt: event.Receipt{Quoted: 500_000, Debited: 500_000, Refunded: 200_000}, Consumed: 300_000, Settled: true,
	}, receipt)

	usage, err := c.Usage(t.Context(), client.Period{Customer: "a", From: "x", To: "y", TimeZone: "z"}, []string{"day", "kind"})
	require.NoError(t, err)
	require.Equal(t, client.Usage{
		Items: []client.UsageRow{{Kind: "k", Figures: client.Figures{Steps: 2}}}, Total: client.Figures{Units: 3},
	}, usage)
	period := client.Period{From: "x", To: "y"}
	table, err := c.UsageCSV(t.Context(), period, []string{"day"})
	require.NoError(t, err)
	require.Equal(t, "day\r\n", string(table))

	statement, err := c.Statement(t.Context(), period)
	require.NoError(t, err)
	require.Equal(t, client.Statement{
		CustomerID: "a", StatementReply: query.StatementReply{Opening: 1_500_000, AddsUp: true},
	}, statement)
	table, err = c.StatementCSV(t.Context(), period)
	require.NoError(t, err)
	require.Equal(t, "line\r\n", string(table))
}
