package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/schemas/query"
)

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked <- r.Method + " " + r.URL.EscapedPath() + " " + string(body)
		_, _ = w.Write([]byte(`{"customer_id":"a","plan":"pro","status":"active","features":["leads"],"balance":1.5}`))
	}))
	t.Cleanup(server.Close)
	c := client.New(server.URL, "")
	t.Cleanup(c.Close)
	want := query.SubscriptionReply{
		CustomerID: "a", Plan: "pro", Status: query.SubscriptionActive, Features: []string{"leads"}, Balance: 1_500_000,
	}
	got, err := c.Subscription(t.Context(), "a/b")
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, "GET /api/v1/customers/a%2Fb/subscription ", <-asked)
	got, err = c.Subscribe(t.Context(), "a", client.Terms{Plan: "pro", Status: query.SubscriptionActive, Features: []string{"leads"}})
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, `PUT /api/v1/customers/a/subscription {"plan":"pro","status":"active","features":["leads"]}`, <-asked)
	_, err = c.CancelSubscription(t.Context(), "a", true)
	require.NoError(t, err)
	require.Equal(t, `POST /api/v1/customers/a/subscription/cancel {"at":"now"}`, <-asked)
}

func TestPlans(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 2)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked <- r.Method + " " + r.URL.RequestURI() + " " + string(body)
		switch r.URL.RequestURI() {
		case "/api/v1/plans":
			_, _ = w.Write([]byte(`{"items":[{"plan_id":"a"}],"next_cursor":"x"}`))
		case "/api/v1/plans?cursor=x":
			_, _ = w.Write([]byte(`{"items":[{"plan_id":"b"}]}`))
		default:
			_, _ = w.Write([]byte(`{"plan_id":"a"}`))
		}
	}))
	t.Cleanup(server.Close)
	c := client.New(server.URL, "")
	t.Cleanup(c.Close)
	all, err := c.Plans(t.Context())
	require.NoError(t, err)
	require.Equal(t, []query.Plan{{PlanID: "a"}, {PlanID: "b"}}, all)
	require.Equal(t, []string{"GET /api/v1/plans ", "GET /api/v1/plans?cursor=x "}, []string{<-asked, <-asked})
	for want, do := range map[string]func() (query.Plan, error){
		"POST /api/v1/plans {}":          func() (query.Plan, error) { return c.PublishPlan(t.Context(), []byte("{}")) },
		"GET /api/v1/plans/a ":           func() (query.Plan, error) { return c.Plan(t.Context(), "a", 0) },
		"GET /api/v1/plans/a?version=2 ": func() (query.Plan, error) { return c.Plan(t.Context(), "a", 2) },
		"POST /api/v1/plans/a/retire ":   func() (query.Plan, error) { return c.RetirePlan(t.Context(), "a") },
	} {
		_, err := do()
		require.NoError(t, err)
		require.Equal(t, want, <-asked)
	}
}
