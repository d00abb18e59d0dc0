package httpapi_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/file"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
)

// route is an operation as a test calls it: a request that would succeed for the customer named in it, "%s" or "" for none.
type route struct {
	method, path string
	body         string
	operator     bool
	open         bool
	// shared is the same for every customer.
	shared bool
}

// routes has every operation of the API; TestEveryRouteIsHere keeps it complete.
func routes() map[string]route {
	return map[string]route{
		"health":          {method: "GET", path: "/api/v1/health", open: true},
		"ready":           {method: "GET", path: "/api/v1/ready", open: true},
		"execute-recipe":  {method: "POST", path: execute, body: `{"agent_id":"cook","recipe_id":"soup","customer_id":"%s"}`},
		"list-executions": {method: "GET", path: "/api/v1/executions?customer_id=%s"},
		"get-execution":   {method: "GET", path: "/api/v1/executions/018f3a5e-0000-7000-8000-0000000000a1?customer_id=%s"},
		"watch-execution": {method: "GET", path: "/api/v1/executions/" + failedID + "/progress?customer_id=%s"},
		"quote-recipe":    {method: "POST", path: "/api/v1/recipes/quote", body: `{"agent_id":"cook","recipe_id":"soup","customer_id":"%s"}`},
		"get-receipt":     {method: "GET", path: "/api/v1/executions/" + failedID + "/receipt?customer_id=%s"},
		"get-usage": {
			method: "GET", path: "/api/v1/usage?from=2026-01-01&to=2026-01-02&group_by=customer,day,recipe,kind&customer_id=%s",
		},
		"get-statement":    {method: "GET", path: "/api/v1/statement?from=2026-01-01&to=2026-01-02&customer_id=%s"},
		"cancel-execution": {method: "POST", path: "/api/v1/executions/" + goingID + "/cancel?customer_id=%s", body: "{}"},
		"resume-execution": {method: "POST", path: "/api/v1/executions/" + failedID + "/resume?customer_id=%s", body: "{}"},
		"rerun-execution":  {method: "POST", path: "/api/v1/executions/" + failedID + "/rerun?customer_id=%s", body: `{"from_step":"ask"}`},
		"signal-execution": {method: "POST", path: "/api/v1/executions/" + askingID + "/signals/stock?customer_id=%s", body: "1"},
		"decide-approval": {
			method: "POST", path: "/api/v1/executions/" + askingID + "/approvals/ask?customer_id=%s", body: `{"approved":true}`,
		},
		"publish-recipe": {method: "POST", path: "/api/v1/recipes?customer_id=%s", body: `{"apiVersion":"galley/v1","kind":"Recipe",
			"metadata":{"agent":"cook","id":"stew"},"spec":{"steps":[{"id":"a","uses":"state.set","with":{"a":1}}]}}`},
		"list-recipes":          {method: "GET", path: "/api/v1/recipes?customer_id=%s"},
		"get-recipe":            {method: "GET", path: "/api/v1/recipes/soup?customer_id=%s"},
		"create-agent":          {method: "POST", path: "/api/v1/agents", body: `{"agent_id":"baker","customer_id":"%s"}`},
		"list-agents":           {method: "GET", path: "/api/v1/agents?customer_id=%s"},
		"get-balance":           {method: "GET", path: "/api/v1/credits?customer_id=%s"},
		"list-transactions":     {method: "GET", path: "/api/v1/credits/transactions?customer_id=%s"},
		"list-audit-events":     {method: "GET", path: "/api/v1/audit/events?customer_id=%s"},
		"get-audit-tree-head":   {method: "GET", path: "/api/v1/audit/tree-head", shared: true},
		"get-audit-proof":       {method: "GET", path: "/api/v1/audit/proof?event_id=e/1&customer_id=%s"},
		"get-audit-consistency": {method: "GET", path: "/api/v1/audit/consistency?from=1", shared: true},
		"export-audit-log":      {method: "GET", path: "/api/v1/audit/export?customer_id=%s"},
		"erase-audit-payloads":  {method: "POST", path: "/api/v1/audit/erasures?customer_id=%s", body: `{"actor_id":"key_1"}`},
		"set-audit-webhook":     {method: "PUT", path: "/api/v1/audit/webhook?customer_id=%s", body: `{"url":"https://example.com"}`},
		"get-audit-webhook":     {method: "GET", path: "/api/v1/audit/webhook?customer_id=%s"},
		"delete-audit-webhook":  {method: "DELETE", path: "/api/v1/audit/webhook?customer_id=%s"},
		"grant-credits":         {method: "POST", path: "/api/v1/credits/grants", body: `{"customer_id":"%s","amount":1}`, operator: true},
		"create-customer":       {method: "POST", path: "/api/v1/customers", body: `{"customer_id":"new-%s","name":"x"}`, operator: true},
		"create-key":            {method: "POST", path: "/api/v1/customers/%s/keys", body: `{"name":"x"}`, operator: true},
		"list-keys":             {method: "GET", path: "/api/v1/customers/%s/keys", operator: true},
		"revoke-key":            {method: "DELETE", path: "/api/v1/customers/%s/keys/key_%s", operator: true},
		"set-secret":            {method: "PUT", path: "/api/v1/secrets/token?customer_id=%s", body: `{"value":"hunter2"}`},
		"list-secrets":          {method: "GET", path: "/api/v1/secrets?customer_id=%s"},
		"delete-secret":         {method: "DELETE", path: "/api/v1/secrets/old?customer_id=%s"}, // it works once for each customer
		"create-schedule": {method: "POST", path: "/api/v1/schedules", body: `{"schedule_id":"new","agent_id":"cook","recipe_id":"soup",
			"cron":"@daily","customer_id":"%s"}`},
		"list-schedules": {method: "GET", path: "/api/v1/schedules?customer_id=%s"},
		"get-schedule":   {method: "GET", path: "/api/v1/schedules/nightly?customer_id=%s"},
		"change-schedule": {
			method: "PUT", path: "/api/v1/schedules/nightly?customer_id=%s",
			body: `{"agent_id":"cook","recipe_id":"soup","cron":"@daily"}`,
		},
		"delete-schedule":       {method: "DELETE", path: "/api/v1/schedules/old?customer_id=%s"}, // it works once for each customer
		"pause-schedule":        {method: "POST", path: "/api/v1/schedules/nightly/pause?customer_id=%s"},
		"resume-schedule":       {method: "POST", path: "/api/v1/schedules/nightly/resume?customer_id=%s"},
		"list-dead-letters":     {method: "GET", path: "/api/v1/dead-letters", operator: true},
		"get-dead-letter":       {method: "GET", path: "/api/v1/dead-letters/1", operator: true},
		"redrive-dead-letter":   {method: "POST", path: "/api/v1/dead-letters/2/redrive", operator: true},
		"discard-dead-letter":   {method: "DELETE", path: "/api/v1/dead-letters/3", operator: true},
		"list-stuck-executions": {method: "GET", path: "/api/v1/executions/stuck", operator: true},
		"upload-file":           {method: "POST", path: "/api/v1/files?customer_id=%s", body: `{"a":1}`},
		"download-file":         {method: "GET", path: "/api/v1/files/report?customer_id=%s"},
		"get-limits":            {method: "GET", path: "/api/v1/customers/%s/limits"},
		"set-limits":            {method: "PUT", path: "/api/v1/customers/%s/limits", body: `{"max_concurrency":5}`, operator: true},
		"get-subscription":      {method: "GET", path: "/api/v1/customers/%s/subscription"},
		"set-subscription":      {method: "PUT", path: "/api/v1/customers/%s/subscription", body: `{"plan":"pro"}`, operator: true},
		"set-overdraft":         {method: "PUT", path: "/api/v1/customers/%s/overdraft", body: `{"limit":5}`, operator: true},
		"set-low-balance":       {method: "PUT", path: "/api/v1/customers/%s/low-balance", body: `{"threshold":5}`},
		"cancel-subscription":   {method: "POST", path: "/api/v1/customers/%s/subscription/cancel", body: `{}`, operator: true},
		"publish-plan": {
			method: "POST", path: "/api/v1/plans", body: `{"plan_id":"of-%s","name":"x","monthly_credits":1}`, operator: true,
		},
		"list-plans":  {method: "GET", path: "/api/v1/plans", shared: true},
		"get-plan":    {method: "GET", path: "/api/v1/plans/pro", shared: true},
		"retire-plan": {method: "POST", path: "/api/v1/plans/of-%s/retire", operator: true},
		"set-vars":    {method: "PUT", path: "/api/v1/customers/%s/vars", body: `{"a":1}`, operator: true},
	}
}

