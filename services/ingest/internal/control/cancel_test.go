package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
)

func micro(n int64) credit.Micro { return credit.Micro(n) }

func TestCancelWhereverItIs(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	item := 3
	done := event.Checkpoint{Steps: []event.StepOutcome{
		step("boil", event.StepSuccess, 250_000),
		{StepSummary: event.StepSummary{ID: "salt", Status: event.StepRunning}, Items: []event.ItemOutcome{
			{Index: 0, Status: event.StepSuccess, Attempts: 1, Credits: 5}, {Index: 2, Status: event.StepFailed, Attempts: 2},
		}},
	}, Waits: []event.Wait{{Step: "salt", Item: &item, Event: "more"}}}
	checkpointed := []event.StepSummary{
		{ID: "boil", Status: event.StepSuccess, Attempts: 1}, {ID: "salt", Status: event.StepFailed, Attempts: 3, Items: &event.ItemCount{Total: 2, Succeeded: 1, Failed: 1}},
	}
	for name, test := range map[string]struct {
		write func(*testing.T, *script)
		steps []event.StepSummary
		kinds []event.Kind
		ms    int64
	}{
		"accepted": {func(*testing.T, *script) {}, []event.StepSummary{}, nil, -1},
		"funded": {func(t *testing.T, s *script) {
			s.append(t, event.Funded, "", nats.Header{}, "x")
		}, []event.StepSummary{}, []event.Kind{event.Funded}, -1},
		"started": {func(t *testing.T, s *script) {
			s.checkpoint(t, event.Started, event.Checkpoint{})
		}, []event.StepSummary{}, []event.Kind{event.Started}, 1500},
		"step": {func(t *testing.T, s *script) {
			s.checkpoint(t, event.Step, done)
		}, checkpointed, []event.Kind{event.Step}, 1500},
		"waiting for credits": {func(t *testing.T, s *script) {
			s.append(t, event.Waiting, event.WaitingForCredits, nats.Header{}, event.Checkpoint{
				StartedAt: f.clock.Now().Add(-1500 * time.Millisecond), Waits: []event.Wait{{Credits: 900_000}},
			})
		}, []event.StepSummary{}, []event.Kind{event.Waiting}, 1500},
		"waiting": {func(t *testing.T, s *script) {
			s.checkpoint(t, event.Waiting, done)
		}, checkpointed, []event.Kind{event.Waiting}, 1500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inbox, parent := nats.NewInbox(), subject.Execution{Customer: "alice", ID: uuid.NewString()}
			replies, wakes := f.messages(t, inbox), f.messages(t, parent.Due())
			s := f.accept(t, event.Request{}, event.HeaderReply, inbox, event.HeaderParent, parent.Due())
			test.write(t, s)
			notices := f.messages(t, s.execution.Notify())

			body, err := f.Cancel(t.Context(), s.execution, "the pot is gone", alice)
			require.NoError(t, err)
			var response event.Response
			require.NoError(t, json.Unmarshal(body, &response))
			if test.ms >= 0 {
				require.Equal(t, test.ms, response.Metadata.DurationMS)
			}
			receipt := event.Receipt{Quoted: 900_000}
			if test.kinds != nil && name != "waiting for credits" {
				receipt.Debited, receipt.Refunded = 900_000, 900_000
			}
			want := event.Response{
				RecipeID: "soup", AgentID: "cook", RecipeVersion: 1, ExecutionID: s.execution.ID, CustomerID: "alice", Status: event.StatusFailed,
				Data: json.RawMessage("null"),
				Metadata: event.Metadata{
					DurationMS: response.Metadata.DurationMS, Receipt: receipt, Timestamp: f.clock.Now(), Steps: test.steps, ComponentsExecuted: len(test.steps),
				},
				Errors: []problem.Error{{Code: problem.Cancelled, Message: "the execution was cancelled: the pot is gone"}},
			}
			require.Equal(t, want, response)

			last, err := f.journal.Last(t.Context(), s.execution)
			require.NoError(t, err)
			require.Equal(t, append(append([]event.Kind{event.Accepted}, test.kinds...), event.Completed), f.kinds(t, s.execution))
			require.Equal(t, body, last.Data)
			for name, value := range map[string]string{
				event.HeaderSubject: "cook/soup/1", event.HeaderActor: "api_key:key_1", event.HeaderCredits: "0", event.HeaderStatus: "failed",
				event.HeaderCode: "CANCELLED", event.HeaderDuration: strconv.FormatInt(response.Metadata.DurationMS, 10),
				event.HeaderTraceParent: trace, event.HeaderSource: "/galley/ingest", event.HeaderSteps: response.Steps(),
			} {
				require.Equal(t, value, last.Header.Get(name), name)
			}
			standing := "accepted"
			if n := len(test.kinds); n > 0 && test.kinds[n-1] == event.Waiting {
				standing = "waiting"
			} else if n > 0 {
				standing = "running"
			}
			answer := came(t, replies)
			require.Equal(t, body, answer.Data)
			require.Equal(t, "CANCELLED", answer.Header.Get(event.HeaderCode))
			came(t, notices)
			came(t, wakes)
			require.Contains(t, f.activities(t),
				`galley.activity.alice.execution.cancelled api_key:key_1 {"after": {"reason": "the pot is gone", "status": "failed"}, `+
					`"before": {"status": "`+standing+`"}}`)

			_, err = f.Cancel(t.Context(), s.execution, "", alice)
			require.Equal(t, problem.ExecutionEnded, codeOf(t, err))
		})
	}
}

