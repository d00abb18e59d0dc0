package endtoend_test

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/tests/internal/harness"
)

func testInvalidRequests(t *testing.T, s *scene) {
	for _, text := range []string{``, `{`, `{"agent_id": "a",}`, "\xff\xfe", `{} {}`, `{"a":` + strings.Repeat("[", 20_000)} {
		answer := s.execute(t, []byte(text))
		p := refused(t, answer, http.StatusBadRequest, "INVALID_REQUEST")
		require.False(t, *p.Retryable)
	}
	for _, text := range []string{`[]`, `null`, `"text"`, `7`} {
		refused(t, s.execute(t, []byte(text)), http.StatusUnprocessableEntity, "INVALID_REQUEST")
	}
	p := refused(t, s.execute(t, run{"agent_id": 7, "colour": "blue", "Recipe_ID": greet}), http.StatusUnprocessableEntity, "INVALID_REQUEST")
	require.ElementsMatch(t, []string{"/agent_id", "/recipe_id", "/colour", "/Recipe_ID"}, p.paths())
	p = refused(t, s.execute(t, greeted().with("version", "one")), http.StatusUnprocessableEntity, "INVALID_REQUEST")
	require.Equal(t, []string{"/version"}, p.paths())
	refused(t, s.execute(t, greeted(), "Content-Type", "text/plain"), http.StatusUnsupportedMediaType, "INVALID_REQUEST")
	refused(t, s.execute(t, greeted(), "Content-Encoding", "gzip"), http.StatusUnsupportedMediaType, "INVALID_REQUEST")
	refused(t, s.call(t, http.MethodDelete, "/recipes/execute", nil), http.StatusMethodNotAllowed, "INVALID_REQUEST")
}

func testLargeBodies(t *testing.T, s *scene) {
	for _, size := range []int{600 << 10, 2 << 20, 10 << 20} {
		body := greeted().with("input_data", map[string]any{"name": strings.Repeat("x", size)})
		answer, err := s.client.Call(t.Context(), http.MethodPost, harness.API+"/recipes/execute", body)
		if err != nil {
			// The server may close the connection while the body is still on its way; it must not have been read to its end.
			require.Greater(t, size, 1<<20, "%v", err)
			continue
		}
		refused(t, answer, http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
	}
	require.Equal(t, http.StatusOK, s.execute(t, greeted()).Status)
}

func testKeys(t *testing.T, s *scene) {
	other := s.newScene(t, 0)
	refused(t, s.execute(t, greeted().with("customer_id", other.customer)), http.StatusForbidden, "FORBIDDEN")
	for _, path := range []string{"/executions", "/recipes", "/agents", "/credits", "/credits/transactions", "/audit/events"} {
		refused(t, s.call(t, http.MethodGet, path+"?customer_id="+other.customer, nil), http.StatusForbidden, "FORBIDDEN")
		for _, key := range []string{"", "wrong", strings.Repeat("k", 5000), "Bearer x"} {
			stranger := harness.Client{Base: s.client.Base, Key: key}
			answer, err := stranger.Call(t.Context(), http.MethodGet, harness.API+path, nil)
			require.NoError(t, err)
			refused(t, answer, http.StatusUnauthorized, "UNAUTHENTICATED")
			require.Contains(t, answer.Header.Get("WWW-Authenticate"), "Bearer")
		}
	}
	refused(t, s.call(t, http.MethodPost, "/customers", map[string]any{"customer_id": "mine", "name": "Mine"}), http.StatusForbidden, "FORBIDDEN")
	grant := map[string]any{"customer_id": s.customer, "amount": 1000}
	refused(t, s.call(t, http.MethodPost, "/credits/grants", grant), http.StatusForbidden, "FORBIDDEN")

	operator := s.installation.Operator()
	answer, err := operator.Call(t.Context(), http.MethodPost, harness.API+"/recipes/execute", greeted().with("customer_id", s.customer))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.Status, "%s", answer)
	answer, err = operator.Call(t.Context(), http.MethodPost, harness.API+"/recipes/execute", greeted())
	require.NoError(t, err)
	refused(t, answer, http.StatusUnprocessableEntity, "INVALID_REQUEST")
	answer, err = operator.Call(t.Context(), http.MethodPost, harness.API+"/customers", map[string]any{"customer_id": s.customer, "name": "Again"})
	require.NoError(t, err)
	refused(t, answer, http.StatusConflict, "CONFLICT")
}

// oddIDs cannot be subject tokens, or would mean something else in a subject, a path or a query.
func oddIDs() []string {
	return []string{
		"", " ", ".", "..", "a.b", "a b", "*", ">", "a*", "a>b", "ä", "日本", "a\u0000", "a\nb", "../x", "a/b", "%2e", "-a", "_a", "a'b", `a"b`,
		"$JS", strings.Repeat("a", 65),
	}
}

