package httpapi_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
)

const party = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: cook, id: party}
spec:
  steps:
    - {id: remember, uses: state.set, with: {a: 1}}
    - {id: ask, uses: approval, with: {title: "Serve it?", timeout: 1m}}
`

// ran writes the journal of an execution of cook/party: accepted, then waiting for what is given, then the end if it has a status.
func (s *server) ran(t *testing.T, customer, id string, request event.Request, waits []event.Wait, status event.Status) {
	t.Helper()
	executions := journal.New(s.bus.Conn, s.bus.JS)
	execution := subject.Execution{Customer: customer, ID: id}
	var expect uint64
	put := func(kind event.Kind, number string, header nats.Header, data any) {
		encoded, err := json.Marshal(data)
		require.NoError(t, err)
		for name, value := range map[string]string{
			event.HeaderSubject: "cook/party/1", event.HeaderActor: "api_key:k", event.HeaderCredits: "0", event.HeaderDuration: "7",
		} {
			header.Set(name, value)
		}
		result := executions.Append(t.Context(), journal.Entry{
			Execution: execution, Kind: kind, Qualifier: number, Expect: expect, Source: "test", Time: time.Now(), Header: header, Data: encoded,
		})[0]
		require.NoError(t, result.Err)
		expect = result.Sequence
	}
	request.ExecutionID, request.CustomerID, request.AgentID, request.RecipeID = id, customer, "cook", "party"
	request.RecipeVersion, request.Input = 1, json.RawMessage(`{"n":1}`)
	put(event.Accepted, "", nats.Header{}, request)
	if waits != nil {
		put(event.Waiting, "1", nats.Header{}, event.Checkpoint{Waits: waits, Steps: []event.StepOutcome{
			{StepSummary: event.StepSummary{ID: "remember", Status: event.StepSuccess, Attempts: 1, Credits: 5}},
		}})
	}
	if status != "" {
		response := event.Response{ExecutionID: id, Status: status, Data: json.RawMessage("null"), Errors: []problem.Error{}}
		header := nats.Header{event.HeaderStatus: {string(status)}}
		if status == event.StatusFailed {
			response.Errors = []problem.Error{{Code: problem.Rejected, Step: "ask"}}
			header.Set(event.HeaderCode, "REJECTED")
		}
		put(event.Completed, "", header, response)
	}
}

// ended ends an execution that waits, as partial.
func (s *server) ended(t *testing.T, execution subject.Execution) {
	t.Helper()
	executions := journal.New(s.bus.Conn, s.bus.JS)
	last, err := executions.Last(t.Context(), execution)
	require.NoError(t, err)
	data, err := json.Marshal(event.Response{
		ExecutionID: execution.ID, Status: event.StatusPartial, Data: json.RawMessage("null"), Errors: []problem.Error{},
	})
	require.NoError(t, err)
	result := executions.Append(t.Context(), journal.Entry{
		Execution: execution, Kind: event.Completed, Expect: last.Sequence, Source: "test", Time: time.Now(), Data: data,
		Header: nats.Header{
			event.HeaderSubject: {"cook/party/1"}, event.HeaderActor: {"api_key:k"}, event.HeaderCredits: {"0"},
			event.HeaderDuration: {"7"}, event.HeaderStatus: {string(event.StatusPartial)},
		},
	})[0]
	require.NoError(t, result.Err)
}

func (s *server) publishParty(t *testing.T, key string) {
	t.Helper()
	require.Equal(t, 201, s.call(t, key, "POST", "/api/v1/recipes", party, "Content-Type", "application/yaml").status)
}

const (
	goingID  = "018f3a5e-0000-7000-8000-0000000000c1"
	failedID = "018f3a5e-0000-7000-8000-0000000000c2"
	endedID  = "018f3a5e-0000-7000-8000-0000000000c3"
	askingID = "018f3a5e-0000-7000-8000-0000000000c4"
)

func TestCancel(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	s.ran(t, "alice", goingID, event.Request{}, []event.Wait{}, "")
	path := "/api/v1/executions/" + goingID
	got := s.call(t, key, "POST", path+"/cancel", `{"reason":"no salt"}`)
	require.Equal(t, []any{200, "application/json"}, []any{got.status, got.header.Get("Content-Type")})
	var response event.Response
	got.into(t, &response)
	require.Equal(t, []any{event.StatusFailed, problem.Cancelled, "the execution was cancelled: no salt"},
		[]any{response.Status, response.Errors[0].Code, response.Errors[0].Message})
	require.JSONEq(t, string(got.body), string(s.call(t, key, "GET", path, nil).body))

	p := s.call(t, key, "POST", path+"/cancel", nil).problem(t)
	require.Equal(t, []any{409, "EXECUTION_ENDED", false}, []any{p.Status, p.Code, p.Retryable})
	require.Eventually(t, func() bool {
		stream, err := s.bus.JS.Stream(t.Context(), subject.StreamActivity)
		if err == nil {
			_, err = stream.GetLastMsgForSubject(t.Context(), subject.Activity("alice", "execution.cancelled"))
		}
		return err == nil
	}, 30*time.Second, 10*time.Millisecond)
}

func TestSuccessorsAreExecuted(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	s.publishParty(t, key)
	s.ran(t, "alice", failedID, event.Request{}, []event.Wait{}, event.StatusFailed)
	kept := []event.StepOutcome{{StepSummary: event.StepSummary{ID: "remember", Status: event.StepSuccess, Attempts: 1, Credits: 5}}}
	for name, test := range map[string]struct {
		verb   string
		body   any
		origin event.Origin
	}{
		"resume":          {"resume", nil, event.Origin{Verb: event.VerbResume, Step: "ask", Steps: kept}},
		"resume version":  {"resume", `{"version":1}`, event.Origin{Verb: event.VerbResume, Step: "ask", Steps: kept}},
		"rerun":           {"rerun", nil, event.Origin{Verb: event.VerbRerun}},
		"rerun from step": {"rerun", `{"from_step":"ask"}`, event.Origin{Verb: event.VerbRerunFrom, Step: "ask", Steps: kept}},
	} {
		got := s.call(t, key, "POST", "/api/v1/executions/"+failedID+"/"+test.verb, test.body,
			"Prefer", "wait=7", "Idempotency-Key", "again", "traceparent", testTrace)
		require.Equal(t, []any{200, successBody, "wait=7"}, []any{got.status, string(got.body), got.header.Get("Preference-Applied")}, name)
		command := s.executor.command()
		require.Regexp(t, "^key_", command.Actor.ID)
		require.NotNil(t, command.Accepted, "so that it becomes an activity")
		test.origin.ExecutionID, command.Actor.ID, command.Accepted = failedID, "", nil
		require.Equal(t, accept.Command{
			Customer: "alice", Agent: "cook", Recipe: "party", Version: 1, Input: json.RawMessage(`{"n":1}`), IdempotencyKey: "again",
			Actor: event.Actor{Type: "api_key"}, Trace: testTrace, Wait: 7 * time.Second, Origin: &test.origin,
		}, command, name)
	}
}

const testTrace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestControlRefuses(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	s.publishParty(t, key)
	s.ran(t, "alice", goingID, event.Request{}, nil, "")
	s.ran(t, "alice", failedID, event.Request{}, nil, event.StatusFailed)
	s.ran(t, "alice", endedID, event.Request{}, nil, event.StatusSuccess)
	s.ran(t, "bob", askingID, event.Request{}, nil, "")
	large := `"` + strings.Repeat("x", 64<<10) + `"`
	for name, test := range map[string]struct {
		id, path     string
		body         any
		status       int
		code, places string
	}{
		"cancel of another's":       {askingID, "/cancel", nil, 404, "NOT_FOUND", ""},
		"cancel ended":              {endedID, "/cancel", nil, 409, "EXECUTION_ENDED", ""},
		"cancel for a long reason":  {goingID, "/cancel", `{"reason":"` + strings.Repeat("x", 501) + `"}`, 422, "INVALID_REQUEST", "/reason"},
		"cancel with a field":       {goingID, "/cancel", `{"why":1}`, 422, "INVALID_REQUEST", "/why"},
		"resume going":              {goingID, "/resume", nil, 409, "CONFLICT", ""},
		"resume a success":          {endedID, "/resume", nil, 409, "CONFLICT", ""},
		"resume of another's":       {askingID, "/resume", nil, 404, "NOT_FOUND", ""},
		"resume a version":          {failedID, "/resume", `{"version":2}`, 404, "NOT_FOUND", ""},
		"resume a negative version": {failedID, "/resume", `{"version":-2}`, 422, "INVALID_REQUEST", "/version"},
		"resume from a step":        {failedID, "/resume", `{"from_step":"ask"}`, 422, "INVALID_REQUEST", "/from_step"},
		"rerun going":               {goingID, "/rerun", `{}`, 409, "CONFLICT", ""},
		"rerun from nowhere":        {failedID, "/rerun", `{"from_step":"x"}`, 422, "INVALID_REQUEST", "/from_step"},
		"signal ended":              {endedID, "/signals/stock", `1`, 409, "EXECUTION_ENDED", ""},
		"signal of another's":       {askingID, "/signals/stock", `1`, 404, "NOT_FOUND", ""},
		"signal without body":       {goingID, "/signals/stock", nil, 400, "INVALID_REQUEST", ""},
		"signal with a blank":       {goingID, "/signals/stock", " ", 400, "INVALID_REQUEST", ""},
		"signal no JSON":            {goingID, "/signals/stock", `{`, 422, "INVALID_REQUEST", ""},
		"signal too large":          {goingID, "/signals/stock", large, 413, "PAYLOAD_TOO_LARGE", ""},
		"signal by no name":         {goingID, "/signals/a.b", `1`, 422, "INVALID_REQUEST", "path:/name"},
		"approve ended":             {endedID, "/approvals/ask", `{"approved":true}`, 409, "EXECUTION_ENDED", ""},
		"approve of another's":      {askingID, "/approvals/ask", `{"approved":true}`, 404, "NOT_FOUND", ""},
		"approve no approval":       {goingID, "/approvals/remember", `{"approved":true}`, 404, "NOT_FOUND", ""},
		"decide nothing":            {goingID, "/approvals/ask", `{"comment":"x"}`, 422, "INVALID_REQUEST", "/approved"},
		"decide maybe":              {goingID, "/approvals/ask", `{"approved":"x"}`, 422, "INVALID_REQUEST", "/approved"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := s.call(t, key, "POST", "/api/v1/executions/"+test.id+test.path, test.body)
			p := got.problem(t)
			places := places(p)
			if name == "signal no JSON" {
				places = "" // the place is the whole body
			}
			require.Equal(t, []any{test.status, test.code, test.places, false}, []any{p.Status, p.Code, places, p.Retryable}, string(got.body))
		})
	}
}

func TestSignalsAndApprovals(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	s.publishParty(t, key)
	s.ran(t, "alice", goingID, event.Request{}, []event.Wait{}, "")
	path := "/api/v1/executions/" + goingID
	for _, test := range []struct {
		path, body string
		status     int
	}{
		{"/signals/stock", `{"n":1}`, 202},
		{"/signals/stock", `{"n": 1}`, 202},
		{"/signals/stock", `{"n":2}`, 409},
		{"/signals/nothing", `null`, 202},
		{"/approvals/ask", `{"approved":true,"comment":"go"}`, 202},
		{"/approvals/ask", `{"approved":true}`, 202},
		{"/approvals/ask", `{"approved":false}`, 409},
	} {
		got := s.call(t, key, "POST", path+test.path, test.body)
		require.Equal(t, test.status, got.status, test.path+test.body+string(got.body))
		if test.status == 202 {
			require.Empty(t, got.body)
		}
	}
}

func TestGetTellsOfWaitsAndLinks(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	moment := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	s.ran(t, "alice", goingID, event.Request{
		Origin: &event.Origin{ExecutionID: failedID, Verb: event.VerbResume, Step: "ask", State: map[string]any{"kept": 1}},
		Parent: &event.Parent{ExecutionID: endedID, Step: "cook", Depth: 1},
	}, []event.Wait{{Step: "ask", Since: moment, Until: moment.Add(time.Minute), Approval: "Serve it?"}}, "")
	s.ran(t, "alice", failedID, event.Request{Origin: &event.Origin{ExecutionID: endedID, Verb: event.VerbRerun}}, nil, event.StatusFailed)
	var body map[string]any
	s.call(t, key, "GET", "/api/v1/executions/"+goingID, nil).into(t, &body)
	require.Equal(t, "waiting", body["status"])
	require.Equal(t, []any{map[string]any{
		"step": "ask", "since": "2026-01-01T12:00:00Z", "until": "2026-01-01T12:01:00Z", "approval": "Serve it?",
	}}, body["waits"])
	require.Equal(t, map[string]any{"execution_id": failedID, "verb": "resume", "step": "ask"}, body["origin"])
	require.Equal(t, map[string]any{"execution_id": endedID, "step": "cook", "depth": 1.0}, body["parent"])

	body = nil
	s.call(t, key, "GET", "/api/v1/executions/"+failedID, nil).into(t, &body)
	require.Equal(t, []any{"failed", map[string]any{"execution_id": endedID, "verb": "rerun"}, nil},
		[]any{body["status"], body["origin"], body["parent"]})
}
