package billing_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	client, service := start(t, testkit.Postgres(t))
	awaitReady(t, service)
	asked := query.SubscriptionRequest{CustomerID: "cust_1"}
	none, refusal := ask[json.RawMessage](t, client, query.Subscription, asked)
	require.Nil(t, refusal)
	assert.JSONEq(t, `{"customer_id": "cust_1", "plan": "", "status": "none", "features": [], "balance": 0}`, string(none))
	_, refusal = ask[query.GrantReply](t, client, query.Grant, query.GrantRequest{ID: "g", CustomerID: "cust_1", Amount: 2 * credit.One})
	require.Nil(t, refusal)

	set, refusal := ask[query.SubscriptionReply](t, client, query.Subscribe, query.SubscribeRequest{
		CustomerID: "cust_1", Plan: "pro", Status: query.SubscriptionActive, Features: []string{"leads"},
		Actor: event.Actor{Type: "operator", ID: "admin"},
	})
	require.Nil(t, refusal)
	require.NotNil(t, set.UpdatedAt)
	assert.Equal(t, query.SubscriptionReply{
		CustomerID: "cust_1", Plan: "pro", Status: query.SubscriptionActive, Features: []string{"leads"}, Balance: 2 * credit.One, UpdatedAt: set.UpdatedAt,
	}, set)
	got, refusal := ask[query.SubscriptionReply](t, client, query.Subscription, asked)
	require.Nil(t, refusal)
	assert.Equal(t, set, got)

	require.Eventually(t, func() bool {
		stream, err := client.JS.Stream(t.Context(), subject.StreamActivity)
		if err != nil {
			return false
		}
		_, err = stream.GetLastMsgForSubject(t.Context(), subject.Activity("cust_1", "subscription.updated"))
		return err == nil
	}, patience, 10*time.Millisecond)
}

func TestSubscriptionsRefuse(t *testing.T) {
	t.Parallel()
	client, service := start(t, testkit.Postgres(t))
	awaitReady(t, service)
	set := func(change func(*query.SubscribeRequest)) query.SubscribeRequest {
		request := query.SubscribeRequest{CustomerID: "cust_1", Plan: "pro", Status: query.SubscriptionActive}
		change(&request)
		return request
	}
	for name, test := range map[string]struct {
		query   string
		request any
		message string
	}{
		"of everybody":        {query.Subscription, query.SubscriptionRequest{CustomerID: "*"}, "customer_id"},
		"of nobody":           {query.Subscription, query.SubscriptionRequest{}, "customer_id"},
		"for everybody":       {query.Subscribe, set(func(r *query.SubscribeRequest) { r.CustomerID = "*" }), "customer_id"},
		"no plan":             {query.Subscribe, set(func(r *query.SubscribeRequest) { r.Plan = "" }), "plan must match"},
		"a plan with a space": {query.Subscribe, set(func(r *query.SubscribeRequest) { r.Plan = "a b" }), "plan must match"},
		"no status":           {query.Subscribe, set(func(r *query.SubscribeRequest) { r.Status = "" }), "active or cancelled"},
		"status none":         {query.Subscribe, set(func(r *query.SubscribeRequest) { r.Status = query.SubscriptionNone }), "active or cancelled"},
		"an empty feature":    {query.Subscribe, set(func(r *query.SubscribeRequest) { r.Features = []string{"a", ""} }), "each of the features"},
		"many features":       {query.Subscribe, set(func(r *query.SubscribeRequest) { r.Features = slices.Repeat([]string{"a"}, 101) }), "at most 100"},
		"a broken actor":      {query.Subscribe, set(func(r *query.SubscribeRequest) { r.Actor.ID = "a\r\nb: c" }), "actor"},
		"a long actor":        {query.Subscribe, set(func(r *query.SubscribeRequest) { r.Actor.ID = strings.Repeat("a", 200) }), "actor"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, refusal := ask[json.RawMessage](t, client, test.query, test.request)
			require.NotNil(t, refusal)
			assert.Equal(t, problem.InvalidRequest, refusal.Code)
			assert.Contains(t, refusal.Message, test.message)
		})
	}
}
