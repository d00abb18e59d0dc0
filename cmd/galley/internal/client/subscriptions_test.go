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
}