func TestCancelRefuses(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	s := f.accept(t, event.Request{})
	expired := subject.Execution{Customer: "alice", ID: uuid.NewString()}
	f.past[expired.ID] = true
	for name, test := range map[string]struct {
		execution subject.Execution
		reason    string
		code      problem.Code
	}{
		"another customer's": {subject.Execution{Customer: "bob", ID: s.execution.ID}, "", problem.NotFound},
		"unknown":            {subject.Execution{Customer: "alice", ID: uuid.NewString()}, "", problem.NotFound},
		"no id":              {subject.Execution{Customer: "alice", ID: "nonsense"}, "", problem.NotFound},
		"expired":            {expired, "", problem.ExecutionEnded},
		"long reason":        {s.execution, strings.Repeat("x", 501), problem.InvalidRequest},
		"control characters": {s.execution, "a\nb", problem.InvalidRequest},
	} {
		_, err := f.Cancel(t.Context(), test.execution, test.reason, alice)
		require.Equal(t, test.code, codeOf(t, err), name)
	}
	require.Equal(t, []event.Kind{event.Accepted}, f.kinds(t, s.execution))
	require.Empty(t, f.activities(t))
}

func TestCancelTakesChildrenAlong(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	grandchild, ended := f.accept(t, event.Request{}), f.accept(t, event.Request{}).end(t, event.StatusSuccess, "")
	child := f.accept(t, event.Request{}).checkpoint(t, event.Waiting, event.Checkpoint{
		Waits: []event.Wait{{Step: "b", Execution: grandchild.execution.ID}},
	})
	s := f.accept(t, event.Request{}).checkpoint(t, event.Waiting, event.Checkpoint{Waits: []event.Wait{
		{Step: "a", Event: "x"},
		{Step: "b", Execution: ended.execution.ID},
		{Step: "c", Execution: uuid.NewString()},
		{Step: "d", Execution: child.execution.ID},
	}})
	_, err := f.Cancel(t.Context(), s.execution, "", alice)
	require.NoError(t, err)
	for _, execution := range []subject.Execution{child.execution, grandchild.execution} {
		last, err := f.journal.Last(t.Context(), execution)
		require.NoError(t, err)
		require.Equal(t, "CANCELLED", last.Header.Get(event.HeaderCode))
	}
	require.Len(t, f.activities(t), 3)
}

// TestCancelAgainstAWorker: either the cancellation or the completion ends an execution, and each side knows which.
func TestCancelAgainstAWorker(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	const executions, steps = 30, 12
	var wait sync.WaitGroup
	var mu sync.Mutex
	cancelled := 0
	for i := range executions {
		s := f.accept(t, event.Request{})
		begin := make(chan struct{})
		var completed bool
		var cancelErr error
		wait.Go(func() {
			var both sync.WaitGroup
			both.Go(func() { completed = f.work(t, s, steps, i%(steps+1), begin) })
			both.Go(func() {
				<-begin
				_, cancelErr = f.Cancel(t.Context(), s.execution, "", alice)
			})
			both.Wait()
			kinds := f.kinds(t, s.execution)
			assert.Equal(t, event.Completed, kinds[len(kinds)-1])
			assert.NotContains(t, kinds[:len(kinds)-1], event.Completed)
			assert.NotEqual(t, completed, cancelErr == nil, "exactly one side has won")
			if cancelErr != nil {
				assert.Equal(t, problem.ExecutionEnded, codeOf(t, cancelErr))
				return
			}
			mu.Lock()
			cancelled++
			mu.Unlock()
		})
	}
	wait.Wait()
	require.Len(t, f.activities(t), cancelled)
}

// work is an executor: it appends steps, and completed after them, as long as nobody else moves the execution on.
func (f *fixture) work(t *testing.T, s *script, steps, signal int, begin chan struct{}) (completed bool) {
	t.Helper()
	expect := s.sequence
	for i := range steps + 1 {
		if i == signal {
			close(begin)
		}
		entry := journal.Entry{
			Execution: s.execution, Kind: event.Step, Qualifier: strconv.Itoa(i), Expect: expect, Source: "test", Time: f.clock.Now(),
			Header: nats.Header{}, Data: []byte(`{"steps":[]}`),
		}
		if i == steps {
			entry.Kind, entry.Qualifier, entry.Data = event.Completed, "", []byte(`{}`)
			entry.Header.Set(event.HeaderStatus, "success")
		}
		result := f.journal.Append(context.WithoutCancel(t.Context()), entry)[0]
		if _, moved := errors.AsType[*journal.MovedError](result.Err); moved {
			if i < signal {
				close(begin)
			}
			return false
		}
		assert.NoError(t, result.Err)
		expect = result.Sequence
	}
	return true
}
