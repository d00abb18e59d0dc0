package endtoend_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

// publishEvent publishes to the customer's subject and waits until the stream has the message.
func (s *scene) publishEvent(t *testing.T, body any, headers ...string) {
	t.Helper()
	s.publishTo(t, subject.RunRequest(s.customer), body, headers...)
}

func (s *stage) publishTo(t *testing.T, name string, body any, headers ...string) {
	t.Helper()
	message := nats.NewMsg(name)
	for n := 0; n < len(headers); n += 2 {
		message.Header[headers[n]] = []string{headers[n+1]}
	}
	text, ok := body.([]byte)
	if !ok {
		var err error
		text, err = json.Marshal(body)
		require.NoError(t, err)
	}
	message.Data = text
	_, err := s.js.PublishMsg(t.Context(), message)
	require.NoError(t, err)
}

// completed waits for a completed event and checks it against the contract.
func (s *scene) completed(t *testing.T, subscription *nats.Subscription) event.Response {
	t.Helper()
	message := next(t, subscription)
	require.NoError(t, s.rules.Check(message.Header, message.Data))
	response := s.standard(t, message.Data)
	require.Equal(t, subject.Execution{Customer: s.customer, ID: response.ExecutionID}.Event("completed", ""), message.Subject)
	return response
}

// only makes sure that the executions are all that the customer has, and that no further one comes: the marker is accepted after
// everything that was published before it.
func (s *scene) only(t *testing.T, subscription *nats.Subscription, ids ...string) {
	t.Helper()
	s.publishEvent(t, greeted().with("input_data", map[string]any{"name": "marker"}))
	marker := s.completed(t, subscription)
	require.Contains(t, string(marker.Data), "hello marker")
	var listed []string
	eventually(t, "all are projected", func() bool {
		listed = nil
		for _, item := range items[struct {
			ID string `json:"execution_id"`
		}](t, s, "/executions?limit=200") {
			listed = append(listed, item.ID)
		}
		return len(listed) >= len(ids)+1
	})
	require.ElementsMatch(t, append(ids, marker.ExecutionID), listed)
}

func testBareEvent(t *testing.T, s *scene) {
	completions := s.completions(t)
	s.publishEvent(t, greeted())
	first := s.completed(t, completions)
	require.Equal(t, event.StatusSuccess, first.Status)
	require.JSONEq(t, `{"greeting":"hello Ada","length":9}`, string(first.Data))
	require.Equal(t, first, s.followed(t, "/executions/"+first.ExecutionID))
	// Without an id of its own, a second message is a second execution.
	s.publishEvent(t, greeted().with("version", 1))
	second := s.completed(t, completions)
	require.NotEqual(t, first.ExecutionID, second.ExecutionID)
	s.only(t, completions, first.ExecutionID, second.ExecutionID)
}

func testBinaryEvent(t *testing.T, s *scene) {
	completions := s.completions(t)
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	headers := []string{
		"ce-specversion", "1.0", "ce-id", "order-7", "ce-type", event.TypeRunRequested, "ce-source", "/shop",
		"ce-datacontenttype", "application/json", "traceparent", trace,
	}
	s.publishEvent(t, greeted(), headers...)
	response := s.completed(t, completions)
	s.publishEvent(t, greeted(), headers...)
	s.only(t, completions, response.ExecutionID)
	journal := s.journal(t, response.ExecutionID)
	require.Equal(t, []event.Kind{event.Accepted, event.Funded, event.Step, event.Completed}, kinds(journal))
	for _, each := range journal.Events {
		require.Contains(t, each.Header.Get("traceparent"), trace[3:35], "%s is in the producer's trace", each.Kind)
	}
}

func testStructuredEvent(t *testing.T, s *scene) {
	completions := s.completions(t)
	envelope := map[string]any{
		"specversion": "1.0", "id": "order-8", "type": event.TypeRunRequested, "source": "/shop", "time": "2026-01-01T12:00:00Z",
		"datacontenttype": "application/json", "data": greeted(),
	}
	s.publishEvent(t, envelope, "content-type", "application/cloudevents+json")
	response := s.completed(t, completions)
	require.Equal(t, event.StatusSuccess, response.Status)
	s.publishEvent(t, envelope, "Content-Type", "application/cloudevents+json; charset=utf-8")
	// The same id in the other mode is the same event.
	s.publishEvent(t, greeted(), "ce-id", "order-8")
	s.only(t, completions, response.ExecutionID)
}

func testMessageID(t *testing.T, s *scene) {
	completions := s.completions(t)
	s.publishEvent(t, greeted(), nats.MsgIdHdr, s.customer+"-message-1")
	response := s.completed(t, completions)
	s.publishEvent(t, greeted(), nats.MsgIdHdr, s.customer+"-message-1")
	s.publishEvent(t, greeted(), "ce-id", s.customer+"-message-1")
	s.only(t, completions, response.ExecutionID)
}

func testSameKeyTwoWays(t *testing.T, s *scene) {
	completions := s.completions(t)
	first := s.response(t, greeted(), "Idempotency-Key", "both-ways")
	s.completed(t, completions)
	s.publishEvent(t, greeted(), "ce-id", "both-ways")
	s.only(t, completions, first.ExecutionID)
}

