package billing_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/pkg/traceparent"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

// TestActivities: every query that changes something makes one activity, of who asked, in the trace in which it was asked, with what was
// before and after.
func TestActivities(t *testing.T) {
	t.Parallel()
	client, service := start(t, testkit.Postgres(t))
	awaitReady(t, service)
	threshold := 3 * credit.One
	for i, test := range []struct {
		query   string
		request any
		action  string
		of      string
		changes string
	}{
		{
			query.Grant,
			query.GrantRequest{ID: "g", CustomerID: "cust_1", Amount: credit.One, Actor: operator()},
			event.ActionCreditsGranted, "cust_1",
			`{"after":{"amount":1,"balance_after":1,"kind":"top_up","transaction_id":1}}`,
		},
		{
			query.Overdraft,
			query.OverdraftRequest{CustomerID: "cust_1", Limit: 2 * credit.One, Actor: operator()},
			event.ActionOverdraftChanged, "cust_1",
			`{"before":{"limit":0},"after":{"limit":2}}`,
		},
		{
			query.LowBalance,
			query.LowBalanceRequest{CustomerID: "cust_1", Threshold: &threshold, Actor: operator()},
			event.ActionLowBalanceChanged, "cust_1",
			`{"before":{"threshold":null},"after":{"threshold":3}}`,
		},
		{
			query.Subscribe,
			query.SubscribeRequest{CustomerID: "cust_1", Plan: "own", Status: query.SubscriptionActive, Actor: operator()},
			event.ActionSubscriptionUpdated, "cust_1", `{"after":{"features":[],"plan":"own","status":"active"}}`,
		},
		{
			query.CancelSubscription,
			query.CancelSubscriptionRequest{CustomerID: "cust_1", Actor: operator()},
			event.ActionSubscriptionUpdated, "cust_1", `{"before":{"status":"active"},"after":{"status":"cancelled"}}`,
		},
		{
			query.PublishPlan, query.PublishPlanRequest{PlanID: "pro", PlanTerms: query.PlanTerms{
				Name: "Pro", MonthlyCredits: credit.One, Rollover: query.Rollover{Rule: query.RolloverNone},
			}, Actor: operator()}, event.ActionPlanPublished, "", "",
		},
		{query.RetirePlan, query.RetirePlanRequest{PlanID: "pro", Actor: operator()}, event.ActionPlanRetired, "", ""},
	} {
		before := last(t, client, test.of, test.action)
		trace := fmt.Sprintf("00-%032x-00f067aa0ba902b7-01", i+1)
		_, err := bus.Ask[json.RawMessage](traceparent.With(t.Context(), trace), client, query.ServiceBilling, test.query, test.request)
		require.NoError(t, err, test.query)
		var message *jetstream.RawStreamMsg
		require.Eventually(t, func() bool {
			message = last(t, client, test.of, test.action)
			return message != nil && (before == nil || message.Sequence > before.Sequence)
		}, patience, time.Millisecond, test.query)
		var activity event.Activity
		require.NoError(t, json.Unmarshal(message.Data, &activity))
		require.Equal(t, []string{trace, "operator:operator", "operator:operator", "success", test.of}, []string{
			message.Header.Get(event.HeaderTraceParent), message.Header.Get(event.HeaderActor), activity.Actor.String(), activity.Outcome,
			activity.CustomerID,
		}, test.query)
		require.NotEmpty(t, activity.ResourceID)
		if test.changes != "" {
			require.Equal(t, test.changes, string(activity.Changes))
		}
		var sides map[string]map[string]any
		require.NoError(t, json.Unmarshal(activity.Changes, &sides))
		require.NotEmpty(t, sides["after"])

		// Asked again, nothing changes and nothing is told.
		_, err = bus.Ask[json.RawMessage](t.Context(), client, query.ServiceBilling, test.query, test.request)
		require.NoError(t, err, test.query)
	}
	stream, err := client.JS.Stream(t.Context(), subject.StreamActivity)
	require.NoError(t, err)
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter("galley.activity.>"))
	require.NoError(t, err)
	var count uint64
	for name, messages := range info.State.Subjects {
		if name != subject.Activity("", event.ActionLedgerReconciled) {
			count += messages
		}
	}
	require.EqualValues(t, 7, count)
}

// last is the last activity of an action, nil for none.
func last(t *testing.T, client *bus.Bus, customer, action string) *jetstream.RawStreamMsg {
	t.Helper()
	stream, err := client.JS.Stream(t.Context(), subject.StreamActivity)
	require.NoError(t, err)
	message, err := stream.GetLastMsgForSubject(t.Context(), subject.Activity(customer, action))
	if err != nil {
		return nil
	}
	return message
}