func testOddIDs(t *testing.T, s *scene) {
	for _, id := range oddIDs() {
		for _, field := range []string{"agent_id", "recipe_id"} {
			answer := s.execute(t, greeted().with(field, id))
			p := refused(t, answer, http.StatusUnprocessableEntity, "INVALID_REQUEST")
			assert.Contains(t, p.paths(), "/"+field, "%q: %s", id, answer)
		}
		answer := s.call(t, http.MethodPost, "/agents", map[string]string{"agent_id": id, "name": "x"})
		refused(t, answer, http.StatusUnprocessableEntity, "INVALID_REQUEST")
		answer, err := s.installation.Operator().Call(t.Context(), http.MethodPost, harness.API+"/customers",
			map[string]any{"customer_id": id, "name": "x"})
		require.NoError(t, err)
		refused(t, answer, http.StatusUnprocessableEntity, "INVALID_REQUEST")
		if strings.Trim(id, ".") == "" {
			continue // these change the path
		}
		for _, path := range []string{"/executions/" + url.PathEscape(id), "/recipes/" + url.PathEscape(id), "/recipes?agent_id=" + url.QueryEscape(id)} {
			answer := s.call(t, http.MethodGet, path, nil)
			assert.Contains(t, []int{http.StatusBadRequest, http.StatusNotFound, http.StatusUnprocessableEntity}, answer.Status, "%q: %s", path, answer)
		}
	}
	refused(t, s.execute(t, greeted().with("customer_id", "a.b")), http.StatusUnprocessableEntity, "INVALID_REQUEST")
}

func testMoney(t *testing.T, s *scene) {
	require.Equal(t, plenty, s.balance(t))
	id := s.response(t, greeted()).ExecutionID
	s.publish(t, failing)
	failed := s.response(t, of("failing")).ExecutionID
	var rows []query.Transaction
	eventually(t, "grant, two debits and a refund", func() bool {
		rows = items[query.Transaction](t, s, "/credits/transactions")
		return len(rows) == 4
	})
	balance := s.balance(t)
	require.Equal(t, plenty-greetPrice, balance, "what failed is given back")
	var sum credit.Micro
	for n, row := range rows {
		require.Equal(t, s.customer, row.CustomerID)
		sum += row.Amount
		if n > 0 {
			require.Equal(t, rows[n-1].BalanceAfter, row.BalanceAfter+rows[n-1].Amount, "each row follows from the one before")
		}
	}
	require.Equal(t, balance, sum)
	require.Equal(t, balance, rows[0].BalanceAfter)
	require.Len(t, items[any](t, s, "/credits/transactions?execution_id="+id), 1)
	require.Len(t, items[any](t, s, "/credits/transactions?execution_id="+failed), 2)

	// The same grant again is the same grant.
	require.NoError(t, s.installation.Grant(t.Context(), s.customer, "once", plenty))
	require.NoError(t, s.installation.Grant(t.Context(), s.customer, "once", plenty))
	require.Equal(t, balance+plenty, s.balance(t))
	for _, amount := range []any{0, -5, "0.0000001", 1e30, "much", nil} {
		answer, err := s.installation.Operator().Call(t.Context(), http.MethodPost, harness.API+"/credits/grants",
			map[string]any{"customer_id": s.customer, "amount": amount})
		require.NoError(t, err)
		refused(t, answer, http.StatusUnprocessableEntity, "INVALID_REQUEST")
	}
}

func testAudit(t *testing.T, s *scene) {
	id := s.response(t, greeted()).ExecutionID
	var rows []query.AuditEvent
	eventually(t, "three audit rows", func() bool {
		rows = items[query.AuditEvent](t, s, "/audit/events?execution_id="+id)
		return len(rows) == 3
	})
	for n, kind := range []string{"completed", "funded", "accepted"} {
		require.Equal(t, id+"/"+kind, rows[n].EventID)
		require.Equal(t, id, rows[n].ResourceID)
		require.NotEmpty(t, rows[n].ActorID)
		require.True(t, bytes.HasPrefix(bytes.TrimSpace(rows[n].Leaf), []byte("{")), "the leaf is stored")
	}
	actions := map[string]bool{}
	eventually(t, "what was done to the catalogue and to credits is audited", func() bool {
		for _, row := range items[query.AuditEvent](t, s, "/audit/events?limit=200") {
			actions[row.ActionType] = true
		}
		return actions["recipe.published"] && actions["agent.created"] && actions["customer.created"] && len(actions) >= 6
	})
	t.Log(actions)
}

func testHealth(t *testing.T, s *scene) {
	nobody := harness.Client{Base: s.client.Base}
	for _, path := range []string{"/health", harness.API + "/health"} {
		answer, err := nobody.Call(t.Context(), http.MethodGet, path, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, answer.Status)
	}
	for _, path := range []string{"/ready", harness.API + "/ready"} {
		answer, err := nobody.Call(t.Context(), http.MethodGet, path, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, answer.Status, "%s", answer)
		var readiness query.Readiness
		require.NoError(t, answer.JSON(&readiness))
		require.True(t, readiness.Ready)
		for _, dependency := range []string{"nats", "postgres", harness.Billing, harness.Executor, harness.Audit} {
			require.Equal(t, "ok", readiness.Checks[dependency], dependency)
		}
	}
	answer, err := nobody.Call(t.Context(), http.MethodGet, "/openapi.json", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.Status)
}
