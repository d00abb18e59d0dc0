package httpapi_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/query"
)

func TestStatement(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	const path = "/api/v1/statement?from=2026-11-01&to=2026-11-30"
	require.Equal(t, 503, s.call(t, key, "GET", path, nil).problem(t).Status, "billing does not answer")
	var mu sync.Mutex
	var asked query.StatementRequest
	answer(t, s, query.ServiceBilling, query.Statement, func(r query.StatementRequest) (query.StatementReply, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = r
		return query.StatementReply{
			Opening: 1_000_000, Charged: 29_999, Closing: 10_970_001, AddsUp: true,
			Movements: []query.Movement{
				{Kind: "grant", GrantKind: query.GrantTopUp, Rows: 2, Credits: 10_000_000},
				{Kind: "debit", Rows: 2, Credits: -40_000},
				{Kind: "refund", Rows: 1, Credits: 10_001},
			},
		}, nil
	})
	for who, named := range map[string]string{key: "", operatorKey: "&customer_id=alice"} {
		got := s.call(t, who, "GET", path+named, nil)
		require.Equal(t, 200, got.status, string(got.body))
		require.JSONEq(t, `{
			"customer_id": "alice", "from": "2026-11-01", "to": "2026-11-30", "time_zone": "UTC",
			"opening_balance": 1, "closing_balance": 10.970001, "credits_charged": 0.029999, "adds_up": true,
			"movements": [{"kind": "grant", "grant_kind": "top_up", "rows": 2, "credits": 10}, {"kind": "debit", "rows": 2, "credits": -0.04},
				{"kind": "refund", "rows": 1, "credits": 0.010001}]
		}`, string(got.body))
	}
	got := s.call(t, key, "GET", path+"&format=csv&time_zone=America/New_York", nil)
	require.Equal(t, []any{200, "text/csv; charset=utf-8; header=present", `attachment; filename="statement-2026-11-01-2026-11-30.csv"`}, []any{
		got.status, got.header.Get("Content-Type"), got.header.Get("Content-Disposition"),
	})
	require.Equal(t, "line,grant_kind,rows,credits\r\nopening_balance,,,1\r\ngrant,top_up,2,10\r\ndebit,,2,-0.04\r\n"+
		"refund,,1,0.010001\r\nclosing_balance,,,10.970001\r\n", string(got.body))
	mu.Lock()
	defer mu.Unlock()
	// Daylight saving ends on the first day of this period: it begins at UTC-4 and ends at UTC-5.
	require.Equal(t, []any{"alice", "2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z"}, []any{
		asked.CustomerID, asked.From.UTC().Format(time.RFC3339), asked.To.UTC().Format(time.RFC3339),
	})
}

// Both reports read their periods alike.
func TestPeriodsThatAreRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	for asked, want := range map[string]string{
		"":                              "query:/from query:/to",
		"from=2026-11-01":               "query:/to",
		"from=2026-11-02&to=2026-11-01": "query:/to",
		"from=2026-11-1&to=2026-11-02":  "query:/from",
		"from=yesterday&to=2026-02-30":  "query:/from query:/to",
		"from=2026-11-01T00:00:00Z&to=2026-11-02":           "query:/from",
		"from=2026-01-01&to=2026-04-03":                     "query:/to", // 93 days
		"from=2026-11-01&to=2026-11-02&time_zone=Mars/Base": "query:/time_zone",
		"from=2026-11-01&to=2026-11-02&time_zone=Local":     "query:/time_zone",
		"from=2026-11-01&to=2026-11-02&time_zone=../etc":    "query:/time_zone",
		"from=2026-11-01&to=2026-11-02&format=xlsx":         "query:/format",
		"from=2026-11-01&to=2026-11-02&customer_id=a.b":     "query:/customer_id",
		"from=2026-11-01&to=2026-11-02&granularity=fine":    "query:/granularity",
	} {
		for _, report := range []string{"usage", "statement"} {
			refused := s.call(t, key, "GET", "/api/v1/"+report+"?"+asked, nil).problem(t)
			require.Equal(t, []any{422, want}, []any{refused.Status, places(refused)}, report+"?"+asked)
		}
	}
	longest := s.call(t, key, "GET", "/api/v1/usage?from=2026-01-01&to=2026-04-02", nil)
	require.Equal(t, 200, longest.status, "92 days: "+string(longest.body))
}
