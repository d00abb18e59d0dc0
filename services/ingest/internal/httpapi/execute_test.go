package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
)

const execute = "/api/v1/recipes/execute"

func TestExecutePassesTheCommandOn(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	got := s.call(t, key, "POST", execute,
		`{"agent_id":"cook","recipe_id":"soup","customer_id":"alice","input_data":{"n": 1.50},"version":3}`,
		"Idempotency-Key", "key 1", "traceparent", trace)
	require.Equal(t, 200, got.status)
	require.Equal(t, successBody, string(got.body), "the response is passed on byte by byte")
	require.Equal(t, "application/json", got.header.Get("Content-Type"))
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", got.header.Get("X-Request-Id"))
	command := s.executor.command()
	require.Regexp(t, "^key_", command.Actor.ID)
	command.Actor.ID = ""
	require.Equal(t, accept.Command{
		Customer: "alice", Agent: "cook", Recipe: "soup", Version: 3, Input: json.RawMessage(`{"n": 1.50}`), IdempotencyKey: "key 1",
		Actor: event.Actor{Type: "api_key"}, Trace: trace, Wait: 30 * time.Second,
	}, command)

	got = s.call(t, operatorKey, "POST", execute, `{"agent_id":"cook","recipe_id":"soup","customer_id":"alice"}`,
		"traceparent", "00-00000000000000000000000000000000-b7ad6b7169203331-01")
	require.Equal(t, 200, got.status)
	command = s.executor.command()
	require.Equal(t, event.Actor{Type: "operator", ID: "operator"}, command.Actor)
	require.Equal(t, "alice", command.Customer)
	require.Empty(t, command.Input)
	require.Regexp(t, "^00-[0-9a-f]{32}-[0-9a-f]{16}-00$", command.Trace)
	require.NotContains(t, command.Trace, strings.Repeat("0", 32))
}

func TestExecuteWaitsAsPreferred(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	s.answerWith(t, func(context.Context, accept.Command) (accept.Outcome, error) {
		return accept.Outcome{ExecutionID: "e-1", Status: event.StatusAccepted}, nil
	})
	for _, test := range []struct {
		prefer  []string
		wait    time.Duration
		applied string
	}{
		{nil, 30 * time.Second, ""},
		{[]string{"wait=0"}, 0, "wait=0"},
		{[]string{"wait=300"}, 300 * time.Second, "wait=300"},
		{[]string{"respond-async"}, 0, "respond-async"},
		{[]string{"respond-async, wait=10"}, 10 * time.Second, "respond-async, wait=10"},
		{[]string{"Wait=\"10\"; x=1", "RESPOND-ASYNC"}, 10 * time.Second, "respond-async, wait=10"},
		{[]string{"return=minimal, unheard-of"}, 30 * time.Second, ""},
	} {
		var headers []string
		for _, value := range test.prefer {
			headers = append(headers, "Prefer", value)
		}
		got := s.call(t, key, "POST", execute, `{"agent_id":"cook","recipe_id":"soup"}`, headers...)
		require.Equal(t, 202, got.status)
		require.Equal(t, test.wait, s.executor.command().Wait, test.prefer)
		require.Equal(t, test.applied, got.header.Get("Preference-Applied"))
		require.Equal(t, "/api/v1/executions/e-1", got.header.Get("Location"))
		require.JSONEq(t, `{"execution_id":"e-1","customer_id":"alice","agent_id":"cook","recipe_id":"soup","status":"accepted"}`,
			string(got.body))
	}
}

