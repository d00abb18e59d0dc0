package endtoend_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/tests/internal/harness"
)

// patientPrice is what patient costs.
const patientPrice = 100_000

// patient waits for credits: until they come, or for a moment.
func patient(id, wait string) string {
	return `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: tester, id: ` + id + `}
spec:
  on_insufficient_credits: wait
  credit_wait: ` + wait + `
  steps:
    - {id: act, uses: action.http, price: "0.1", with: {method: POST, url: "URL/echo"}}
`
}

// awaitCredits has a recipe executed until it waits for credits.
func (s *scene) awaitCredits(t *testing.T, recipe string) (id, location string) {
	t.Helper()
	id, location = s.waits(t, recipe)
	standing := s.standing(t, id)
	require.Len(t, standing.Waits, 1)
	require.EqualValues(t, patientPrice, standing.Waits[0].Credits)
	require.Equal(t, event.Receipt{Quoted: patientPrice}, standing.Metadata.Receipt)
	return id, location
}

func (s *scene) grant(t *testing.T, id string, amount credit.Micro) {
	t.Helper()
	require.NoError(t, s.installation.Grant(t.Context(), s.customer, s.customer+"-"+id, amount))
}

// testWaitsForCredits has executions wait for credits, in their order, and be cancelled and run out of time meanwhile.
func testWaitsForCredits(t *testing.T, rich *scene) {
	s := rich.newScene(t, 0)
	s.publish(t, patient("patient", "1h"))
	s.publish(t, patient("hasty", "2s"))
	answer := s.execute(t, of("hasty"), "Prefer", "wait=1")
	require.Equal(t, http.StatusAccepted, answer.Status, "a caller does not wait longer than it said: %s", answer)
	first, firstLocation := s.awaitCredits(t, "patient")
	second, secondLocation := s.awaitCredits(t, "patient")
	third, thirdLocation := s.awaitCredits(t, "patient")
	require.Zero(t, s.outside.called(first+"/act"))
	var balance struct {
		Waiting int `json:"waiting"`
	}

	response := s.followed(t, answer.Header.Get("Location"))
	require.Equal(t, event.StatusFailed, response.Status)
	require.Equal(t, "INSUFFICIENT_CREDITS", string(response.Errors[0].Code))
	require.Contains(t, response.Errors[0].Message, "it has waited until")
	require.Equal(t, []event.Kind{event.Accepted, event.Waiting, event.Completed}, kinds(s.journal(t, response.ExecutionID)))
	require.NoError(t, s.call(t, http.MethodGet, "/credits", nil).JSON(&balance))
	require.Equal(t, 3, balance.Waiting)
	refused(t, s.execute(t, greeted()), http.StatusPaymentRequired, "INSUFFICIENT_CREDITS")

	s.grant(t, "little", patientPrice+patientPrice/2)
	require.Equal(t, event.StatusSuccess, s.followed(t, firstLocation).Status)
	require.Equal(t, 1, s.outside.called(first+"/act"))
	require.Equal(t, event.StatusWaiting, s.standing(t, second).Status, "it costs more than is left")
	require.Equal(t, event.StatusWaiting, s.standing(t, third).Status)
	eventually(t, "the list tells it as well", func() bool {
		waiting := items[event.Response](t, s, "/executions?status=waiting")
		return len(waiting) == 2 && waiting[0].ExecutionID == third && waiting[1].ExecutionID == second
	})

	cancelled := s.call(t, http.MethodPost, "/executions/"+second+"/cancel", nil)
	require.Equal(t, http.StatusOK, cancelled.Status, "%s", cancelled)
	require.Equal(t, event.Receipt{Quoted: patientPrice}, s.standard(t, cancelled.Body).Metadata.Receipt)
	require.Equal(t, event.StatusFailed, s.followed(t, secondLocation).Status)
	s.grant(t, "more", patientPrice/2)
	require.Equal(t, event.StatusSuccess, s.followed(t, thirdLocation).Status)
	require.Zero(t, s.outside.called(second+"/act"))
	eventually(t, "each is charged once", func() bool { return s.balance(t) == 0 })
	require.Equal(t, []event.Kind{event.Accepted, event.Waiting, event.Funded, event.Started, event.Completed},
		kinds(s.journal(t, third)))
}