func (r route) call(t *testing.T, s *server, key, customer string, headers ...string) *reply {
	t.Helper()
	name := func(text string) string { return strings.ReplaceAll(text, "%s", customer) }
	if r.body == "" {
		return s.call(t, key, r.method, name(r.path), nil, headers...)
	}
	return s.call(t, key, r.method, name(r.path), name(r.body), headers...)
}

func TestEveryRouteIsHere(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var document struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		}
	}
	s.call(t, "", "GET", "/openapi.json", nil).into(t, &document)
	known := routes()
	for path, methods := range document.Paths {
		for method, operation := range methods {
			r, found := known[operation.OperationID]
			require.True(t, found, "%s %s is not in the table", method, path)
			require.Equal(t, strings.ToUpper(method), r.method)
			delete(known, operation.OperationID)
		}
	}
	require.Empty(t, known)
}

// billing and audit answer for whatever customer they are asked about, and say which.
func otherServices(t *testing.T, s *server) {
	t.Helper()
	ready(t, s, query.ServiceBilling, query.ServiceExecutor, query.ServiceAudit)
	answer(t, s, query.ServiceBilling, query.Balance, func(r query.BalanceRequest) (query.BalanceReply, error) {
		return query.BalanceReply{CustomerID: r.CustomerID, Posted: 1_500_000, Available: 1_500_000}, nil
	})
	answer(t, s, query.ServiceBilling, query.Overdraft, func(r query.OverdraftRequest) (query.BalanceReply, error) {
		return query.BalanceReply{CustomerID: r.CustomerID}, nil
	})
	answer(t, s, query.ServiceBilling, query.LowBalance, func(r query.LowBalanceRequest) (query.BalanceReply, error) {
		return query.BalanceReply{CustomerID: r.CustomerID}, nil
	})
	answer(t, s, query.ServiceBilling, query.Transactions, func(r query.TransactionsRequest) (query.TransactionsReply, error) {
		return query.TransactionsReply{Transactions: []query.Transaction{{CustomerID: r.CustomerID}}}, nil
	})
	answer(t, s, query.ServiceBilling, query.Grant, func(r query.GrantRequest) (query.GrantReply, error) {
		return query.GrantReply{Transaction: query.Transaction{CustomerID: r.CustomerID, Amount: r.Amount, Reason: r.ID}}, nil
	})
	answer(t, s, query.ServiceBilling, query.Statement, func(r query.StatementRequest) (query.StatementReply, error) {
		return query.StatementReply{Movements: []query.Movement{{Kind: "of " + r.CustomerID}}}, nil
	})
	answer(t, s, query.ServiceBilling, query.Subscription, func(r query.SubscriptionRequest) (query.SubscriptionReply, error) {
		return query.SubscriptionReply{CustomerID: r.CustomerID}, nil
	})
	answer(t, s, query.ServiceBilling, query.Subscribe, func(r query.SubscribeRequest) (query.SubscriptionReply, error) {
		return query.SubscriptionReply{CustomerID: r.CustomerID}, nil
	})
	answer(t, s, query.ServiceBilling, query.CancelSubscription, func(r query.CancelSubscriptionRequest) (query.SubscriptionReply, error) {
		return query.SubscriptionReply{CustomerID: r.CustomerID}, nil
	})
	answerPlans(t, s)
	answerAudit(t, s)
}

