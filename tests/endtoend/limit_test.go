package endtoend_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/tests/internal/harness"
)

// offer publishes a plan; limits is JSON.
func (s *scene) offer(t *testing.T, id string, credits int, limits string) {
	t.Helper()
	answer, err := s.installation.Operator().Call(t.Context(), http.MethodPost, harness.API+"/plans", map[string]any{
		"plan_id": id, "name": id, "monthly_credits": credits, "limits": json.RawMessage(limits),
	})
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, answer.Status, "%s", answer)
}

func (s *scene) operate(t *testing.T, method, path string, body any) {
	t.Helper()
	answer, err := s.installation.Operator().Call(t.Context(), method, harness.API+"/customers/"+s.customer+path, body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.Status, "%s", answer)
}

// awaitLimit waits until this many executions may be under way, 0 for any number, because of what source says.
func (s *scene) awaitLimit(t *testing.T, most int, source string) {
	t.Helper()
	eventually(t, "the limit does not hold", func() bool {
		var limits struct {
			Effective struct {
				Most   int    `json:"max_concurrency"`
				Source string `json:"source"`
			} `json:"effective"`
		}
		require.NoError(t, s.call(t, http.MethodGet, "/customers/"+s.customer+"/limits", nil).JSON(&limits))
		return limits.Effective.Most == most && limits.Effective.Source == source
	})
}

// awaitWait waits until an execution waits for the event, or for a slot.
func (s *scene) awaitWait(t *testing.T, id string, slot event.SlotLimit) {
	t.Helper()
	eventually(t, "it does not wait", func() bool {
		standing := s.standing(t, id)
		require.False(t, standing.Status.Terminal(), "%+v", standing)
		return len(standing.Waits) == 1 && standing.Waits[0].Slot == slot
	})
}

// testPlanLimit holds a second execution back while the plan allows one, and lets it go when the first has ended; a plan without a limit
// lifts it for those that wait already, and so does the operator for this one customer.
func testPlanLimit(t *testing.T, s *scene) {
	s.publish(t, awaiting)
	narrow, wide := "narrow-of-"+s.customer, "wide-of-"+s.customer
	s.offer(t, narrow, 1, `{"max_concurrency":1}`)
	s.offer(t, wide, 2, `{}`)
	pay := func(ids ...string) {
		for _, id := range ids {
			s.publishTo(t, subject.Execution{Customer: s.customer, ID: id}.Signal("payment"), map[string]int{"amount": 1})
		}
	}
	s.awaitLimit(t, 0, "none")
	s.operate(t, http.MethodPut, "/subscription", map[string]string{"plan": narrow})
	s.awaitLimit(t, 1, "plan")
	first, firstLocation := s.begin(t, "awaiting")
	s.awaitWait(t, first, "")
	second, secondLocation := s.begin(t, "awaiting")
	s.awaitWait(t, second, event.SlotCustomer)
	require.Zero(t, s.outside.called(second+"/before"))
	pay(first)
	require.Equal(t, event.StatusSuccess, s.followed(t, firstLocation).Status)
	s.awaitWait(t, second, "")
	require.Equal(t, 1, s.outside.called(second+"/before"))

	third, thirdLocation := s.begin(t, "awaiting")
	s.awaitWait(t, third, event.SlotCustomer)
	s.operate(t, http.MethodPut, "/subscription", map[string]string{"plan": wide})
	s.awaitWait(t, third, "")

	s.operate(t, http.MethodPut, "/subscription", map[string]string{"plan": narrow}) // from the next period on
	s.operate(t, http.MethodPost, "/subscription/cancel", map[string]string{"at": "now"})
	s.operate(t, http.MethodPut, "/subscription", map[string]string{"plan": narrow})
	s.awaitLimit(t, 1, "plan")
	fourth, fourthLocation := s.begin(t, "awaiting")
	s.awaitWait(t, fourth, event.SlotCustomer)
	s.operate(t, http.MethodPut, "/limits", map[string]int{"max_concurrency": 3})
	s.awaitWait(t, fourth, "")
	fifth, fifthLocation := s.begin(t, "awaiting")
	s.awaitWait(t, fifth, event.SlotCustomer)
	pay(second, third, fourth, fifth)
	for _, location := range []string{secondLocation, thirdLocation, fourthLocation, fifthLocation} {
		require.Equal(t, event.StatusSuccess, s.followed(t, location).Status)
	}
}

// TestPlanLimitIsNotLost changes plans while services are killed, away, and without the stream between them.
func TestPlanLimitIsNotLost(t *testing.T) {
	t.Parallel()
	s := newStage(t, harness.Split).scene(t)
	for most, id := range []string{"open", "one", "two", "three"} {
		limits, err := json.Marshal(query.PlanLimits{MaxConcurrency: &most})
		require.NoError(t, err)
		if most == 0 {
			limits = []byte("{}")
		}
		s.offer(t, id, most, string(limits))
	}
	conn, err := s.installation.Connect()
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	subscribe := func(plan string) {
		t.Helper()
		request, err := json.Marshal(query.SubscribeRequest{
			CustomerID: s.customer, Plan: plan, Status: query.SubscriptionActive, Actor: event.Actor{Type: "operator", ID: "operator"},
		})
		require.NoError(t, err)
		var reply *nats.Msg
		eventually(t, "billing does not answer", func() bool {
			reply, err = conn.Request(subject.Query(query.ServiceBilling, query.Subscribe), request, patience)
			return err == nil
		})
		require.Empty(t, reply.Header.Get(event.HeaderError), "%s", reply.Data)
	}
	each := func(do func(string) error, names ...string) {
		t.Helper()
		for _, name := range names {
			require.NoError(t, do(name))
		}
	}
	start := func(name string) error { return s.installation.Start(t.Context(), name) }

	each(s.installation.Kill, harness.Ingest)
	subscribe("one")
	each(s.installation.Kill, harness.Billing)
	each(start, harness.Ingest, harness.Billing)
	require.NoError(t, s.installation.AwaitReady(t.Context()))
	s.awaitLimit(t, 1, "plan")

	subscribe("two")
	each(s.installation.Kill, harness.Billing, harness.Ingest)
	each(start, harness.Ingest)
	each(start, harness.Billing)
	require.NoError(t, s.installation.AwaitReady(t.Context()))
	s.awaitLimit(t, 2, "plan")

	each(s.installation.Kill, harness.Ingest)
	subscribe("three")
	eventually(t, "nothing is told", func() bool {
		stream, err := s.js.Stream(t.Context(), subject.StreamLimits)
		require.NoError(t, err)
		return stream.CachedInfo().State.LastSeq == 3
	})
	require.NoError(t, s.js.DeleteStream(t.Context(), subject.StreamLimits), "what was told and never heard is lost")
	each(s.installation.Kill, harness.Billing)
	each(start, harness.Ingest, harness.Billing)
	require.NoError(t, s.installation.AwaitReady(t.Context()))
	s.awaitLimit(t, 3, "plan")

	s.publish(t, awaiting)
	ids := make([]string, 5)
	for i := range ids {
		ids[i], _ = s.begin(t, "awaiting")
		s.awaitWait(t, ids[i], map[bool]event.SlotLimit{true: event.SlotCustomer}[i >= 3])
	}
	each(s.installation.Kill, harness.Executor)
	s.operate(t, http.MethodPost, "/subscription/cancel", map[string]string{"at": "now"})
	s.awaitLimit(t, 0, "none") // which no executor has heard of
	each(start, harness.Executor)
	for _, id := range ids {
		s.awaitWait(t, id, "")
	}
}
