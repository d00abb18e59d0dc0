package endtoend_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/tests/internal/harness"
)

const looking = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: tester, id: looking}
spec:
  steps:
    - id: look
      foreach: {in: "${['echo', 'status/404', 'echo']}", as: path, max_items: 5, max_parallel: 2}
      uses: action.http
      with: {method: POST, url: "URL/${path}", query: {always: 1}, body: {number: "${index}"}}
      on_error: continue
      price: "0.01"
    - {id: done, uses: state.set, with: {done: true}}
  result: {found: "${steps.look.outputs.map(o, o == null ? -1 : int(o.body.body.number))}", status: "${steps.look.status}"}
`

func testForEach(t *testing.T, s *scene) {
	s.publish(t, looking)
	before := s.balance(t)
	response := s.response(t, of("looking"))
	require.Equal(t, event.StatusPartial, response.Status, "%+v", response)
	require.JSONEq(t, `{"found":[0,-1,2],"status":"partial"}`, string(response.Data), "outputs are in the order of the items")
	require.Equal(t, event.ItemCount{Total: 3, Succeeded: 2, Failed: 1}, *response.Metadata.Steps[0].Items)
	require.Equal(t, 3, response.Metadata.RecordsProcessed)
	require.Equal(t, "UPSTREAM_4XX", string(response.Errors[0].Code))
	require.Contains(t, response.Errors[0].Message, "item 1")
	for _, item := range []string{"0", "1", "2"} {
		require.Equal(t, 1, s.outside.called(response.ExecutionID+"/look/"+item), "each item has a key of its own")
	}
	require.Equal(t, credit.Micro(20_000), response.Metadata.CreditsConsumed)
	eventually(t, "two items of five are paid for", func() bool { return s.balance(t) == before-20_000 })
}

const meeting = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: tester, id: meeting}
spec:
  steps:
    - parallel:
        - {id: one, uses: action.http, with: {url: "URL/meet/${execution.id}"}}
        - steps:
            - {id: before, uses: state.set, with: {place: "${execution.id}"}}
            - {id: other, uses: action.http, with: {url: "URL/meet/${state.place}"}}
    - {id: after, uses: state.set, with: {both: "${steps.one.status + ' ' + steps.other.status}"}}
`

// testParallel has two branches that only end together.
func testParallel(t *testing.T, s *scene) {
	s.publish(t, meeting)
	response := s.response(t, of("meeting"))
	require.Equal(t, event.StatusSuccess, response.Status, "%+v", response)
	require.Contains(t, string(response.Data), `"both":"success success"`)
}

// standing is how an execution stands.
type standing struct {
	event.Response
	Waits  []event.Wait  `json:"waits"`
	Origin *event.Origin `json:"origin"`
}

func (s *scene) standing(t *testing.T, id string) standing {
	t.Helper()
	var found standing
	require.NoError(t, s.call(t, http.MethodGet, "/executions/"+id, nil).JSON(&found))
	return found
}

// begin has a recipe executed and does not wait for its end.
func (s *scene) begin(t *testing.T, recipe string) (id, location string) {
	t.Helper()
	answer := s.execute(t, of(recipe), "Prefer", "respond-async")
	require.Equal(t, http.StatusAccepted, answer.Status, "%s", answer)
	var accepted event.Response
	require.NoError(t, answer.JSON(&accepted))
	return accepted.ExecutionID, answer.Header.Get("Location")
}

// waits has a recipe executed until it waits.
func (s *scene) waits(t *testing.T, recipe string) (id, location string) {
	t.Helper()
	id, location = s.begin(t, recipe)
	eventually(t, "it waits", func() bool { return s.standing(t, id).Status == event.StatusWaiting })
	return id, location
}

const asking = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: tester, id: asking}
spec:
  steps:
    - {id: ask, uses: approval, price: "0.01", with: {title: "Shall we?", timeout: 1m}}
    - {id: act, uses: action.http, with: {method: POST, url: "URL/echo"}}
  result: {by: "${steps.ask.output.by}", comment: "${steps.ask.output.comment}"}
`

func testApproval(t *testing.T, s *scene) {
	s.publish(t, asking)
	decide := func(id, step string, approved bool) harness.Answer {
		return s.call(t, http.MethodPost, "/executions/"+id+"/approvals/"+step, map[string]any{"approved": approved, "comment": "as agreed"})
	}
	yes, yesLocation := s.waits(t, "asking")
	no, noLocation := s.waits(t, "asking")
	waits := s.standing(t, yes).Waits
	require.Len(t, waits, 1)
	require.Equal(t, "Shall we?", waits[0].Approval)
	refused(t, decide(yes, "act", true), http.StatusNotFound, "NOT_FOUND")
	require.Equal(t, http.StatusAccepted, decide(yes, "ask", true).Status)
	require.Equal(t, http.StatusAccepted, decide(no, "ask", false).Status)

	response := s.followed(t, yesLocation)
	require.Equal(t, event.StatusSuccess, response.Status, "%+v", response)
	require.Contains(t, string(response.Data), `"by":"api_key:`)
	require.Contains(t, string(response.Data), `"comment":"as agreed"`)
	response = s.followed(t, noLocation)
	require.Equal(t, event.StatusFailed, response.Status)
	require.Equal(t, "REJECTED", string(response.Errors[0].Code))
	require.Zero(t, s.outside.called(no+"/act"))
	refused(t, decide(no, "ask", true), http.StatusConflict, "EXECUTION_ENDED")
}

const awaiting = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: tester, id: awaiting}
spec:
  steps:
    - {id: before, uses: action.http, with: {method: POST, url: "URL/echo"}}
    - {id: paid, uses: wait.event, with: {name: payment, timeout: 1m}}
  result: {amount: "${int(steps.paid.output.amount)}"}
`

// testEvent sends an event over NATS, to an execution that waits and to one that has only begun.
func testEvent(t *testing.T, s *scene) {
	s.publish(t, awaiting)
	for _, begin := range []func(*testing.T, string) (string, string){s.waits, s.begin} {
		id, location := begin(t, "awaiting")
		execution := subject.Execution{Customer: s.customer, ID: id}
		s.publishTo(t, execution.Signal("unknown"), map[string]int{"amount": 1})
		s.publishTo(t, execution.Signal("payment"), map[string]int{"amount": 5})
		s.publishTo(t, execution.Signal("payment"), map[string]int{"amount": 7})
		response := s.followed(t, location)
		require.Equal(t, event.StatusSuccess, response.Status, "%+v", response)
		require.JSONEq(t, `{"amount":5}`, string(response.Data), "the first one counts")
		require.Equal(t, 1, s.outside.called(id+"/before"))
	}
}

func testSchedule(t *testing.T, s *scene) {
	made := s.call(t, http.MethodPost, "/schedules", map[string]any{
		"schedule_id": "soon", "agent_id": agentID, "recipe_id": greet, "input_data": map[string]any{"name": "Ada"},
		"at": time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339),
	})
	require.Equal(t, http.StatusCreated, made.Status, "%s", made)
	var schedule struct {
		Execution string `json:"last_execution_id"`
	}
	eventually(t, "the schedule starts nothing", func() bool {
		require.NoError(t, s.call(t, http.MethodGet, "/schedules/soon", nil).JSON(&schedule))
		return schedule.Execution != ""
	})
	require.Equal(t, event.StatusSuccess, s.followed(t, "/executions/"+schedule.Execution).Status)
	require.Equal(t, "schedule:soon", s.journal(t, schedule.Execution).Last(event.Accepted).Header.Get(event.HeaderActor))
}
