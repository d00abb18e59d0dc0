package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/health"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
	"github.com/galley-engine/galley/services/ingest/internal/httpapi"
	"github.com/galley-engine/galley/services/ingest/internal/projection"
)

type list[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor"`
}

// pages follows the cursors of a list.
func pages[T any](t *testing.T, s *server, key, path string) (sizes []int, items []T) {
	t.Helper()
	for from := ""; ; {
		var page list[T]
		s.call(t, key, "GET", path+from, nil).into(t, &page)
		require.NotNil(t, page.Items)
		sizes, items = append(sizes, len(page.Items)), append(items, page.Items...)
		if page.NextCursor == "" {
			return sizes, items
		}
		from = "&cursor=" + url.QueryEscape(page.NextCursor)
	}
}

func TestCustomers(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var made httpapi.NewCustomer
	got := s.call(t, operatorKey, "POST", "/api/v1/customers", `{"customer_id":"alice","name":"Alice & Söhne","vars":{"url":"http://x"}}`)
	require.Equal(t, 201, got.status)
	got.into(t, &made)
	require.Equal(t, "Alice & Söhne", made.Name)
	require.JSONEq(t, `{"url":"http://x"}`, string(made.Vars))
	require.Contains(t, string(got.body), "Alice & Söhne", "text is not escaped beyond need")
	require.Equal(t, 200, s.call(t, made.Key, "GET", "/api/v1/recipes", nil).status)

	again := s.call(t, operatorKey, "POST", "/api/v1/customers", `{"customer_id":"alice","name":"x"}`)
	require.Equal(t, "CONFLICT", again.problem(t).Code)
	p := s.call(t, operatorKey, "POST", "/api/v1/customers", `{"customer_id":"bob","name":"a\u0000b","vars":{"a b":1}}`).problem(t)
	require.Equal(t, "/name /vars/a b", places(p))

	var key catalogue.IssuedKey
	s.call(t, operatorKey, "POST", "/api/v1/customers/alice/keys", `{"name":"second"}`).into(t, &key)
	require.Equal(t, 200, s.call(t, key.Secret, "GET", "/api/v1/recipes", nil).status)
	require.Equal(t, 404, s.call(t, operatorKey, "POST", "/api/v1/customers/nobody/keys", `{"name":"x"}`).status)

	var vars map[string]any
	s.call(t, operatorKey, "PUT", "/api/v1/customers/alice/vars", `{"url":"http://y","n":1}`).into(t, &vars)
	require.Equal(t, map[string]any{"url": "http://y", "n": 1.0}, vars)
	require.Equal(t, 404, s.call(t, operatorKey, "PUT", "/api/v1/customers/nobody/vars", `{}`).status)
	require.Equal(t, 422, s.call(t, operatorKey, "PUT", "/api/v1/customers/alice/vars", `[]`).status)
}

func TestAgentsAndRecipes(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	for _, agent := range []string{"baker", "waiter"} {
		got := s.call(t, key, "POST", "/api/v1/agents", map[string]any{"agent_id": agent, "name": "The " + agent, "description": "d"})
		require.Equal(t, 201, got.status)
		published := s.call(t, key, "POST", "/api/v1/recipes", bread(agent))
		require.Equal(t, 201, published.status)
		require.Equal(t, "/api/v1/recipes/bread?agent_id="+agent+"&version=1", published.header.Get("Location"))
		require.Equal(t, 200, s.call(t, key, "POST", "/api/v1/recipes", bread(agent)).status, "the same again")
	}
	require.Equal(t, 409, s.call(t, key, "POST", "/api/v1/agents", `{"agent_id":"baker"}`).status)
	missing := s.call(t, key, "POST", "/api/v1/recipes", bread("nobody")).problem(t)
	require.Equal(t, []any{404, `there is no agent "nobody": create it before its recipes`}, []any{missing.Status, missing.Detail})

	sizes, agents := pages[catalogue.Agent](t, s, key, "/api/v1/agents?limit=2")
	require.Equal(t, []int{2, 1}, sizes)
	require.Equal(t, []string{"baker", "cook", "waiter"}, []string{agents[0].AgentID, agents[1].AgentID, agents[2].AgentID})
	sizes, recipes := pages[catalogue.RecipeVersion](t, s, key, "/api/v1/recipes?limit=1")
	require.Equal(t, []int{1, 1, 1}, sizes)
	require.Equal(t, "baker/bread cook/soup waiter/bread", fmt.Sprintf("%s/%s %s/%s %s/%s", recipes[0].AgentID, recipes[0].RecipeID,
		recipes[1].AgentID, recipes[1].RecipeID, recipes[2].AgentID, recipes[2].RecipeID))
	_, recipes = pages[catalogue.RecipeVersion](t, s, key, "/api/v1/recipes?agent_id=cook")
	require.Len(t, recipes, 1)

	require.Equal(t, 409, s.call(t, key, "GET", "/api/v1/recipes/bread", nil).status, "whose?")
	var found catalogue.RecipeVersion
	s.call(t, key, "GET", "/api/v1/recipes/bread?agent_id=waiter&version=1", nil).into(t, &found)
	require.Equal(t, []any{"waiter", 1, 1}, []any{found.AgentID, found.Version, found.Latest})
	require.JSONEq(t, bread("waiter"), string(found.Document))
	s.call(t, key, "GET", "/api/v1/recipes/soup", nil).into(t, &found)
	require.Equal(t, "cook", found.AgentID)

	p := s.call(t, key, "POST", "/api/v1/recipes", "kind: Recipe\nspec:\n  steps: nonsense\n", "Content-Type", "application/yaml").problem(t)
	require.Equal(t, []any{422, "INVALID_RECIPE"}, []any{p.Status, p.Code})
	require.Contains(t, places(p), "/spec/steps")
	for _, place := range p.Errors {
		require.NotEmpty(t, place.Code)
		require.NotZero(t, place.Line)
	}
}

