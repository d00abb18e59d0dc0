package endtoend_test

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/tests/internal/harness"
)

func testExecute(t *testing.T, s *scene) {
	answer := s.execute(t, greeted().with("customer_id", s.customer))
	require.Equal(t, http.StatusOK, answer.Status, "%s", answer)
	response := s.standard(t, answer.Body)
	require.Equal(t, event.StatusSuccess, response.Status)
	require.JSONEq(t, `{"greeting":"hello Ada","length":9}`, string(response.Data))
	require.Equal(t, credit.Micro(greetPrice), response.Metadata.CreditsConsumed)
	require.Equal(t, 2, response.Metadata.ComponentsExecuted)
	require.Equal(t, 1, response.RecipeVersion)
	require.Empty(t, response.Errors)

	journal := s.journal(t, response.ExecutionID)
	require.Equal(t, []event.Kind{event.Accepted, event.Funded, event.Step, event.Completed}, kinds(journal))
	require.JSONEq(t, string(journal.Last(event.Completed).Data), string(answer.Body))

	again := s.call(t, http.MethodGet, "/executions/"+response.ExecutionID, nil)
	require.Equal(t, http.StatusOK, again.Status)
	require.Equal(t, string(answer.Body), string(again.Body), "the answer is the same everywhere")
}

func testRespondAsync(t *testing.T, s *scene) {
	answer := s.execute(t, greeted(), "Prefer", "respond-async")
	require.Equal(t, http.StatusAccepted, answer.Status, "%s", answer)
	require.Contains(t, answer.Header.Get("Preference-Applied"), "respond-async")
	// It is never a 404, from the first moment on: followed makes sure.
	response := s.followed(t, answer.Header.Get("Location"))
	require.Equal(t, event.StatusSuccess, response.Status)
	var accepted struct {
		ExecutionID string `json:"execution_id"`
	}
	require.NoError(t, answer.JSON(&accepted))
	require.Equal(t, accepted.ExecutionID, response.ExecutionID)
}

const slowly = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: tester, id: slowly}
spec:
  steps:
    - {id: wait, uses: action.http, with: {url: "URL/slow"}}