func TestExecuteAnswersEveryEnd(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	run := func(outcome accept.Outcome, err error) *reply {
		s.answerWith(t, func(context.Context, accept.Command) (accept.Outcome, error) { return outcome, err })
		return s.call(t, key, "POST", execute, `{"agent_id":"cook","recipe_id":"soup"}`)
	}
	failed := []byte(`{"status":"failed","errors":[{"code":"TIMEOUT","message":"too slow","retryable":true}]}`)
	got := run(accept.Outcome{ExecutionID: "e-1", Done: true, Status: event.StatusFailed, Code: problem.Timeout, Response: failed}, nil)
	require.Equal(t, 200, got.status, "an execution that failed is still an execution that ended")
	require.Equal(t, failed, got.body)

	got = run(accept.Outcome{
		ExecutionID: "e-1", Done: true, Status: event.StatusFailed, Code: problem.InsufficientCredits,
		Response: []byte(`{"errors":[{"code":"INSUFFICIENT_CREDITS","message":"needs 2, has 1","retryable":false}]}`),
	}, nil)
	p := got.problem(t)
	require.Equal(t, []any{402, "INSUFFICIENT_CREDITS", "needs 2, has 1", "e-1"}, []any{p.Status, p.Code, p.Detail, p.ExecutionID})

	p = run(accept.Outcome{}, &accept.InvalidInput{Code: problem.InputInvalid, Violations: []problem.Violation{
		{Path: "/input_data/a", Message: "is wrong"}, {Path: "/input_data/b", Message: "too"},
	}}).problem(t)
	require.Equal(t, []any{422, "INPUT_INVALID"}, []any{p.Status, p.Code})
	require.Equal(t, "[{ /input_data/a is wrong  0 0} { /input_data/b too  0 0}]", fmt.Sprint(p.Errors))

	for code, status := range map[problem.Code]int{
		problem.InvalidRequest: 422, problem.NotFound: 404, problem.Conflict: 409, problem.PayloadTooLarge: 413,
		problem.Forbidden: 403, problem.Unauthenticated: 401, problem.Internal: 500,
	} {
		p := run(accept.Outcome{}, fmt.Errorf("doing: %w", &problem.Error{Code: code, Message: "text"})).problem(t)
		require.Equal(t, []any{status, string(code), "text", false}, []any{p.Status, p.Code, p.Detail, p.Retryable})
	}
	got = run(accept.Outcome{}, fmt.Errorf("%w: dial tcp 10.0.0.1: refused",
		&problem.Error{Code: problem.Unavailable, Message: "later", Retryable: true}))
	p = got.problem(t)
	require.Equal(t, []any{503, "later", true, "1"}, []any{p.Status, p.Detail, p.Retryable, got.header.Get("Retry-After")})
	require.NotContains(t, string(got.body), "10.0.0.1")
	require.Contains(t, s.log.String(), "10.0.0.1", "the cause is in the log")
	require.Contains(t, s.log.String(), p.TraceID)

	got = run(accept.Outcome{}, errors.New("secret internals"))
	require.Equal(t, "INTERNAL", got.problem(t).Code)
	require.NotContains(t, string(got.body), "secret")
}

func TestPanicIsAnAnswer(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	s.answerWith(t, func(context.Context, accept.Command) (accept.Outcome, error) { panic("secret internals") })
	got := s.call(t, key, "POST", execute, `{"agent_id":"cook","recipe_id":"soup"}`)
	p := got.problem(t)
	require.Equal(t, []any{500, "INTERNAL"}, []any{p.Status, p.Code})
	for _, secret := range []string{"secret", "goroutine", ".go"} {
		require.NotContains(t, string(got.body), secret)
	}
	require.Contains(t, s.log.String(), "secret internals")
	require.Contains(t, s.log.String(), p.TraceID)
	s.answerWith(t, success)
	require.Equal(t, 200, s.call(t, key, "POST", execute, `{"agent_id":"cook","recipe_id":"soup"}`).status)
}

func TestStopLetsWaitingCallersGo(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	waiting := make(chan struct{})
	s.answerWith(t, func(ctx context.Context, _ accept.Command) (accept.Outcome, error) {
		close(waiting)
		<-ctx.Done()
		return accept.Outcome{ExecutionID: "e-1", Status: event.StatusAccepted}, nil
	})
	answered := make(chan int, 1)
	go func() { answered <- s.call(t, key, "POST", execute, `{"agent_id":"cook","recipe_id":"soup"}`).status }()
	<-waiting
	s.stop()
	require.Equal(t, http.StatusAccepted, <-answered)
}

func TestAccessLogTellsTheStatus(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for path, status := range map[string]int{"/health": 200, "/nothing": 404, "/api/v1/recipes": 401} {
		got := s.call(t, "", "GET", path, nil)
		require.Equal(t, status, got.status)
		require.Regexp(t, fmt.Sprintf(`"path":%q,"status":%d,[^}]*"trace":%q`, path, status, got.header.Get("X-Request-Id")), s.log.String())
	}
}