func bread(agent string) string {
	return fmt.Sprintf(`{"apiVersion":"galley/v1","kind":"Recipe","metadata":{"agent":%q,"id":"bread"},
		"spec":{"steps":[{"id":"a","uses":"state.set","with":{"a":1}}]}}`, agent)
}

func TestExecutionsAreListed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	_, err := s.admin.Exec(t.Context(), `INSERT INTO ingest.executions
		(execution_id, customer_id, agent_id, recipe_id, recipe_version, status, accepted_at, completed_at, duration_ms, response)
		SELECT ('018f3a5e-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid, 'alice', 'cook', CASE WHEN i % 2 = 0 THEN 'soup' ELSE 'stew' END,
		       1, 'success', now() - (i / 3) * interval '1 hour', now(), 5, convert_to('{ "verbatim" : 1 }', 'UTF8')
		  FROM generate_series(1, 10) AS i`)
	require.NoError(t, err)
	sizes, all := pages[projection.Execution](t, s, key, "/api/v1/executions?limit=4")
	require.Equal(t, []int{4, 4, 2}, sizes)
	seen := map[string]bool{}
	for _, execution := range all {
		seen[execution.ExecutionID] = true
	}
	require.Len(t, seen, 10)
	_, soups := pages[projection.Execution](t, s, key, "/api/v1/executions?recipe_id=soup&status=success&customer_id=alice")
	require.Len(t, soups, 5)
	sizes, _ = pages[projection.Execution](t, s, key, "/api/v1/executions?status=failed")
	require.Equal(t, []int{0}, sizes)

	// One that waits for credits.
	open := subject.Execution{Customer: "alice", ID: "018f3a5e-0000-7000-8000-000000000099"}
	_, err = s.admin.Exec(t.Context(), `INSERT INTO ingest.executions
		(execution_id, customer_id, agent_id, recipe_id, recipe_version, status, accepted_at) VALUES ($1, 'alice', 'cook', 'soup', 1, 'accepted', now())`, open.ID)
	require.NoError(t, err)
	executions := journal.New(s.bus.Conn, s.bus.JS)
	accepted := executions.Append(t.Context(), journal.Entry{Execution: open, Kind: event.Accepted, Source: "test", Time: time.Now()})[0]
	require.NoError(t, accepted.Err)
	require.NoError(t, executions.Append(t.Context(), journal.Entry{
		Execution: open, Kind: event.Waiting, Qualifier: event.WaitingForCredits, Expect: accepted.Sequence, Source: "test", Time: time.Now(),
	})[0].Err)
	for _, query := range []string{"status=waiting", "limit=1"} {
		_, waiting := pages[projection.Execution](t, s, key, "/api/v1/executions?"+query)
		require.Equal(t, open.ID, waiting[0].ExecutionID)
		require.Equal(t, event.StatusWaiting, waiting[0].Status)
	}
	for _, status := range []string{"accepted", "running"} {
		sizes, _ = pages[projection.Execution](t, s, key, "/api/v1/executions?status="+status)
		require.Equal(t, []int{0}, sizes)
	}
	one := s.call(t, key, "GET", "/api/v1/executions/018f3a5e-0000-7000-8000-000000000001", nil)
	require.Equal(t, `{ "verbatim" : 1 }`, string(one.body))
}

