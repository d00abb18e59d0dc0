package httpapi_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
)

// answerPlans answers for billing, which has every plan that it is asked for, and returns what it was asked last to publish and to list.
func answerPlans(t *testing.T, s *server) (asked func() (query.PublishPlanRequest, query.PlansRequest)) {
	t.Helper()
	var mu sync.Mutex
	var published query.PublishPlanRequest
	var listed query.PlansRequest
	answer(t, s, query.ServiceBilling, query.PublishPlan, func(r query.PublishPlanRequest) (query.PublishPlanReply, error) {
		mu.Lock()
		defer mu.Unlock()
		published = r
		if r.Version == 1 {
			return query.PublishPlanReply{}, &problem.Error{Code: problem.Conflict, Message: "what is published is not edited"}
		}
		return query.PublishPlanReply{Plan: query.Plan{PlanID: r.PlanID, Version: 2, PlanTerms: r.PlanTerms}, Repeated: r.Version == 2}, nil
	})
	answer(t, s, query.ServiceBilling, query.Plans, func(r query.PlansRequest) (query.PlansReply, error) {
		mu.Lock()
		defer mu.Unlock()
		listed = r
		return query.PlansReply{Plans: []query.Plan{{PlanID: "free", Version: 3}}, More: r.After == ""}, nil
	})
	answer(t, s, query.ServiceBilling, query.OnePlan, func(r query.PlanRequest) (query.Plan, error) {
		return query.Plan{PlanID: r.PlanID, Version: r.Version}, nil
	})
	answer(t, s, query.ServiceBilling, query.RetirePlan, func(r query.RetirePlanRequest) (query.Plan, error) {
		return query.Plan{PlanID: r.PlanID, Version: 1}, nil
	})
	return func() (query.PublishPlanRequest, query.PlansRequest) {
		mu.Lock()
		defer mu.Unlock()
		return published, listed
	}
}

const planPath = "/api/v1/plans"

func TestPlans(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	asked := answerPlans(t, s)
	made := s.call(t, operatorKey, "POST", planPath, `{"plan_id":"pro","name":"Pro","monthly_credits":"12.5","rollover":{"rule":"capped","max":2},
		"features":["leads"],"limits":{"max_concurrency":4,"overdraft":0.5},"price_list":[{"item":"month","amount":"49.00","currency":"EUR"}]}`)
	require.Equal(t, []any{201, "/api/v1/plans/pro?version=2"}, []any{made.status, made.header.Get("Location")}, string(made.body))
	published, _ := asked()
	most, overdraft := 4, credit.One/2
	require.Equal(t, query.PublishPlanRequest{PlanID: "pro", Actor: event.Actor{Type: "operator", ID: "operator"}, PlanTerms: query.PlanTerms{
		Name: "Pro", MonthlyCredits: 12_500_000, Rollover: query.Rollover{Rule: query.RolloverCapped, Max: 2 * credit.One}, Features: []string{"leads"},
		Limits:    query.PlanLimits{MaxConcurrency: &most, Overdraft: &overdraft},
		PriceList: []query.Price{{Item: "month", Amount: "49.00", Currency: "EUR"}}, Priority: query.DefaultPriority,
	}}, published)
	const least = `{"plan_id":"pro","name":"Pro","monthly_credits":0`
	require.Equal(t, 201, s.call(t, operatorKey, "POST", planPath, least+`}`).status)
	published, _ = asked()
	require.Equal(t, query.RolloverNone, published.Rollover.Rule)
	require.Equal(t, 200, s.call(t, operatorKey, "POST", planPath, least+`,"version":2}`).status)
	refused := s.call(t, operatorKey, "POST", planPath, least+`,"version":1}`).problem(t)
	require.Equal(t, []any{409, "CONFLICT", "what is published is not edited"}, []any{refused.Status, refused.Code, refused.Detail})
	for body, place := range map[string]string{
		`{}`: "/monthly_credits /name /plan_id", least + `,"rollover":{"rule":"some"}}`: "/rollover/rule", least + `,"rollover":{"rule":"none","cap":1}}`: "/rollover",
		least + `,"version":-1}`: "/version", least + `,"price":1}`: "/price", least + `,"priority":101}`: "/priority", least + `,"limits":{"overdraft":1.0000001}}`: "/limits",
		least + `,"price_list":[{"item":"m","amount":"1.001","currency":"EUR"}]}`: "/price_list/0/amount",
		least + `,"price_list":[{"item":"m","amount":1.5,"currency":"EUR"}]}`:     "/price_list",
		`{"plan_id":"a b","name":"x","monthly_credits":1}`:                        "/plan_id", `{"plan_id":"a","name":"x","monthly_credits":1.0000001}`: "/monthly_credits",
	} {
		refused := s.call(t, operatorKey, "POST", planPath, body).problem(t)
		require.Equal(t, []any{422, place}, []any{refused.Status, places(refused)}, body)
	}

	var page struct {
		Items      []query.Plan
		NextCursor string `json:"next_cursor"`
	}
	s.call(t, key, "GET", planPath+"?limit=1", nil).into(t, &page)
	_, listed := asked()
	require.Equal(t, []any{query.PlansRequest{Limit: 1}, "free"}, []any{listed, page.Items[0].PlanID})
	require.Equal(t, 200, s.call(t, operatorKey, "GET", planPath+"?cursor="+page.NextCursor, nil).status)
	_, listed = asked()
	require.Equal(t, query.PlansRequest{Limit: 50, After: "free", Retired: true}, listed, "the operator sees those that are retired")

	var one query.Plan
	s.call(t, key, "GET", planPath+"/pro?version=7", nil).into(t, &one)
	require.Equal(t, query.Plan{PlanID: "pro", Version: 7}, one)
	require.Equal(t, 422, s.call(t, key, "GET", planPath+"/pro?version=0", nil).status)
	require.Equal(t, 405, s.call(t, operatorKey, "PUT", planPath+"/pro", `{}`).status)
	require.Equal(t, 200, s.call(t, operatorKey, "POST", planPath+"/pro/retire", nil).status)
}