// TestWaitsForCreditsUnderFire kills what decides while executions wait for credits, and while these come: each runs once, in its order.
func TestWaitsForCreditsUnderFire(t *testing.T) {
	t.Parallel()
	for mode, victim := range map[harness.Mode]string{harness.Single: harness.Galley, harness.Split: harness.Billing} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			s := newStage(t, mode).newScene(t, 0)
			s.publish(t, patient("patient", "1h"))
			var ids, locations []string
			restart := func() {
				require.NoError(t, s.installation.Kill(victim))
				require.NoError(t, s.installation.Start(t.Context(), victim))
				require.NoError(t, s.installation.AwaitReady(t.Context()))
			}
			for range 12 {
				id, location := s.begin(t, "patient")
				ids, locations = append(ids, id), append(locations, location)
			}
			restart() // when some of them wait, perhaps
			for _, id := range ids {
				eventually(t, "it waits", func() bool { return s.standing(t, id).Status == event.StatusWaiting })
			}
			for n := range 4 {
				s.grant(t, fmt.Sprint("part-", n), 3*patientPrice)
				restart() // when some of them are paid for, and the journal does not know, perhaps
			}
			for _, location := range locations {
				require.Equal(t, event.StatusSuccess, s.followed(t, location).Status)
			}
			var before uint64
			for _, id := range ids {
				execution := s.journal(t, id)
				funded := execution.Last(event.Funded)
				require.Greater(t, funded.Sequence, before, "in the order in which they came")
				before = funded.Sequence
			}
			eventually(t, "each is charged once", func() bool { return s.balance(t) == 0 })
			s.checkEverything(t)
		})
	}
}

// calling costs nothing itself and runs another recipe, which does.
func calling(id, recipe string) string {
	return `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: tester, id: ` + id + `}
spec:
  steps:
    - {id: call, uses: recipe.run, with: {agent: tester, recipe: ` + recipe + `}}
    - {id: after, uses: state.set, with: {status: "${steps.call.output.status}"}}
  result: {child: "${steps.call.output.execution_id}", status: "${state.status}"}
`
}

// testChildWaitsForCredits has an execution go on when the one that it began has got its credits, and fail with the one that has not.
func testChildWaitsForCredits(t *testing.T, rich *scene) {
	s := rich.newScene(t, 0)
	for child, wait := range map[string]string{"patient": "1h", "hasty": "2s"} {
		s.publish(t, patient(child, wait))
		s.publish(t, calling("calls-"+child, child))
	}
	failing, failingLocation := s.waits(t, "calls-hasty")
	require.NotEmpty(t, s.standing(t, failing).Waits[0].Execution)
	response := s.followed(t, failingLocation)
	require.Equal(t, event.StatusFailed, response.Status)
	require.Equal(t, "CHILD_FAILED", string(response.Errors[0].Code))
	require.Contains(t, response.Errors[0].Message, "INSUFFICIENT_CREDITS")

	parent, location := s.waits(t, "calls-patient")
	waits := s.standing(t, parent).Waits
	require.Len(t, waits, 1)
	child := waits[0].Execution
	var awaited standing
	eventually(t, "the child waits for credits", func() bool {
		awaited = s.standing(t, child)
		return awaited.Status == event.StatusWaiting
	})
	require.EqualValues(t, patientPrice, awaited.Waits[0].Credits)
	require.Zero(t, s.outside.called(child+"/act"))
	require.Equal(t, event.StatusWaiting, s.standing(t, parent).Status)

	s.grant(t, "for-the-child", patientPrice)
	response = s.followed(t, location)
	require.Equal(t, event.StatusSuccess, response.Status, "%+v", response)
	require.JSONEq(t, `{"child":"`+child+`","status":"success"}`, string(response.Data))
	require.Equal(t, 1, s.outside.called(child+"/act"))
	require.EqualValues(t, patientPrice, s.standing(t, child).Metadata.CreditsConsumed)
	eventually(t, "the child is charged, the parent is not", func() bool { return s.balance(t) == 0 })
}
