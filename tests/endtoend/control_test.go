package endtoend_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/tests/internal/harness"
)

const lonely = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: tester, id: lonely}
spec:
  steps:
    - {id: first, uses: action.http, price: "0.01", with: {method: POST, url: "URL/echo"}}
    - {id: meet, uses: action.http, price: "0.02", with: {url: "URL/meet/nobody-${execution.id}"}}
`

// testCancel cancels an execution in the middle of a call that would never end, while a caller waits for it.
func testCancel(t *testing.T, s *scene) {
	s.publish(t, lonely)
	before := s.balance(t)
	answers, failures := make(chan harness.Answer, 1), make(chan error, 1)
	go func() {
		answer, err := s.client.Call(t.Context(), http.MethodPost, harness.API+"/recipes/execute", of("lonely"), "Idempotency-Key", "lonely")
		answers <- answer
		failures <- err
	}()
	id := ""
	eventually(t, "it meets nobody", func() bool {
		for _, item := range items[struct {
			ID string `json:"execution_id"`
		}](t, s, "/executions?recipe_id=lonely") {
			id = item.ID
		}
		return id != "" && s.outside.called(id+"/meet") == 1
	})
	cancelled := s.call(t, http.MethodPost, "/executions/"+id+"/cancel", map[string]string{"reason": "in vain"})
	require.Equal(t, http.StatusOK, cancelled.Status, "%s", cancelled)
	response := s.standard(t, cancelled.Body)
	require.Equal(t, event.StatusFailed, response.Status)
	require.Equal(t, "CANCELLED", string(response.Errors[0].Code))
	require.Contains(t, response.Errors[0].Message, "in vain")
	require.Zero(t, response.Metadata.CreditsConsumed)
	eventually(t, "the call is interrupted", func() bool { return s.outside.wasLeft(id + "/meet") })

	answer := <-answers
	require.NoError(t, <-failures)
	require.Equal(t, http.StatusOK, answer.Status)
	require.Equal(t, string(cancelled.Body), string(answer.Body), "the caller who waited hears the same")
	require.Equal(t, string(cancelled.Body), string(s.journal(t, id).Last(event.Completed).Data))
	refused(t, s.call(t, http.MethodPost, "/executions/"+id+"/cancel", nil), http.StatusConflict, "EXECUTION_ENDED")
	refused(t, s.call(t, http.MethodPost, "/executions/018f3a5e-0000-7000-8000-000000000000/cancel", nil),
		http.StatusNotFound, "NOT_FOUND")
	eventually(t, "everything is given back", func() bool { return s.balance(t) == before })
}

const doors = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: tester, id: doors}
spec:
  steps:
    - {id: first, uses: action.http, price: "0.01", with: {method: POST, url: "URL/echo"}}
    - id: each
      foreach: {in: "${['left', 'middle', 'right']}", as: name, max_items: 3, max_parallel: 1}
      uses: action.http
      with: {url: "URL/door/CUSTOMER-${name}"}
      price: "0.10"
    - {id: last, uses: action.http, price: "1.00", with: {method: POST, url: "URL/echo"}}
  result: {doors: "${size(steps.each.outputs)}"}
`

// calls is how often the steps of doors were called: first, the three items, last.
func (s *scene) calls(id string) [5]int {
	var counts [5]int
	for n, step := range []string{"first", "each/0", "each/1", "each/2", "last"} {
		counts[n] = s.outside.called(id + "/" + step)
	}
	return counts
}

// testResume goes on from the item that failed, then repeats a part and the whole of it: three executions, each paid for what it did.
func testResume(t *testing.T, s *scene) {
	s.publish(t, strings.ReplaceAll(doors, "CUSTOMER", s.customer))
	s.outside.open(s.customer + "-left")
	s.outside.open(s.customer + "-right")
	before := s.balance(t)
	failed := s.response(t, of("doors"))
	require.Equal(t, event.StatusFailed, failed.Status)
	require.Equal(t, [5]int{1, 1, 1, 0, 0}, s.calls(failed.ExecutionID))
	eventually(t, "a failure costs nothing", func() bool { return s.balance(t) == before })

	s.outside.open(s.customer + "-middle")
	follow := func(of, verb string, body any) event.Response {
		answer := s.call(t, http.MethodPost, "/executions/"+of+"/"+verb, body)
		require.Equal(t, http.StatusOK, answer.Status, "%s", answer)
		response := s.standard(t, answer.Body)
		require.Equal(t, event.StatusSuccess, response.Status, "%+v", response)
		require.JSONEq(t, `{"doors":3}`, string(response.Data))
		return response
	}
	resumed := follow(failed.ExecutionID, "resume", nil)
	require.Equal(t, [5]int{0, 0, 1, 1, 1}, s.calls(resumed.ExecutionID), "what was done is not called again")
	require.Equal(t, credit.Micro(1_310_000), resumed.Metadata.CreditsConsumed, "what was given back is charged now")
	origin := s.standing(t, resumed.ExecutionID).Origin
	require.Equal(t, event.Origin{ExecutionID: failed.ExecutionID, Verb: event.VerbResume, Step: "each"}, *origin)
	refused(t, s.call(t, http.MethodPost, "/executions/"+resumed.ExecutionID+"/resume", nil), http.StatusConflict, "CONFLICT")

	part := follow(resumed.ExecutionID, "rerun", map[string]string{"from_step": "each"})
	require.Equal(t, [5]int{0, 1, 1, 1, 1}, s.calls(part.ExecutionID))
	require.Equal(t, credit.Micro(1_300_000), part.Metadata.CreditsConsumed, "what was paid for is not charged again")
	whole := follow(part.ExecutionID, "rerun", nil)
	require.Equal(t, [5]int{1, 1, 1, 1, 1}, s.calls(whole.ExecutionID))
	eventually(t, "the credits add up", func() bool { return s.balance(t) == before-1_310_000-1_300_000-1_310_000 })
	require.Equal(t, [5]int{1, 1, 1, 0, 0}, s.calls(failed.ExecutionID), "the first one is left alone")
}