func TestCredits(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	p := s.call(t, key, "GET", "/api/v1/credits", nil).problem(t)
	require.Equal(t, []any{503, "UNAVAILABLE", "billing does not answer", true}, []any{p.Status, p.Code, p.Detail, p.Retryable})

	answer(t, s, query.ServiceBilling, query.Balance, func(r query.BalanceRequest) (query.BalanceReply, error) {
		lots := []query.Lot{{ID: "g", Kind: query.GrantTopUp, Priority: 50, Amount: 2_000_000, Remaining: 1_080_000}}
		return query.BalanceReply{CustomerID: r.CustomerID, Posted: 1_080_000, Available: 2_080_000, Overdraft: 1_000_000, Grants: lots}, nil
	})
	require.JSONEq(t, `{"customer_id":"alice","posted":1.08,"available":2.08,"overdraft":1,
		"grants":[{"grant_id":"g","kind":"top_up","priority":50,"amount":2,"remaining":1.08}]}`,
		string(s.call(t, key, "GET", "/api/v1/credits", nil).body))

	answer(t, s, query.ServiceBilling, query.Transactions, func(r query.TransactionsRequest) (query.TransactionsReply, error) {
		reply := query.TransactionsReply{Transactions: []query.Transaction{{ID: r.Before, ExecutionID: r.ExecutionID, Amount: -80_000}}}
		if r.Before == 0 {
			reply.Next = 41
		}
		return reply, nil
	})
	sizes, transactions := pages[query.Transaction](t, s, key, "/api/v1/credits/transactions?limit=1&execution_id=e-1")
	require.Equal(t, []int{1, 1}, sizes)
	require.Equal(t, query.Transaction{ID: 41, ExecutionID: "e-1", Amount: -80_000}, transactions[1])

	var asked []query.GrantRequest
	answer(t, s, query.ServiceBilling, query.Grant, func(r query.GrantRequest) (query.GrantReply, error) {
		if r.ID == "" { // the question whether the service is there
			return query.GrantReply{}, nil
		}
		if r.Reason == "refuse" {
			return query.GrantReply{}, &problem.Error{Code: problem.Conflict, Message: "no"}
		}
		asked = append(asked, r)
		return query.GrantReply{Transaction: query.Transaction{Kind: "grant", Amount: r.Amount}, Repeated: len(asked) == 2}, nil
	})
	grant := func(body string, headers ...string) *reply {
		return s.call(t, operatorKey, "POST", "/api/v1/credits/grants", body, headers...)
	}
	const body = `{"customer_id":"alice","amount":"2.5","reason":"welcome"}`
	require.Equal(t, 201, grant(body, "Idempotency-Key", "k").status)
	require.Equal(t, 200, grant(body, "Idempotency-Key", "k").status)
	require.Equal(t, 201, grant(body).status)
	require.Equal(t, 201, grant(body).status)
	require.Equal(t, asked[0], asked[1])
	require.Equal(t, credit.Micro(2_500_000), asked[0].Amount)
	require.Equal(t, "operator:operator", asked[0].Actor.String())
	require.NotEqual(t, asked[2].ID, asked[3].ID)
	s.customer(t, "bob")
	require.Equal(t, 201, grant(`{"customer_id":"bob","amount":1}`, "Idempotency-Key", "k").status)
	require.NotEqual(t, asked[0].ID, asked[4].ID, "customers do not share keys")

	require.Equal(t, 201, grant(`{"customer_id":"bob","amount":1,"kind":"promotional","priority":0,"expires_at":"2030-01-02T03:04:05+01:00"}`).status)
	require.Equal(t, query.GrantPromotional, asked[5].Kind)
	require.Zero(t, *asked[5].Priority)
	require.True(t, asked[5].ExpiresAt.Equal(time.Date(2030, 1, 2, 2, 4, 5, 0, time.UTC)))
	for name, value := range map[string]string{
		"kind": `"gift"`, "priority": `101`, "expires_at": `"tomorrow"`,
	} {
		refused := grant(`{"customer_id":"alice","amount":1,"` + name + `":` + value + `}`).problem(t)
		require.Equal(t, []any{422, "/" + name}, []any{refused.Status, places(refused)})
	}
	require.Equal(t, 409, grant(`{"customer_id":"alice","amount":1,"reason":"refuse"}`).status)
	require.Equal(t, 404, grant(`{"customer_id":"nobody","amount":1}`).status)
	for _, amount := range []string{`0`, `-1`, `"x"`, `0.0000001`, `1e3`, `1000000001`, `null`, `{}`} {
		refused := grant(`{"customer_id":"alice","amount":` + amount + `}`).problem(t)
		require.Equal(t, []any{422, "/amount"}, []any{refused.Status, places(refused)}, amount)
	}
}

