package billing_test

import (
	"encoding/json"
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
	"github.com/galley-engine/galley/services/billing"
)

func operator() event.Actor { return event.Actor{Type: "operator", ID: "operator"} }

func TestPlansAndPeriods(t *testing.T) {
	t.Parallel()
	url, now := testkit.Postgres(t), testkit.NewClock(time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC))
	client, service := startAt(t, url, now.Now)
	awaitReady(t, service)
	terms := query.PlanTerms{Name: "Pro", MonthlyCredits: 100 * credit.One, Rollover: query.Rollover{Rule: query.RolloverCapped, Max: credit.One}}
	published, refusal := ask[query.PublishPlanReply](t, client, query.PublishPlan, query.PublishPlanRequest{PlanID: "pro", PlanTerms: terms, Actor: operator()})
	require.Nil(t, refusal)
	listed, refusal := ask[query.PlansReply](t, client, query.Plans, query.PlansRequest{Limit: 10})
	require.Nil(t, refusal)
	assert.Equal(t, []query.Plan{published.Plan}, listed.Plans)
	found, refusal := ask[query.Plan](t, client, query.OnePlan, query.PlanRequest{PlanID: "pro", Version: 1})
	require.Nil(t, refusal)
	assert.Equal(t, published.Plan, found)

	begun, refusal := ask[query.SubscriptionReply](t, client, query.Subscribe, query.SubscribeRequest{
		CustomerID: "cust_1", Plan: "pro", Status: query.SubscriptionActive, Actor: operator(),
	})
	require.Nil(t, refusal)
	assert.Equal(t, []any{1, 1, 100 * credit.One}, []any{begun.Version, begun.Period.Number, begun.Balance})
	_, refusal = ask[query.Plan](t, client, query.RetirePlan, query.RetirePlanRequest{PlanID: "pro", Actor: operator()})
	require.Nil(t, refusal)

	now.Set(begun.Period.End)
	require.NoError(t, client.Due(t.Context(), subject.PeriodDue("cust_1")))
	renewed := func() bool {
		stream, err := client.JS.Stream(t.Context(), subject.StreamActivity)
		if err != nil {
			return false
		}
		_, err = stream.GetLastMsgForSubject(t.Context(), subject.Activity("cust_1", "subscription.renewed"))
		return err == nil
	}
	require.Eventually(t, renewed, patience, 10*time.Millisecond, "a plan that is retired goes on for those who have it")
	got, refusal := ask[query.SubscriptionReply](t, client, query.Subscription, query.SubscriptionRequest{CustomerID: "cust_1"})
	require.Nil(t, refusal)
	assert.Equal(t, []any{2, 101 * credit.One}, []any{got.Period.Number, got.Balance})
	got, refusal = ask[query.SubscriptionReply](t, client, query.CancelSubscription, query.CancelSubscriptionRequest{
		CustomerID: "cust_1", AtOnce: true, Actor: operator(),
	})
	require.Nil(t, refusal)
	assert.Equal(t, []any{query.SubscriptionCancelled, credit.Micro(0)}, []any{got.Status, got.Balance})
	_, refusal = ask[query.SubscriptionReply](t, client, query.CancelSubscription, query.CancelSubscriptionRequest{CustomerID: "cust_2", Actor: operator()})
	require.NotNil(t, refusal)
	assert.Equal(t, problem.NotFound, refusal.Code)
	report, err := billing.Reconcile(t.Context(), url)
	require.NoError(t, err)
	assert.Empty(t, report.Drifts)
}