func TestNobodySeesAnotherCustomer(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	otherServices(t, s)
	alice, bob := s.customer(t, "alice"), s.customer(t, "bob")
	for _, key := range []string{alice, bob} {
		require.Equal(t, 204, s.call(t, key, "PUT", "/api/v1/secrets/old", `{"value":"x"}`).status)
		for _, id := range []string{"nightly", "old"} {
			require.Equal(t, 201, s.call(t, key, "POST", "/api/v1/schedules", map[string]any{
				"schedule_id": id, "agent_id": "cook", "recipe_id": "soup", "cron": "@daily",
			}).status)
		}
	}
	_, err := s.admin.Exec(context.WithoutCancel(t.Context()), `INSERT INTO ingest.executions
		(execution_id, customer_id, agent_id, recipe_id, recipe_version, status, accepted_at) VALUES
		('018f3a5e-0000-7000-8000-0000000000a1', 'alice', 'cook', 'soup', 1, 'accepted', now()),
		('018f3a5e-0000-7000-8000-0000000000b1', 'bob', 'cook', 'soup', 1, 'accepted', now())`)
	require.NoError(t, err)
	s.answerWith(t, func(_ context.Context, command accept.Command) (accept.Outcome, error) {
		return accept.Outcome{Done: true, Status: event.StatusSuccess, Response: []byte(`"of ` + command.Customer + `"`)}, nil
	})
	for customer, key := range map[string]string{"alice": alice, "bob": bob} { // ids of their own under the same name
		s.publishParty(t, key)
		s.ran(t, customer, goingID, event.Request{}, nil, "")
		s.ran(t, customer, failedID, event.Request{}, nil, event.StatusFailed)
		s.ran(t, customer, askingID, event.Request{}, nil, "")
		_, err := file.NewStore(s.bus.JS).Put(t.Context(), customer, file.Ref{ID: "report", ContentType: "text/plain"}, strings.NewReader("of "+customer))
		require.NoError(t, err)
	}
	s.key(t, "bob")
	s.deadLetters(t, 3)
	for name, r := range routes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			anonymous := r.call(t, s, "", "alice")
			switch {
			case r.open:
				require.Equal(t, 200, anonymous.status)
				return
			case r.shared:
				require.Equal(t, 401, anonymous.status)
				require.Equal(t, r.call(t, s, alice, "").body, r.call(t, s, bob, "").body)
			case r.operator:
				require.Equal(t, []any{401, 403, 403}, []any{
					anonymous.status, r.call(t, s, alice, "alice").status, r.call(t, s, alice, "bob").status,
				})
			default:
				require.Equal(t, []any{401, 403}, []any{anonymous.status, r.call(t, s, bob, "alice").status})
				own := r.call(t, s, alice, "alice")
				require.Less(t, own.status, 300, string(own.body))
				require.NotContains(t, string(own.body), "bob")
				switch name {
				case "get-subscription", "get-limits", "set-low-balance": // no path without a customer leads there
				case "get-usage", "list-audit-events", "get-audit-proof", "export-audit-log":
					require.Equal(t, 200, r.call(t, s, operatorKey, "").status, "the operator gets all customers")
				default:
					require.Equal(t, 422, r.call(t, s, operatorKey, "").status, "the operator must say for whom")
				}
				require.Equal(t, 422, r.call(t, s, operatorKey, "*").status, "and cannot say for everybody")
				if name == "execute-recipe" || name == "resume-execution" || name == "rerun-execution" {
					require.JSONEq(t, `"of alice"`, string(own.body))
				}
			}
			of := "bob"
			if name == "get-execution" {
				of = "alice"
			}
			require.Less(t, r.call(t, s, operatorKey, of).status, 300)
		})
	}
}

func TestIDsOfOthersAreUnknown(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	alice, bob := s.customer(t, "alice"), s.customer(t, "bob")
	const id = "018f3a5e-0000-7000-8000-0000000000a1"
	_, err := s.admin.Exec(t.Context(), `INSERT INTO ingest.executions
		(execution_id, customer_id, agent_id, recipe_id, recipe_version, status, accepted_at)
		VALUES ($1, 'alice', 'cook', 'soup', 1, 'accepted', now())`, id)
	require.NoError(t, err)
	var response event.Response
	s.call(t, alice, "GET", "/api/v1/executions/"+id, nil).into(t, &response)
	require.Equal(t, event.StatusAccepted, response.Status)
	require.Equal(t, 404, s.call(t, bob, "GET", "/api/v1/executions/"+id, nil).status)
	require.Equal(t, 404, s.call(t, operatorKey, "GET", fmt.Sprintf("/api/v1/executions/%s?customer_id=bob", id), nil).status)
}
