package httpapi_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
)

func TestSubscription(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	const path = "/api/v1/customers/alice/subscription"
	p := s.call(t, key, "GET", path, nil).problem(t)
	require.Equal(t, []any{503, "billing does not answer", true}, []any{p.Status, p.Detail, p.Retryable})

	var mu sync.Mutex
	var asked query.SubscribeRequest
	answer(t, s, query.ServiceBilling, query.Subscription, func(r query.SubscriptionRequest) (query.SubscriptionReply, error) {
		return query.SubscriptionReply{CustomerID: r.CustomerID, Status: query.SubscriptionNone, Features: []string{}, Balance: 1_500_000}, nil
	})
	answer(t, s, query.ServiceBilling, query.Subscribe, func(r query.SubscribeRequest) (query.SubscriptionReply, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = r
		return query.SubscriptionReply{CustomerID: r.CustomerID, Plan: r.Plan, Status: r.Status, Features: r.Features}, nil
	})
	for _, who := range []string{key, operatorKey} {
		got := s.call(t, who, "GET", path, nil)
		require.Equal(t, 200, got.status)
		require.JSONEq(t, `{"customer_id":"alice","plan":"","status":"none","features":[],"balance":1.5}`, string(got.body))
	}
	for body, want := range map[string]query.SubscribeRequest{
		`{"plan":"pro"}`: {Plan: "pro", Status: query.SubscriptionActive, Features: []string{}},
		`{"plan":"pro","status":"cancelled","features":["leads","a-b_1"]}`: {
			Plan: "pro", Status: query.SubscriptionCancelled, Features: []string{"leads", "a-b_1"},
		},
		`{"plan":"pro","status":null,"features":null}`: {Plan: "pro", Status: query.SubscriptionActive, Features: []string{}},
	} {
		require.Equal(t, 200, s.call(t, operatorKey, "PUT", path, body).status)
		want.CustomerID, want.Actor = "alice", event.Actor{Type: "operator", ID: "operator"}
		mu.Lock()
		require.Equal(t, want, asked, body)
		mu.Unlock()
	}
	many := `{"plan":"pro","features":["` + strings.Join(slices.Repeat([]string{"a"}, 101), `","`) + `"]}`
	for body, place := range map[string]string{
		`{}`: "/plan", `{"plan":""}`: "/plan", `{"plan":"a b"}`: "/plan", `{"plan":1}`: "/plan", `{"plan":"p","status":"none"}`: "/status",
		`{"plan":"p","status":1}`: "/status", `{"plan":"p","features":"a"}`: "/features", `{"plan":"p","features":["a",""]}`: "/features/1",
		`{"plan":"p","price":1}`: "/price", many: "/features",
	} {
		refused := s.call(t, operatorKey, "PUT", path, body).problem(t)
		require.Equal(t, []any{422, place}, []any{refused.Status, places(refused)}, body)
	}
	require.Equal(t, 403, s.call(t, key, "PUT", path, `{"plan":"pro"}`).status)
	require.Equal(t, 403, s.call(t, key, "GET", "/api/v1/customers/bob/subscription", nil).status)
	for _, method := range []string{"GET", "PUT"} {
		require.Equal(t, 404, s.call(t, operatorKey, method, "/api/v1/customers/nobody/subscription", `{"plan":"pro"}`).status)
	}
}