`

func testWait(t *testing.T, s *scene) {
	s.publish(t, slowly)
	for _, wait := range []string{"wait=0", "wait=1"} {
		answer := s.execute(t, of("slowly"), "Prefer", wait)
		require.Equal(t, http.StatusAccepted, answer.Status, "%s: %s", wait, answer)
		response := s.followed(t, answer.Header.Get("Location"))
		require.Equal(t, event.StatusSuccess, response.Status)
	}
	require.Equal(t, event.StatusSuccess, s.response(t, of("slowly"), "Prefer", "wait=20").Status)
	refused(t, s.execute(t, of("slowly"), "Prefer", "wait=soon"), http.StatusUnprocessableEntity, "INVALID_REQUEST")
}

func testIdempotencyKey(t *testing.T, s *scene) {
	before := s.balance(t)
	first := s.response(t, greeted(), "Idempotency-Key", "order-1")
	again := s.response(t, greeted(), "Idempotency-Key", "order-1")
	require.Equal(t, first, again)
	later := s.execute(t, greeted(), "Idempotency-Key", "order-1", "Prefer", "respond-async")
	require.Contains(t, []int{http.StatusOK, http.StatusAccepted}, later.Status)
	other := s.response(t, greeted(), "Idempotency-Key", "order-2")
	require.NotEqual(t, first.ExecutionID, other.ExecutionID)
	eventually(t, "charged for two executions", func() bool { return s.balance(t) == before-2*greetPrice })

	different := greeted().with("input_data", map[string]any{"name": "Grace"})
	refused(t, s.execute(t, different, "Idempotency-Key", "order-1"), http.StatusConflict, "CONFLICT")
	for _, key := range []string{"", "schlüssel", strings.Repeat("k", 256)} {
		answer := s.execute(t, greeted(), "Idempotency-Key", key)
		require.Equal(t, http.StatusUnprocessableEntity, answer.Status, "%q: %s", key, answer)
	}
}

func testIdempotencyKeyAtOnce(t *testing.T, s *scene) {
	const callers = 12
	answers := make([]harness.Answer, callers)
	errs := make([]error, callers)
	var group sync.WaitGroup
	for n := range callers {
		group.Go(func() {
			answers[n], errs[n] = s.client.Call(t.Context(), http.MethodPost, harness.API+"/recipes/execute", greeted(), "Idempotency-Key", "at-once")
		})
	}
	group.Wait()
	for n, answer := range answers {
		require.NoError(t, errs[n])
		require.Equal(t, http.StatusOK, answer.Status, "%s", answer)
		require.Equal(t, string(answers[0].Body), string(answer.Body))
	}
	response := s.standard(t, answers[0].Body)
	require.Equal(t, []event.Kind{event.Accepted, event.Funded, event.Step, event.Completed}, kinds(s.journal(t, response.ExecutionID)))
}

func testInsufficientCredits(t *testing.T, s *scene) {
	poor := s.newScene(t, greetPrice+greetPrice/2)
	require.Equal(t, event.StatusSuccess, poor.response(t, greeted()).Status)
	answer := poor.execute(t, greeted())
	p := refused(t, answer, http.StatusPaymentRequired, "INSUFFICIENT_CREDITS")
	require.NotEmpty(t, p.ExecutionID)
	require.Equal(t, []event.Kind{event.Accepted, event.Completed}, kinds(poor.journal(t, p.ExecutionID)))
	response := poor.followed(t, harness.API+"/executions/"+p.ExecutionID)
	require.Equal(t, event.StatusFailed, response.Status)
	require.Equal(t, "INSUFFICIENT_CREDITS", string(response.Errors[0].Code))
	require.Zero(t, response.Metadata.CreditsConsumed)
	require.Equal(t, credit.Micro(greetPrice/2), poor.balance(t))

	require.NoError(t, s.installation.Grant(t.Context(), poor.customer, "more", plenty))
	require.Equal(t, event.StatusSuccess, poor.response(t, greeted()).Status)
}

func testNotFound(t *testing.T, s *scene) {
	refused(t, s.execute(t, of("unheard-of")), http.StatusNotFound, "NOT_FOUND")
	refused(t, s.execute(t, greeted().with("agent_id", "nobody")), http.StatusNotFound, "NOT_FOUND")
	refused(t, s.execute(t, greeted().with("version", 7)), http.StatusNotFound, "NOT_FOUND")
	refused(t, s.call(t, http.MethodGet, "/recipes/unheard-of", nil), http.StatusNotFound, "NOT_FOUND")
	refused(t, s.call(t, http.MethodGet, "/nothing/here", nil), http.StatusNotFound, "NOT_FOUND")
	refused(t, s.call(t, http.MethodGet, "/executions/0199f3d0-1111-7222-8333-444455556666", nil), http.StatusNotFound, "NOT_FOUND")

	// What belongs to another customer is not there either.
	other := s.newScene(t, plenty)
	id := other.response(t, greeted()).ExecutionID
	refused(t, s.call(t, http.MethodGet, "/executions/"+id, nil), http.StatusNotFound, "NOT_FOUND")
	other.publish(t, slowly)
	refused(t, s.execute(t, of("slowly")), http.StatusNotFound, "NOT_FOUND")
	require.NotContains(t, items[map[string]any](t, s, "/executions"), id)
}

func testInvalidInput(t *testing.T, s *scene) {
	answer := s.execute(t, greeted().with("input_data", map[string]any{"name": "A", "times": "often", "shout": true}))
	p := refused(t, answer, http.StatusUnprocessableEntity, "INPUT_INVALID")
	require.ElementsMatch(t, []string{"/input_data/name", "/input_data/times", "/input_data/shout"}, p.paths(), "%s", answer)
	for _, input := range []any{nil, map[string]any{}, []any{}, "text", 1, true} {
		answer := s.execute(t, greeted().with("input_data", input))
		require.Equal(t, http.StatusUnprocessableEntity, answer.Status, "%v: %s", input, answer)
	}
	require.Empty(t, items[any](t, s, "/executions"), "nothing was accepted")
}

func testListExecutions(t *testing.T, s *scene) {
	s.publish(t, failing)
	var ids []string
	for range 5 {
		ids = append(ids, s.response(t, greeted()).ExecutionID)
	}
	failed := s.response(t, of("failing")).ExecutionID
	type execution struct {
		ExecutionID string `json:"execution_id"`
		Status      string `json:"status"`
		RecipeID    string `json:"recipe_id"`
	}
	eventually(t, "all are projected", func() bool {
		return len(items[execution](t, s, "/executions?status=success"))+len(items[execution](t, s, "/executions?status=failed")) == 6
	})
	list := func(path string) (found []string, next string) {
		answer := s.call(t, http.MethodGet, path, nil)
		require.Equal(t, http.StatusOK, answer.Status, "%s", answer)
		var page struct {
			Items []execution `json:"items"`
			Next  string      `json:"next_cursor"`
		}
		require.NoError(t, answer.JSON(&page))
		for _, item := range page.Items {
			found = append(found, item.ExecutionID)
		}
		return found, page.Next
	}
	var pages []string
	for cursor, n := "", 0; n == 0 || cursor != ""; n++ {
		require.Less(t, n, 5)
		var found []string
		found, cursor = list("/executions?limit=2&cursor=" + cursor)
		require.LessOrEqual(t, len(found), 2)
		pages = append(pages, found...)
	}
	require.Equal(t, failed, pages[0], "the newest comes first")
	require.ElementsMatch(t, append(ids, failed), pages)
	found, _ := list("/executions?status=failed")
	require.Equal(t, []string{failed}, found)
	found, _ = list("/executions?recipe_id=" + greet + "&customer_id=" + s.customer)
	require.ElementsMatch(t, ids, found)
	for _, query := range []string{"cursor=bogus", "limit=0", "limit=1000000", "status=done", "colour=blue", "recipe_id=a.b"} {
		answer := s.call(t, http.MethodGet, "/executions?"+query, nil)
		assert.Equal(t, http.StatusUnprocessableEntity, answer.Status, "%s: %s", query, answer)
	}
}

func testRecipeVersions(t *testing.T, s *scene) {
	document := func(n int) []byte {
		return []byte(`
