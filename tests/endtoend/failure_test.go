package endtoend_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
)

// failing fails in its second step; what the first one cost is given back.
const failing = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: tester, id: failing}
spec:
  steps:
    - {id: first, uses: state.set, price: "0.5", with: {done: true}}
    - {id: second, uses: action.http, price: "0.5", with: {url: "URL/status/404?always=1"}}
`

const partly = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: tester, id: partly}
spec:
  defaults: {retry: {max_attempts: 4, initial: 10ms, max: 20ms, multiplier: 2, jitter: true}}
  steps:
    - {id: retried, uses: action.http, price: "0.01", with: {method: POST, url: "URL/status/503"}}
    - {id: limited, uses: action.http, price: "0.02", with: {method: POST, url: "URL/status/429"}}
    - {id: missing, uses: action.http, price: "0.04", on_error: continue, with: {url: "URL/status/404?always=1"}}
    - {id: skipped, uses: action.http, price: "0.08", if: "${steps.missing.status == 'success'}", with: {url: "URL/echo"}}
    - {id: echoed, uses: action.http, price: "0.16", with: {method: POST, url: "URL/echo", query: {q: "a b&c"}, body: {list: [1, 2, 3]}}}
  result: {echo: "${steps.echoed.output.body}", failure: "${steps.missing.error.code}"}
`

func testPartial(t *testing.T, s *scene) {
	s.publish(t, partly)
	before := s.balance(t)
	response := s.response(t, of("partly"))
	require.Equal(t, event.StatusPartial, response.Status, "%+v", response)
	statuses := map[string]string{}
	for _, step := range response.Metadata.Steps {
		statuses[step.ID] = fmt.Sprint(step.Status, " ", step.Attempts)
	}
	require.Equal(t, map[string]string{
		"retried": "success 3", "limited": "success 3", "missing": "failed 1", "skipped": "skipped 0", "echoed": "success 1",
	}, statuses)
	require.Equal(t, credit.Micro(190_000), response.Metadata.CreditsConsumed)
	require.Len(t, response.Errors, 1)
	require.Equal(t, "UPSTREAM_4XX", string(response.Errors[0].Code))
	require.Equal(t, "missing", response.Errors[0].Step)
	require.Equal(t, 1, response.Errors[0].Attempt)
	require.Equal(t, []event.Kind{
		event.Accepted, event.Funded, event.Started, event.Step, event.Step, event.Step, event.Completed,
	}, kinds(s.journal(t, response.ExecutionID)), "each effect is durable before the next; completed carries the last one")
	key := response.ExecutionID + "/echoed"
	require.Contains(t, string(response.Data), `"key":"`+key+`"`, "the outside world gets a stable idempotency key")
	require.Contains(t, string(response.Data), `"q":["a b&c"]`)
	require.Contains(t, string(response.Data), `"list":[1,2,3]`)
	require.Contains(t, string(response.Data), `"failure":"UPSTREAM_4XX"`)
	require.Equal(t, 3, s.outside.called(response.ExecutionID+"/retried"), "each attempt has the same key")
	eventually(t, "what failed or was skipped is given back", func() bool { return s.balance(t) == before-190_000 })
}

// one is a recipe with a single step.
func one(id, step string) string {
	return "apiVersion: galley/v1\nkind: Recipe\nmetadata: {agent: tester, id: " + id + "}\nspec:\n" +
		"  defaults: {retry: {max_attempts: 2, initial: 10ms, max: 20ms, multiplier: 2, jitter: false}}\n  steps:\n    - " + step + "\n"
}