func TestLimitsOfCredits(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	var overdraft query.OverdraftRequest
	answer(t, s, query.ServiceBilling, query.Overdraft, func(r query.OverdraftRequest) (query.BalanceReply, error) {
		overdraft = r
		return query.BalanceReply{CustomerID: r.CustomerID, Overdraft: r.Limit}, nil
	})
	var low query.LowBalanceRequest
	answer(t, s, query.ServiceBilling, query.LowBalance, func(r query.LowBalanceRequest) (query.BalanceReply, error) {
		low = r
		return query.BalanceReply{CustomerID: r.CustomerID, LowBalance: r.Threshold}, nil
	})
	const overdraftPath, lowPath = "/api/v1/customers/alice/overdraft", "/api/v1/customers/alice/low-balance"
	require.Equal(t, 200, s.call(t, operatorKey, "PUT", overdraftPath, `{"limit":"2.5"}`).status)
	require.Equal(t, query.OverdraftRequest{CustomerID: "alice", Limit: 2_500_000, Actor: event.Actor{Type: "operator", ID: "operator"}}, overdraft)
	require.Equal(t, 403, s.call(t, key, "PUT", overdraftPath, `{"limit":1}`).status)
	require.Equal(t, 200, s.call(t, key, "PUT", lowPath, `{"threshold":0.5}`).status)
	require.EqualValues(t, 500_000, *low.Threshold)
	require.Equal(t, "api_key", low.Actor.Type)
	for _, none := range []string{`{}`, `{"threshold":null}`} {
		require.Equal(t, 200, s.call(t, operatorKey, "PUT", lowPath, none).status)
		require.Nil(t, low.Threshold)
	}
	require.Equal(t, 404, s.call(t, operatorKey, "PUT", "/api/v1/customers/nobody/overdraft", `{"limit":1}`).status)
	for _, amount := range []string{`-1`, `0.0000001`, `"x"`, `1000000001`} {
		for path, name := range map[string]string{overdraftPath: "limit", lowPath: "threshold"} {
			refused := s.call(t, operatorKey, "PUT", path, `{"`+name+`":`+amount+`}`).problem(t)
			require.Equal(t, []any{422, "/" + name}, []any{refused.Status, places(refused)}, amount)
		}
	}
}

func TestAuditEvents(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	require.Equal(t, 503, s.call(t, key, "GET", "/api/v1/audit/events", nil).status)
	answer(t, s, query.ServiceAudit, query.AuditEvents, func(r query.AuditEventsRequest) (query.AuditEventsReply, error) {
		return query.AuditEventsReply{Events: []query.AuditEvent{{Sequence: 7, ResourceID: r.ResourceID, Leaf: json.RawMessage(`{"a":1}`)}}}, nil
	})
	_, events := pages[query.AuditEvent](t, s, key, "/api/v1/audit/events?execution_id=e-1")
	require.Equal(t, "e-1", events[0].ResourceID)
	require.JSONEq(t, `{"a":1}`, string(events[0].Leaf))
}

func TestReadyNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	require.JSONEq(t, `{"status":"ok"}`, string(s.call(t, "", "GET", "/health", nil).body))
	ready(t, s, query.ServiceExecutor, query.ServiceAudit)
	for _, path := range []string{"/ready", "/api/v1/ready"} {
		got := s.call(t, "", "GET", path, nil)
		require.Equal(t, 503, got.status)
		require.JSONEq(t, `{"ready":false,"checks":{"postgres":"ok","billing":"does not answer","executor":"ok","audit":"ok"}}`, string(got.body))
	}
	answer(t, s, query.ServiceBilling, query.Ready, func(struct{}) (query.Readiness, error) {
		return query.Readiness{Checks: map[string]string{
			"nats": "ok", "postgres": health.Pending("dial tcp 10.0.0.1:5432").Error(), "consumer": "starting",
		}}, nil
	})
	got := s.call(t, "", "GET", "/ready", nil)
	require.Equal(t, 503, got.status)
	require.Contains(t, string(got.body), `"billing":"waits for consumer, postgres"`)
	require.NotContains(t, string(got.body), "10.0.0.1")
}