apiVersion: galley/v1
kind: Recipe
metadata: {agent: tester, id: versioned}
spec:
  steps: [{id: one, uses: state.set, with: {number: ` + strconv.Itoa(n) + `}}]
`)
	}
	publish := func(n int) (status, version int) {
		answer := s.call(t, http.MethodPost, "/recipes", document(n), "Content-Type", "application/yaml")
		var published struct {
			Version int `json:"version"`
		}
		require.NoError(t, answer.JSON(&published))
		return answer.Status, published.Version
	}
	for _, want := range []struct{ number, status, version int }{
		{1, http.StatusCreated, 1}, {1, http.StatusOK, 1}, {2, http.StatusCreated, 2}, {1, http.StatusOK, 1}, {3, http.StatusCreated, 3},
	} {
		status, version := publish(want.number)
		require.Equal(t, want.status, status)
		require.Equal(t, want.version, version)
	}
	eventually(t, "the newest version is run", func() bool { return s.response(t, of("versioned")).RecipeVersion == 3 })
	pinned := s.response(t, of("versioned").with("version", 1))
	require.Equal(t, 1, pinned.RecipeVersion)
	require.JSONEq(t, `{"number":1}`, string(pinned.Data))
	require.Len(t, items[any](t, s, "/recipes"), 2)
	require.Len(t, items[any](t, s, "/agents"), 1)
	answer := s.call(t, http.MethodGet, "/recipes/versioned?version=2", nil)
	require.Equal(t, http.StatusOK, answer.Status, "%s", answer)
}

func testInvalidRecipes(t *testing.T, s *scene) {
	const head = "apiVersion: galley/v1\nkind: Recipe\nmetadata: {agent: tester, id: bad}\nspec:\n"
	tests := map[string]struct{ spec, path string }{
		"unknown kind":       {"  steps: [{id: a, uses: magic.wand, with: {}}]", "/spec/steps/0/uses"},
		"unknown field":      {"  steps: [{id: a, uses: state.set, within: {}, with: {}}]", "/spec/steps/0/within"},
		"unknown reference":  {"  steps: [{id: a, uses: state.set, with: {x: \"${steps.b.output}\"}}]", "/spec/steps/0/with/x"},
		"wrong expression":   {"  steps: [{id: a, uses: state.set, with: {x: \"${1 +}\"}}]", "/spec/steps/0/with/x"},
		"id with a dot":      {"  steps: [{id: a.b, uses: state.set, with: {}}]", "/spec/steps/0/id"},
		"no steps":           {"  steps: []", "/spec/steps"},
		"remote reference":   {"  input: {$ref: \"https://example.com/schema.json\"}\n  steps: [{id: a, uses: state.set, with: {}}]", "/spec/input"},
		"price above max":    {"  max_credits: \"1\"\n  steps: [{id: a, uses: state.set, with: {}, price: \"2\"}]", "/spec/max_credits"},
		"negative price":     {"  steps: [{id: a, uses: state.set, with: {}, price: \"-2\"}]", "/spec/steps/0/price"},
		"seven places":       {"  steps: [{id: a, uses: state.set, with: {}, price: \"0.0000001\"}]", "/spec/steps/0/price"},
		"same id twice":      {"  steps: [{id: a, uses: state.set, with: {}}, {id: a, uses: state.set, with: {}}]", "/spec/steps/1/id"},
		"not in this format": {"  stages: []", "/spec/stages"},
	}
	for name, test := range tests {
		answer := s.call(t, http.MethodPost, "/recipes", []byte(head+test.spec), "Content-Type", "application/yaml")
		p := refused(t, answer, http.StatusUnprocessableEntity, "INVALID_RECIPE")
		assert.Contains(t, p.paths(), test.path, "%s: %s", name, answer)
		for _, each := range p.Errors {
			assert.Positive(t, each.Line, "%s: %s", name, answer)
		}
	}
	for _, text := range []string{"{", "a: b: c", "\x00", "- - -", "&a [*a, *a]"} {
		answer := s.call(t, http.MethodPost, "/recipes", []byte(text), "Content-Type", "application/yaml")
		refused(t, answer, http.StatusUnprocessableEntity, "INVALID_RECIPE")
	}
	require.Len(t, items[any](t, s, "/recipes"), 1)
}