// confidential is the value of a secret.
const confidential = "s3cret-7f1c9ab04e"

const discreet = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: tester, id: discreet}
spec:
  steps:
    - id: call
      uses: action.http
      with: {url: "URL/secret", headers: {authorization: "Bearer ${secrets.token}"}}
    - {id: keep, uses: action.http, with: {method: POST, url: "URL/echo", body: {told: "${steps.call.output}"}}}
    - {id: gone, uses: action.http, on_error: continue, with: {url: "URL/door/never?key=${secrets.token}"}}
  result: {all: "${steps.keep.output.body}"}
`

// testSecret: the value of a secret gets to the one who is called, and nowhere else, though that one repeats it.
func testSecret(t *testing.T, s *scene) {
	s.publish(t, discreet)
	failed := s.response(t, of("discreet"))
	require.Equal(t, "SECRET_UNAVAILABLE", string(failed.Errors[0].Code))
	answer := s.call(t, http.MethodPut, "/secrets/token", map[string]string{"value": confidential})
	require.Equal(t, http.StatusNoContent, answer.Status, "%s", answer)
	var response event.Response
	eventually(t, "the secret is known within seconds", func() bool {
		response = s.response(t, of("discreet"))
		return response.Status != event.StatusFailed
	})
	require.Equal(t, event.StatusPartial, response.Status, "%+v", response)
	require.Contains(t, string(response.Data), "Bearer ", "the other side repeated what it was told")
	require.NotContains(t, string(response.Data), confidential)
	for _, event := range s.journal(t, response.ExecutionID).Events {
		require.NotContains(t, string(event.Data), confidential)
		require.NotContains(t, event.Header, confidential)
	}
	eventually(t, "it is in the audit log that the secret was set, and that it was used is over", func() bool {
		audited := string(s.call(t, http.MethodGet, "/audit/events?limit=200", nil).Body)
		require.NotContains(t, audited, confidential)
		return strings.Contains(audited, `"secret.set"`) && strings.Contains(audited, response.ExecutionID+"/completed")
	})
	files, err := s.installation.Files(confidential)
	require.NoError(t, err)
	require.Empty(t, files, "files of galley, NATS and Postgres, logs included, that hold the secret")
	files, err = s.installation.Files(response.ExecutionID)
	require.NoError(t, err)
	require.NotEmpty(t, files, "what is stored would be found")
}

// testOperator looks at what only the operator may see.
func testOperator(t *testing.T, s *scene) {
	operator := s.installation.Operator()
	for _, path := range []string{"/executions/stuck", "/dead-letters"} {
		refused(t, s.call(t, http.MethodGet, path, nil), http.StatusForbidden, "FORBIDDEN")
	}
	answer, err := operator.Call(t.Context(), http.MethodGet, harness.API+"/executions/stuck", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.Status, "%s", answer)
	require.JSONEq(t, `{"items":[]}`, string(answer.Body))

	nowhere := "galley.due.execution." + s.customer // it names no execution
	s.publishTo(t, nowhere, []byte("?"))
	path := harness.API + "/dead-letters"
	type letter struct {
		Sequence int    `json:"sequence"`
		Subject  string `json:"subject"`
		Reason   string `json:"reason"`
	}
	var found letter
	eventually(t, "the message becomes a dead letter", func() bool {
		answer, err := operator.Call(t.Context(), http.MethodGet, path, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, answer.Status, "%s", answer)
		var list struct {
			Items []letter `json:"items"`
		}
		require.NoError(t, answer.JSON(&list))
		for _, item := range list.Items {
			if item.Subject == nowhere {
				found = item
			}
		}
		return found.Sequence > 0
	})
	require.NotEmpty(t, found.Reason)
}