func TestSubscriptionToAPlan(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	const path = "/api/v1/customers/alice/subscription"
	asked := make(chan any, 1)
	reply := query.SubscriptionReply{CustomerID: "alice", Plan: "pro", Status: query.SubscriptionActive, Features: []string{}, SubscriptionTerm: &query.SubscriptionTerm{
		Version: 2, Anchor: 31, TimeZone: "Europe/Berlin", Period: query.SubscriptionPeriod{Subscription: 1, Number: 1},
		Next: &query.SubscriptionChange{Status: query.SubscriptionCancelled},
	}}
	answer(t, s, query.ServiceBilling, query.Subscribe, func(r query.SubscribeRequest) (query.SubscriptionReply, error) {
		if r.CustomerID != "" {
			asked <- r
		}
		return reply, nil
	})
	answer(t, s, query.ServiceBilling, query.CancelSubscription, func(r query.CancelSubscriptionRequest) (query.SubscriptionReply, error) {
		if r.CustomerID != "" {
			asked <- r
		}
		return reply, nil
	})
	actor := event.Actor{Type: "operator", ID: "operator"}
	got := s.call(t, operatorKey, "PUT", path, `{"plan":"pro","version":2,"anchor_day":31,"time_zone":"Europe/Berlin","start":"2027-01-31T08:00:00+01:00"}`)
	wanted, ok := (<-asked).(query.SubscribeRequest)
	require.True(t, ok)
	require.Equal(t, "2027-01-31T08:00:00+01:00", wanted.Start.Format("2006-01-02T15:04:05Z07:00"))
	wanted.Start = nil
	require.Equal(t, query.SubscribeRequest{
		CustomerID: "alice", Plan: "pro", Status: query.SubscriptionActive, Features: []string{}, Version: 2, Anchor: 31, TimeZone: "Europe/Berlin", Actor: actor,
	}, wanted)
	require.JSONEq(t, `{"customer_id":"alice","plan":"pro","status":"active","features":[],"balance":0,"version":2,
		"period":{"subscription":1,"number":1,"start":"0001-01-01T00:00:00Z","end":"0001-01-01T00:00:00Z"},"anchor_day":31,
		"time_zone":"Europe/Berlin","next_change":{"at":"0001-01-01T00:00:00Z","status":"cancelled"}}`, string(got.body))
	for body, place := range map[string]string{
		`{"plan":"p","anchor_day":32}`: "/anchor_day", `{"plan":"p","version":-1}`: "/version", `{"plan":"p","start":"soon"}`: "/start", `{"plan":"p","time_zone":1}`: "/time_zone",
	} {
		refused := s.call(t, operatorKey, "PUT", path, body).problem(t)
		require.Equal(t, []any{422, place}, []any{refused.Status, places(refused)}, body)
	}

	for body, atOnce := range map[string]bool{`{}`: false, `{"at":"period_end"}`: false, `{"at":"now"}`: true} {
		require.Equal(t, 200, s.call(t, operatorKey, "POST", path+"/cancel", body).status)
		require.Equal(t, query.CancelSubscriptionRequest{CustomerID: "alice", AtOnce: atOnce, Actor: actor}, <-asked)
	}
	refused := s.call(t, operatorKey, "POST", path+"/cancel", `{"at":"noon"}`).problem(t)
	require.Equal(t, []any{422, "/at"}, []any{refused.Status, places(refused)})
	require.Equal(t, 403, s.call(t, key, "POST", path+"/cancel", `{}`).status)
	require.Equal(t, 404, s.call(t, operatorKey, "POST", "/api/v1/customers/nobody/subscription/cancel", `{}`).status)
}
