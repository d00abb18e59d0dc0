package httpapi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
)

const feast = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: cook, id: feast}
spec:
  input: {type: object, required: [guests], properties: {guests: {type: integer}}}
  steps:
    - {id: remember, uses: state.set, with: {a: 1}}
    - {id: invite, uses: action.http, with: {url: "https://feast.example"}, price: "0.02", foreach: {in: "${[1, 2]}", as: guest, max_items: 5}}
    - id: toast
      uses: ai.chat
      with: {prompt: "Praise the cook."}
      price: {per_1k_input_tokens: "0.001", per_1k_output_tokens: "0.002", max: "0.5"}
`

// balance has billing answer with a balance.
func (s *server) balance(t *testing.T, available credit.Micro) {
	t.Helper()
	answer(t, s, query.ServiceBilling, query.Balance, func(r query.BalanceRequest) (query.BalanceReply, error) {
		return query.BalanceReply{CustomerID: r.CustomerID, Posted: available, Available: available}, nil
	})
}

func TestQuote(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	published := s.call(t, key, "POST", "/api/v1/recipes", feast, "Content-Type", "application/yaml")
	require.Equal(t, 201, published.status, string(published.body))
	const path, body = "/api/v1/recipes/quote", `{"agent_id":"cook","recipe_id":"feast","input_data":{"guests":2}}`
	require.Equal(t, 503, s.call(t, key, "POST", path, body).problem(t).Status, "billing does not answer")
	s.balance(t, 600_000)

	got := s.call(t, key, "POST", path, body)
	require.Equal(t, 200, got.status, string(got.body))
	require.JSONEq(t, `{
		"customer_id": "alice", "agent_id": "cook", "recipe_id": "feast", "recipe_version": 1,
		"quoted_credits": 0.6, "available_credits": 0.6, "covered": true,
		"steps": [
			{"id": "remember", "kind": "state.set", "max_credits": 0, "price": {"fixed": 0}},
			{"id": "invite", "kind": "action.http", "max_credits": 0.1, "price": {"fixed": 0.02, "max_items": 5}},
			{"id": "toast", "kind": "ai.chat", "max_credits": 0.5, "price": {"fixed": 0, "max": 0.5, "rates": [
				{"meter": "input_tokens", "credits": 0.001, "per": 1000}, {"meter": "output_tokens", "credits": 0.002, "per": 1000}]}}
		]
	}`, string(got.body))
	require.Empty(t, s.executor.command().Recipe, "nothing is run")

	for body, want := range map[string]struct {
		status int
		code   string
		place  string
	}{
		`{"agent_id":"cook","recipe_id":"feast"}`:                                             {422, "INPUT_INVALID", "/input_data/guests"},
		`{"agent_id":"cook","recipe_id":"feast","version":2,"input_data":{"guests":2}}`:       {404, "NOT_FOUND", ""},
		`{"agent_id":"cook","recipe_id":"cake"}`:                                              {404, "NOT_FOUND", ""},
		`{"recipe_id":"feast"}`:                                                               {422, "INVALID_REQUEST", "/agent_id"},
		`{"agent_id":"cook","recipe_id":"feast","price":1}`:                                   {422, "INVALID_REQUEST", "/price"},
		`{"agent_id":"cook","recipe_id":"feast","customer_id":"bob"}`:                         {403, "FORBIDDEN", ""},
		`{"agent_id":"cook","recipe_id":"feast","customer_id":"alice","input_data":"guests"}`: {422, "INPUT_INVALID", "/input_data"},
	} {
		p := s.call(t, key, "POST", path, body).problem(t)
		require.Equal(t, []any{want.status, want.code}, []any{p.Status, p.Code}, body)
		if want.place != "" {
			require.Equal(t, want.place, places(p), body)
		}
	}
}

// What costs nothing is run without any credits; anything else is covered to the micro-credit or not.
func TestQuoteIsCoveredOrNot(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	published := s.call(t, key, "POST", "/api/v1/recipes", feast, "Content-Type", "application/yaml")
	require.Equal(t, 201, published.status, string(published.body))
	s.balance(t, 599_999)
	for body, covered := range map[string]bool{
		`{"agent_id":"cook","recipe_id":"soup"}`: true, `{"agent_id":"cook","recipe_id":"feast","input_data":{"guests":2}}`: false,
	} {
		var quote struct{ Covered bool }
		s.call(t, key, "POST", "/api/v1/recipes/quote", body).into(t, &quote)
		require.Equal(t, covered, quote.Covered, body)
	}
}