// The limit of a plan that a customer changes down to is told when the schedule ends the period.
func TestLimitOfThePlanToCome(t *testing.T) {
	t.Parallel()
	now := testkit.NewClock(time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC))
	client, service := startAt(t, testkit.Postgres(t), now.Now)
	awaitReady(t, service)
	for most, id := range []string{"free", "basic", "pro"} {
		terms := query.PlanTerms{Name: id, MonthlyCredits: credit.Micro(most), Rollover: query.Rollover{Rule: query.RolloverNone}}
		if most > 0 {
			terms.Limits.MaxConcurrency = &most
		}
		_, refusal := ask[query.PublishPlanReply](t, client, query.PublishPlan, query.PublishPlanRequest{PlanID: id, PlanTerms: terms, Actor: operator()})
		require.Nil(t, refusal)
	}
	subscribe := func(id string) query.SubscriptionReply {
		t.Helper()
		reply, refusal := ask[query.SubscriptionReply](t, client, query.Subscribe, query.SubscribeRequest{
			CustomerID: "cust_1", Plan: id, Status: query.SubscriptionActive, Actor: operator(),
		})
		require.Nil(t, refusal)
		return reply
	}
	awaitLimit := func(most int) {
		t.Helper()
		require.Eventually(t, func() bool {
			stream, err := client.JS.Stream(t.Context(), subject.StreamLimits)
			if err != nil {
				return false
			}
			message, err := stream.GetLastMsgForSubject(t.Context(), subject.Limits("cust_1"))
			if err != nil {
				return false
			}
			var told event.Limits
			require.NoError(t, json.Unmarshal(message.Data, &told))
			require.Equal(t, told.ID(), message.Header.Get(event.HeaderID))
			return told.MaxConcurrency == nil && most == 0 || told.MaxConcurrency != nil && *told.MaxConcurrency == most
		}, patience, 10*time.Millisecond)
	}
	for most, id := range map[int]string{1: "basic", 0: "free"} {
		subscribe("pro")
		awaitLimit(2)
		begun := subscribe(id)
		require.NotNil(t, begun.Next)
		now.Set(begun.Period.End)
		require.NoError(t, client.Due(t.Context(), subject.PeriodDue("cust_1")))
		awaitLimit(most)
	}
}

func TestPlansRefuse(t *testing.T) {
	t.Parallel()
	client, service := start(t, testkit.Postgres(t))
	awaitReady(t, service)
	plan := func(change func(*query.PublishPlanRequest)) query.PublishPlanRequest {
		request := query.PublishPlanRequest{
			PlanID: "pro", PlanTerms: query.PlanTerms{Name: "Pro", Rollover: query.Rollover{Rule: query.RolloverNone}}, Actor: operator(),
		}
		change(&request)
		return request
	}
	for name, test := range map[string]struct {
		query   string
		request any
		message string
	}{
		"a plan with a space":   {query.PublishPlan, plan(func(r *query.PublishPlanRequest) { r.PlanID = "a b" }), "plan_id"},
		"a negative version":    {query.PublishPlan, plan(func(r *query.PublishPlanRequest) { r.Version = -1 }), "version"},
		"no rule":               {query.PublishPlan, plan(func(r *query.PublishPlanRequest) { r.Rollover.Rule = "" }), "/rollover/rule must be"},
		"a broken actor":        {query.PublishPlan, plan(func(r *query.PublishPlanRequest) { r.Actor.ID = "a\nb" }), "actor"},
		"no limit":              {query.Plans, query.PlansRequest{}, "limit"},
		"no plan":               {query.OnePlan, query.PlanRequest{}, "plan_id"},
		"before the first":      {query.OnePlan, query.PlanRequest{PlanID: "a", Version: -1}, "version"},
		"to retire nothing":     {query.RetirePlan, query.RetirePlanRequest{Actor: operator()}, "plan_id"},
		"retired by nobody":     {query.RetirePlan, query.RetirePlanRequest{PlanID: "a", Actor: event.Actor{ID: "a\nb"}}, "actor"},
		"cancelled for all":     {query.CancelSubscription, query.CancelSubscriptionRequest{CustomerID: "*"}, "customer_id"},
		"cancelled by nobody":   {query.CancelSubscription, query.CancelSubscriptionRequest{CustomerID: "a", Actor: event.Actor{ID: "a\nb"}}, "actor"},
		"a negative anchor day": {query.Subscribe, query.SubscribeRequest{CustomerID: "a", Plan: "p", Status: query.SubscriptionActive, Anchor: -1}, "anchor_day"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, refusal := ask[any](t, client, test.query, test.request)
			require.NotNil(t, refusal)
			assert.Equal(t, problem.InvalidRequest, refusal.Code)
			assert.Contains(t, refusal.Message, test.message)
		})
	}
}