func testEventWithoutCredits(t *testing.T, s *scene) {
	poor := s.newScene(t, 0)
	completions := poor.completions(t)
	poor.publishEvent(t, greeted())
	response := poor.completed(t, completions)
	require.Equal(t, event.StatusFailed, response.Status)
	require.Equal(t, "INSUFFICIENT_CREDITS", string(response.Errors[0].Code))
	require.Zero(t, response.Metadata.CreditsConsumed)
}

func testRejectedEvents(t *testing.T, s *scene) {
	tests := map[string]struct {
		body    any
		headers []string
		code    string
		path    string
	}{
		"malformed":        {[]byte(`{"agent_id":`), nil, "INVALID_REQUEST", ""},
		"empty":            {[]byte(``), nil, "INVALID_REQUEST", ""},
		"binary":           {[]byte("\x00\xff\xfe"), nil, "INVALID_REQUEST", ""},
		"two values":       {[]byte(`{"agent_id":"tester","recipe_id":"greet"} {}`), nil, "INVALID_REQUEST", ""},
		"no object":        {[]byte(`[1]`), nil, "INVALID_REQUEST", ""},
		"unknown field":    {greeted().with("colour", "blue"), nil, "INVALID_REQUEST", "/colour"},
		"wrong type":       {greeted().with("version", "one"), nil, "INVALID_REQUEST", "/version"},
		"odd agent":        {greeted().with("agent_id", "a.b"), nil, "INVALID_REQUEST", "/agent_id"},
		"odd recipe":       {greeted().with("recipe_id", ">"), nil, "INVALID_REQUEST", "/recipe_id"},
		"negative version": {greeted().with("version", -1), nil, "INVALID_REQUEST", "/version"},
		"unknown recipe":   {of("unheard-of"), nil, "NOT_FOUND", ""},
		"invalid input":    {greeted().with("input_data", map[string]any{"name": 7}), nil, "INPUT_INVALID", "/input_data/name"},
		"no input":         {run{"agent_id": agentID, "recipe_id": greet}, nil, "INPUT_INVALID", "/input_data/name"},
		"large input":      {greeted().with("input_data", map[string]any{"name": strings.Repeat("x", 700<<10)}), nil, "PAYLOAD_TOO_LARGE", ""},
		"no envelope":      {greeted(), []string{"content-type", "application/cloudevents+json"}, "INVALID_REQUEST", ""},
	}
	rejections := s.subscribe(t, subject.RunRejected(s.customer))
	for name, test := range tests {
		s.publishEvent(t, test.body, append([]string{"ce-id", s.customer + "-" + name}, test.headers...)...)
		message := next(t, rejections)
		require.NoError(t, s.rules.Check(message.Header, message.Data), name)
		var rejection event.Rejection
		require.NoError(t, json.Unmarshal(message.Data, &rejection))
		require.Equal(t, test.code, string(rejection.Code), "%s: %s", name, message.Data)
		require.Equal(t, s.customer, rejection.CustomerID)
		require.Equal(t, subject.RunRequest(s.customer), rejection.Subject)
		require.Equal(t, s.customer+"-"+name, rejection.MessageID, name)
		if test.path != "" {
			require.NotEmpty(t, rejection.Violations, "%s: %s", name, message.Data)
			require.Equal(t, test.path, rejection.Violations[0].Path, name)
		}
	}
	completions := s.completions(t)
	s.only(t, completions) // nothing of it ran, and nothing blocks the queue
	eventually(t, "each rejection is audited", func() bool {
		rows := 0
		for _, row := range items[query.AuditEvent](t, s, "/audit/events?limit=200") {
			if strings.Contains(row.ActionType, "rejected") {
				rows++
			}
		}
		return rows == len(tests)
	})
}

// testEventsOfNobody publishes to subjects that name no customer, or no valid one.
func testEventsOfNobody(t *testing.T, s *scene) {
	rejections := s.subscribe(t, "galley.run.rejected.>")
	names := []string{
		"galley.run.request.nobody-" + s.customer, "galley.run.request.a.b", "galley.run.request.ä" + s.customer,
		"galley.run.request.-" + s.customer, "galley.run.request." + strings.Repeat("a", 65),
	}
	waiting := map[string]bool{}
	for _, name := range names {
		waiting[name] = true
		s.publishTo(t, name, greeted())
	}
	for len(waiting) > 0 {
		message := next(t, rejections)
		var rejection event.Rejection
		require.NoError(t, json.Unmarshal(message.Data, &rejection))
		if waiting[rejection.Subject] {
			require.NoError(t, s.rules.Check(message.Header, message.Data), rejection.Subject)
			delete(waiting, rejection.Subject)
		}
	}
	eventually(t, "nothing blocks the queue", func() bool {
		stream, err := s.js.Stream(t.Context(), subject.StreamRuns)
		require.NoError(t, err)
		return stream.CachedInfo().State.Msgs == 0
	})
	answer := s.execute(t, greeted())
	require.Equal(t, http.StatusOK, answer.Status)
}
