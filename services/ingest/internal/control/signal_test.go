package control_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/control"
)

func TestSignalWakes(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	early, late := f.accept(t, event.Request{}), f.accept(t, event.Request{}).checkpoint(t, event.Waiting, event.Checkpoint{})
	notices, wakes := f.messages(t, early.execution.Notify()), f.messages(t, late.execution.Due())
	for _, data := range []string{`{"n": [1, 2]}`, `{ "n":[1,2] }`} { // the same again wakes again
		require.NoError(t, f.Signal(t.Context(), early.execution, "stock", []byte(data), alice))
		require.NoError(t, f.Signal(t.Context(), late.execution, "stock", []byte(data), alice))
		came(t, notices)
		came(t, wakes)
	}
	for _, s := range []*script{early, late} {
		err := f.Signal(t.Context(), s.execution, "stock", []byte(`{"n": [1]}`), alice)
		require.Equal(t, problem.Conflict, codeOf(t, err))
		data, found, err := f.journal.Signal(t.Context(), s.execution, subject.SignalEvent, "stock")
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, `{"n": [1, 2]}`, string(data), "as it came")
	}
	pending, _, err := notices.Pending()
	require.NoError(t, err)
	require.Zero(t, pending)
}

func TestSignalRefuses(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	s, ended := f.accept(t, event.Request{}), f.accept(t, event.Request{}).end(t, event.StatusSuccess, "")
	expired := subject.Execution{Customer: "alice", ID: uuid.NewString()}
	f.past[expired.ID] = true
	for name, test := range map[string]struct {
		execution  subject.Execution
		name, data string
		code       problem.Code
	}{
		"ended":              {ended.execution, "stock", "1", problem.ExecutionEnded},
		"expired":            {expired, "stock", "1", problem.ExecutionEnded},
		"unknown":            {subject.Execution{Customer: "alice", ID: uuid.NewString()}, "stock", "1", problem.NotFound},
		"another customer's": {subject.Execution{Customer: "bob", ID: s.execution.ID}, "stock", "1", problem.NotFound},
		"name":               {s.execution, "a.b", "1", problem.InvalidRequest},
		"empty":              {s.execution, "stock", "", problem.InvalidRequest},
		"no JSON":            {s.execution, "stock", "{", problem.InvalidRequest},
		"no UTF-8":           {s.execution, "stock", "\"\xff\"", problem.InvalidRequest},
		"large":              {s.execution, "stock", `"` + strings.Repeat("x", 64<<10) + `"`, problem.PayloadTooLarge},
	} {
		require.Equal(t, test.code, codeOf(t, f.Signal(t.Context(), test.execution, test.name, []byte(test.data), alice)), name)
	}
	largest := `"` + strings.Repeat("x", 64<<10-2) + `"`
	require.NoError(t, f.Signal(t.Context(), s.execution, "stock", []byte(largest), alice))
}

// approvals is a recipe with an approval, one for each of three items, and a step that asks for nothing.
func approvals() *recipe.Recipe {
	return &recipe.Recipe{Steps: []*recipe.Step{
		{ID: "ask", Kind: recipe.KindApproval},
		{ID: "each", Kind: recipe.KindApproval, ForEach: &recipe.ForEach{MaxItems: 3}},
		{ID: "boil", Kind: recipe.KindStateSet},
	}}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.shelf[1] = approvals()
	s := f.accept(t, event.Request{}).checkpoint(t, event.Waiting, event.Checkpoint{})
	wakes := f.messages(t, s.execution.Due())
	require.NoError(t, f.Decide(t.Context(), s.execution, "ask", true, "fine", alice))
	came(t, wakes)
	data, found, err := f.journal.Signal(t.Context(), s.execution, subject.SignalApproval, "ask")
	require.NoError(t, err)
	require.True(t, found)
	var decision map[string]any
	require.NoError(t, json.Unmarshal(data, &decision))
	require.Equal(t, map[string]any{
		"approved": true, "by": "api_key:key_1", "comment": "fine", "at": f.clock.Now().Format(time.RFC3339Nano),
	}, decision)

	bob := control.Author{Actor: event.Actor{Type: "operator", ID: "operator"}}
	require.NoError(t, f.Decide(t.Context(), s.execution, "ask", true, "me too", bob))
	err = f.Decide(t.Context(), s.execution, "ask", false, "", bob)
	require.Equal(t, problem.Conflict, codeOf(t, err))
	require.ErrorContains(t, err, "by api_key:key_1")
	require.NoError(t, f.Decide(t.Context(), s.execution, "each.2", false, "", bob))
	require.Equal(t, []string{
		`galley.activity.alice.execution.approved api_key:key_1 {"after": {"step": "ask", "comment": "fine"}}`,
		`galley.activity.alice.execution.rejected operator:operator {"after": {"step": "each.2", "comment": ""}}`,
	}, f.activities(t))

	for _, name := range []string{"each", "each.3", "each.02", "each.-1", "ask.0", "boil", "nothing"} {
		require.Equal(t, problem.NotFound, codeOf(t, f.Decide(t.Context(), s.execution, name, true, "", alice)), name)
	}
	s.end(t, event.StatusSuccess, "")
	require.Equal(t, problem.ExecutionEnded, codeOf(t, f.Decide(t.Context(), s.execution, "ask", true, "", alice)))
	other := subject.Execution{Customer: "bob", ID: s.execution.ID}
	require.Equal(t, problem.NotFound, codeOf(t, f.Decide(t.Context(), other, "ask", true, "", alice)))
}

func TestOneDecisionCounts(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.shelf[1] = approvals()
	s := f.accept(t, event.Request{})
	errs := make([]error, 8)
	var wait sync.WaitGroup
	for i := range errs {
		wait.Go(func() { errs[i] = f.Decide(t.Context(), s.execution, "ask", i%2 == 0, "", alice) })
	}
	wait.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		require.Equal(t, problem.Conflict, codeOf(t, err))
	}
	require.Equal(t, len(errs)/2, won, "one decision, by all who made it")
	require.Len(t, f.activities(t), 1)
}