func testFailures(t *testing.T, s *scene) {
	tests := map[string]struct {
		step, code string
		attempts   int
		retryable  bool
	}{
		"gone":    {`{id: a, uses: action.http, price: "0.1", with: {url: "CLOSED/"}}`, "CONNECTION", 2, true},
		"refused": {`{id: a, uses: action.http, price: "0.1", with: {url: "URL/status/404?always=1"}}`, "UPSTREAM_4XX", 1, false},
		"broken":  {`{id: a, uses: action.http, price: "0.1", with: {url: "URL/status/503?always=1"}}`, "UPSTREAM_5XX", 2, true},
		"limited": {`{id: a, uses: action.http, price: "0.1", with: {url: "URL/status/429?always=1"}}`, "RATE_LIMITED", 2, true},
		"late":    {`{id: a, uses: action.http, price: "0.1", timeout: 100ms, with: {url: "URL/slow"}}`, "TIMEOUT", 2, true},
		"wrong":   {`{id: a, uses: state.set, price: "0.1", with: {x: "${input.nothing.at.all}"}}`, "EXPRESSION_ERROR", 0, false},
		"divided": {`{id: a, uses: state.set, price: "0.1", with: {x: "${1 / int(size(execution.id) - 36)}"}}`, "EXPRESSION_ERROR", 0, false},
	}
	before := s.balance(t)
	for name, test := range tests {
		s.publish(t, one(name, strings.ReplaceAll(test.step, "CLOSED", s.outside.closed)))
		response := s.response(t, of(name))
		require.Equal(t, event.StatusFailed, response.Status, name)
		require.Equal(t, test.code, string(response.Errors[0].Code), "%s: %+v", name, response.Errors)
		require.Equal(t, test.retryable, response.Errors[0].Retryable, "%s: %+v", name, response.Errors)
		require.Equal(t, test.attempts, response.Metadata.Steps[0].Attempts, name)
		require.Equal(t, "null", string(response.Data), name)
		require.Zero(t, response.Metadata.CreditsConsumed, name)
		require.NotContains(t, response.Errors[0].Message, "127.0.0.1", "%s: no internal address leaves", name)
	}
	eventually(t, "everything is given back", func() bool { return s.balance(t) == before })
}

func testEndlessExpression(t *testing.T, s *scene) {
	// A billion turns, if nobody stopped it.
	list := "[" + strings.TrimSuffix(strings.Repeat("1,", 1000), ",") + "]"
	s.publish(t, one("endless", fmt.Sprintf(
		`{id: a, uses: state.set, with: {list: "${%s}"}}`, list)+"\n    - "+
		`{id: b, uses: state.set, with: {x: "${state.list.map(a, state.list.map(b, state.list.map(c, a + b + c)))}"}}`))
	begin := time.Now()
	response := s.response(t, of("endless"))
	require.Equal(t, event.StatusFailed, response.Status)
	require.Equal(t, "EXPRESSION_LIMIT", string(response.Errors[0].Code))
	require.Less(t, time.Since(begin), 20*time.Second)

	// So does a recipe that runs into its own time-out.
	s.publish(t, strings.Replace(one("overdue", `{id: a, uses: action.http, with: {url: "URL/slow"}}`), "spec:\n", "spec:\n  timeout: 200ms\n", 1))
	response = s.response(t, of("overdue"))
	require.Equal(t, event.StatusFailed, response.Status)
	require.Equal(t, "TIMEOUT", string(response.Errors[0].Code))
}

func testHugeAnswer(t *testing.T, s *scene) {
	s.publish(t, one("huge", `{id: a, uses: action.http, with: {url: "URL/huge"}}`))
	response := s.response(t, of("huge"))
	require.Equal(t, event.StatusFailed, response.Status)
	require.Equal(t, "STATE_TOO_LARGE", string(response.Errors[0].Code))
}

func testGrowingState(t *testing.T, s *scene) {
	s.publish(t, one("growing", `{id: a, uses: action.http, with: {url: "URL/large"}}
    - {id: b, uses: state.set, checkpoint: true, with: {b: "${steps.a.output.body}"}}
    - {id: c, uses: state.set, checkpoint: true, with: {c: "${steps.a.output.body}"}}
    - {id: d, uses: state.set, checkpoint: true, with: {d: "${steps.a.output.body}"}}`))
	response := s.response(t, of("growing"))
	require.Equal(t, event.StatusFailed, response.Status)
	require.Equal(t, "STATE_TOO_LARGE", string(response.Errors[0].Code))
}

func testForbiddenAddresses(t *testing.T, s *scene) {
	forbidden := []string{
		"http://127.0.0.1:1/", "http://localhost:1/", "http://[::1]:1/", "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/",
		"http://0.0.0.0:1/", "http://[::ffff:127.0.0.1]:1/",
	}
	for n, address := range forbidden {
		id := fmt.Sprintf("forbidden-%d", n)
		s.publish(t, one(id, `{id: a, uses: action.http, with: {url: "`+address+`"}}`))
		answer := s.execute(t, of(id))
		require.Equal(t, http.StatusOK, answer.Status)
		response := s.standard(t, answer.Body)
		require.Equal(t, event.StatusFailed, response.Status, address)
		require.Equal(t, "ADDRESS_REFUSED", string(response.Errors[0].Code), "%s: %+v", address, response.Errors)
	}
}
