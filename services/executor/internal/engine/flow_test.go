package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/state"
	"github.com/galley-engine/galley/services/executor/internal/engine"
)

// world is what is outside of an execution.
type world struct {
	mu       sync.Mutex
	signals  map[string]string
	children map[string]string
	started  []query.StartRequest
	refuse   error
	secrets  map[string]any
}

func (w *world) Signal(_ context.Context, _ subject.Execution, kind subject.SignalKind, name string) ([]byte, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	data, found := w.signals[string(kind)+"/"+name]
	return []byte(data), found, nil
}

func (w *world) StartChild(_ context.Context, child *query.StartRequest) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.started = append(w.started, *child)
	return "child of " + child.Key, w.refuse
}

func (w *world) ChildResponse(_ context.Context, execution subject.Execution) ([]byte, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	data, found := w.children[execution.ID]
	return []byte(data), found, nil
}

func (w *world) Secrets(_ context.Context, _ string, names []string) (map[string]any, error) {
	found := map[string]any{}
	for _, name := range names {
		if w.secrets[name] == nil {
			return nil, &problem.Error{Code: problem.SecretUnavailable, Message: "no " + name}
		}
		found[name] = w.secrets[name]
	}
	return found, nil
}

func engineIn(w *world, http component.Component) *engine.Engine {
	components := component.Registry{recipe.KindHTTP: http, recipe.KindStateSet: component.Func(state.Set)}
	return engine.New(components, w, clock.System, zerolog.Nop())
}

// echo answers with the URL that it is called with, and counts the calls; those with "bad" in it fail.
type echo struct {
	mu    sync.Mutex
	calls map[string]int
	busy  int
	most  int
}

func (e *echo) Execute(ctx context.Context, call *component.Call) (component.Result, error) {
	with, _ := call.With.(map[string]any)
	url, _ := with["url"].(string)
	e.mu.Lock()
	if e.calls == nil {
		e.calls = map[string]int{}
	}
	e.calls[call.IdempotencyKey()]++
	e.busy++
	e.most = max(e.most, e.busy)
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.busy--
		e.mu.Unlock()
	}()
	select {
	case <-time.After(time.Millisecond):
	case <-ctx.Done():
		return component.Result{}, ctx.Err()
	}
	if strings.Contains(url, "bad") {
		e.company()
		return component.Result{}, &problem.Error{Code: problem.Upstream4xx, Message: "refused"}
	}
	return component.Result{Output: strings.TrimPrefix(url, "https://x/")}, nil
}

// company waits until another call has begun, if one comes: one that fails alone would keep the others from beginning.
func (e *echo) company() {
	alone := func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.most < 2
	}
	for n := 0; n < 200 && alone(); n++ {
		time.Sleep(time.Millisecond) //nolint:forbidigo // until it has begun
	}
}

func TestForEach(t *testing.T) {
	t.Parallel()
	const spec = `
  steps:
    - {id: list, uses: state.set, with: {names: [%s]}}
    - id: call
      uses: action.http
      foreach: {in: "${state.names}", as: name, max_items: 10, max_parallel: 3}
      with: {url: "https://x/${name}${string(int(index))}"}
      price: "0.1"
      on_error: %s
  result: {all: "${steps.call.outputs}", status: "${steps.call.status}"}`
	tests := map[string]struct {
		names, onError string
		status         event.Status
		data           string
		count          event.ItemCount
		credits        string
		errors         []string
		calls          int
	}{
		"all succeed": {
			"a, b, c, d", "fail", event.StatusSuccess, `{"all": ["a0", "b1", "c2", "d3"], "status": "success"}`,
			event.ItemCount{Total: 4, Succeeded: 4},
			"0.4", nil, 4,
		},
		"some may fail": {
			"a, bad, c, bad, e", "continue", event.StatusPartial, `{"all": ["a0", null, "c2", null, "e4"], "status": "partial"}`,
			event.ItemCount{Total: 5, Succeeded: 3, Failed: 2},
			"0.3",
			[]string{"item 1: refused", "item 3: refused"},
			5,
		},
		"all fail": {
			"bad, bad", "continue", event.StatusPartial, `{"all": [null, null], "status": "failed"}`,
			event.ItemCount{Total: 2, Failed: 2},
			"0",
			[]string{"item 0: refused", "item 1: refused"},
			2,
		},
		"none": {
			"", "fail", event.StatusSuccess, `{"all": [], "status": "success"}`, event.ItemCount{}, "0", nil, 0,
		},
		"one fails that may not": {
			"bad, b", "fail", event.StatusFailed, `null`, event.ItemCount{Total: 2, Succeeded: 1, Failed: 1}, "0", []string{"item 0: refused"}, 2,
		},
		"too many": {
			"a, a, a, a, a, a, a, a, a, a, a", "fail", event.StatusFailed, `null`,
			event.ItemCount{},
			"0",
			[]string{"/spec/steps/1/foreach/in: ${state.names}: there are 11 items, max_items allows 10"},
			0,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			http := &echo{}
			response, journal := run(t, http, fmt.Sprintf(spec, test.names, test.onError))
			assert.Equal(t, test.status, response.Status)
			assert.JSONEq(t, test.data, string(response.Data))
			assert.Equal(t, test.credits, response.Metadata.CreditsConsumed.String())
			assert.Len(t, http.calls, test.calls)
			assert.LessOrEqual(t, http.most, 3)
			var messages []string
			for _, failed := range response.Errors {
				assert.Equal(t, "call", failed.Step)
				messages = append(messages, failed.Message)
			}
			assert.Equal(t, test.errors, messages)
			if count := response.Metadata.Steps[1].Items; count != nil {
				assert.Equal(t, test.count, *count)
			}
			if test.status == event.StatusSuccess && test.calls > 0 {
				assert.Equal(t, test.calls, response.Metadata.RecordsProcessed)
				assert.NotEmpty(t, journal.events)
			}
		})
	}
}

// TestForEachOfPureItemsLeavesNoEvents, however many there are.
func TestForEachOfPureItemsLeavesNoEvents(t *testing.T) {
	t.Parallel()
	response, journal := run(t, answer(nil), `
  steps:
    - id: each
      uses: state.set
      foreach: {in: "${lists.range(100)}", as: n, max_items: 100}
      with: {last: "${n * 2}"}`)
	assert.JSONEq(t, `{"last": 198}`, string(response.Data))
	assert.Empty(t, journal.events)
}

// TestBranchesRunAtTheSameTime: two calls that wait for one another.
func TestBranchesRunAtTheSameTime(t *testing.T) {
	t.Parallel()
	var here sync.WaitGroup
	here.Add(2)
	meet := call(func(_ context.Context, c *component.Call) (component.Result, error) {
		here.Done()
		here.Wait()
		return component.Result{Output: c.Step}, nil
	})
	response, _ := run(t, meet, `
  steps:
    - parallel:
        - {id: a, uses: action.http, with: {url: "https://x"}}
        - steps:
            - {id: b, uses: action.http, with: {url: "https://x"}}
            - {id: c, uses: state.set, with: {seen: "${steps.b.output}"}}
    - {id: d, uses: state.set, with: {both: "${steps.a.output + state.seen}"}}
  result: "${state.both}"`)
	assert.JSONEq(t, `"ab"`, string(response.Data))
	var order []string
	for _, step := range response.Metadata.Steps {
		order = append(order, step.ID)
	}
	assert.Equal(t, []string{"a", "b", "c", "d"}, order, "steps are told of in the order of the document")
}

// TestAFailedBranchKeepsTheOthersFromGoingOn, whatever they wait for.
func TestAFailedBranchKeepsTheOthersFromGoingOn(t *testing.T) {
	t.Parallel()
	w, http := &world{}, &echo{}
	e := engineIn(w, http)
	x := execution(t, `
  timeout: 2h
  steps:
    - parallel:
        - {id: a, uses: action.http, with: {url: "https://x/bad"}}
        - steps:
            - {id: b, uses: wait.for, with: {duration: 3s}}
            - {id: c, uses: action.http, with: {url: "https://x/c"}}
        - {id: d, uses: wait.event, with: {name: never, timeout: 1h}}
    - {id: e, uses: action.http, with: {url: "https://x/e"}}`)
	started := clock.System()
	completion, err := e.Run(t.Context(), x, e.Begin(x), &notes{})
	require.NoError(t, err)
	assert.Equal(t, event.StatusFailed, completion.Response.Status)
	assert.Equal(t, "a", completion.Response.Errors[0].Step)
	assert.Equal(t, map[string]int{"e1/a": 1}, http.calls)
	assert.Less(t, clock.System().Sub(started), 2*time.Second)
}

// resumed runs an execution from where its journal stands, until it has ended or is parked again.
func resumed(t *testing.T, e *engine.Engine, x *engine.Execution, journal *notes) (*engine.Completion, error) {
	t.Helper()
	completion, err := e.Run(t.Context(), x, journal.last, journal)
	return &completion, err
}

func TestWaitsPark(t *testing.T) {
	t.Parallel()
	const late = `"2020-01-01T00:00:00Z"`
	tests := map[string]struct {
		step string
		// before is looked at when it is parked, then news happen.
		wait event.Wait
		news func(*world, *event.Checkpoint)
		// then is the output, or the message of the failure.
		then string
		code problem.Code
	}{
		"for a time": {
			`{id: w, uses: wait.for, with: {duration: 10m}}`,
			event.Wait{},
			func(_ *world, c *event.Checkpoint) {
				c.Waits[0].Since = c.Waits[0].Since.Add(-10 * time.Minute)
				c.StartedAt = c.Waits[0].Since
			}, `"until"`, "",
		},
		"for an event": {
			`{id: w, uses: wait.event, with: {name: "paid-${input.query}", timeout: 10m}}`,
			event.Wait{Event: "paid-dentists"},
			func(w *world, _ *event.Checkpoint) {
				w.signals = map[string]string{"event/paid-dentists": `{"amount": 7}`}
			}, `{"amount":7}`, "",
		},
		"for an event that does not come": {
			`{id: w, uses: wait.event, with: {name: paid, timeout: 10m}}`,
			event.Wait{Event: "paid"},
			func(_ *world, c *event.Checkpoint) { c.Waits[0].Since = c.Waits[0].Since.Add(-10 * time.Minute) }, `nothing came for 10m0s`, problem.Timeout,
		},
		"for a decision": {
			`{id: w, uses: approval, with: {title: "Send to ${input.query}?", timeout: 10m}}`,
			event.Wait{Approval: "Send to dentists?"},
			func(w *world, _ *event.Checkpoint) {
				w.signals = map[string]string{"approval/w": `{"approved": true, "by": "user:u1", "comment": "", "at": ` + late + `}`}
			}, `"by":"user:u1"`, "",
		},
		"for a decision against it": {
			`{id: w, uses: approval, with: {title: "Send?", timeout: 10m}}`,
			event.Wait{Approval: "Send?"},
			func(w *world, _ *event.Checkpoint) {
				w.signals = map[string]string{"approval/w": `{"approved": false, "by": "user:u1", "comment": "too early", "at": ` + late + `}`}
			}, `rejected: too early`, problem.Rejected,
		},
		"for another execution": {
			`{id: w, uses: recipe.run, timeout: 10m, with: {agent: a, recipe: r, input: {q: "${input.query}"}}}`,
			event.Wait{Execution: "child of e1/w"},
			func(w *world, _ *event.Checkpoint) {
				w.children = map[string]string{"child of e1/w": `{"status": "success", "data": {"n": 3}}`}
			}, `"data":{"n":3}`, "",
		},
		"for another execution that fails": {
			`{id: w, uses: recipe.run, timeout: 10m, with: {agent: a, recipe: r}}`,
			event.Wait{Execution: "child of e1/w"},
			func(w *world, _ *event.Checkpoint) {
				w.children = map[string]string{"child of e1/w": `{"status": "failed", "data": null, "errors": [{"code": "TIMEOUT", "message": "late"}]}`}
			}, `execution child of e1/w has failed: TIMEOUT: late`, problem.ChildFailed,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, http := &world{}, &echo{}
			e := engineIn(w, http)
			x := execution(t, "\n  timeout: 1h\n  steps:\n    - "+test.step+`
    - {id: after, uses: action.http, with: {url: "https://x/after"}}
  result: "${steps.w.output}"`)
			journal := &notes{last: e.Begin(x)}
			began := clock.System()
			_, err := resumed(t, e, x, journal)
			require.ErrorIs(t, err, engine.ErrParked)
			require.Equal(t, "waiting", journal.events[len(journal.events)-1])
			require.Len(t, journal.last.Waits, 1)
			wait := journal.last.Waits[0]
			assert.WithinDuration(t, began.Add(10*time.Minute), wait.Until, time.Minute)
			assert.Equal(t, event.Wait{Step: "w", Event: test.wait.Event, Approval: test.wait.Approval, Execution: test.wait.Execution},
				event.Wait{Step: wait.Step, Item: wait.Item, Event: wait.Event, Approval: wait.Approval, Execution: wait.Execution})
			assert.False(t, journal.wake.After(wait.Until))

			_, err = resumed(t, e, x, journal)
			require.ErrorIs(t, err, engine.ErrParked, "a wake-up call for nothing does no harm")
			assert.Equal(t, wait, journal.last.Waits[0], "the wait goes on as it began")

			test.news(w, &journal.last)
			completion, err := resumed(t, e, x, journal)
			require.NoError(t, err)
			if test.code != "" {
				require.NotEmpty(t, completion.Response.Errors)
				assert.Equal(t, problem.Error{Code: test.code, Message: test.then, Step: "w", Attempt: 1}, completion.Response.Errors[0])
				assert.Empty(t, http.calls)
				return
			}
			assert.Equal(t, event.StatusSuccess, completion.Response.Status, "%v", completion.Response.Errors)
			assert.Contains(t, string(completion.Response.Data), test.then)
			assert.Equal(t, map[string]int{"e1/after": 1}, http.calls)
			assert.LessOrEqual(t, len(w.started), 1, "a child is started once")
			assert.Empty(t, journal.last.Waits)
		})
	}
}

// TestNewsEndAWaitAtHand: another branch keeps the execution from being parked.
func TestNewsEndAWaitAtHand(t *testing.T) {
	t.Parallel()
	w := &world{}
	came := make(chan struct{})
	var once sync.Once
	e := engineIn(w, call(func(context.Context, *component.Call) (component.Result, error) {
		<-came
		return component.Result{Output: "x"}, nil
	}))
	x := execution(t, `
  timeout: 1h
  steps:
    - parallel:
        - {id: a, uses: action.http, with: {url: "https://x"}}
        - steps:
            - {id: w, uses: wait.event, with: {name: go, timeout: 10m}}
            - {id: s, uses: state.set, with: {by: "${steps.w.output}"}, checkpoint: true}`)
	journal := &tap{notes: &notes{}, seen: func(c *event.Checkpoint) {
		for _, step := range c.Steps {
			if step.ID == "s" {
				once.Do(func() { close(came) })
			}
		}
	}}
	done := make(chan error, 1)
	go func() {
		_, err := e.Run(t.Context(), x, e.Begin(x), journal)
		done <- err
	}()
	time.Sleep(20 * time.Millisecond) //nolint:forbidigo // the wait begins meanwhile, or finds the event at once: both are right
	w.mu.Lock()
	w.signals = map[string]string{"event/go": `"news"`}
	w.mu.Unlock()
	x.News.Spread()
	require.NoError(t, <-done)
	assert.NotContains(t, journal.events, "waiting")
}

// tap shows each checkpoint.
type tap struct {
	*notes
	seen func(*event.Checkpoint)
}

func (j *tap) Checkpoint(ctx context.Context, number int, data []byte) error {
	err := j.notes.Checkpoint(ctx, number, data)
	j.seen(&j.last)
	return err
}

func TestLongRetryDelaysPark(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	e := engineIn(&world{}, call(func(_ context.Context, c *component.Call) (component.Result, error) {
		if calls.Add(1); c.Attempt < 3 {
			return component.Result{}, &problem.Error{Code: problem.Timeout, Message: "late", Retryable: true}
		}
		return component.Result{Output: "at last"}, nil
	}))
	x := execution(t, `
  timeout: 1h
  steps:
    - {id: a, uses: action.http, with: {url: "https://x"}, retry: {max_attempts: 3, initial: 2m, max: 2m, jitter: false}}`)
	journal := &notes{last: e.Begin(x)}
	for attempt := 1; attempt < 3; attempt++ {
		_, err := resumed(t, e, x, journal)
		require.ErrorIs(t, err, engine.ErrParked)
		require.EqualValues(t, attempt, calls.Load())
		require.Equal(t, attempt, journal.last.Waits[0].Attempts)
		assert.WithinDuration(t, clock.System().Add(2*time.Minute), journal.wake, 10*time.Second)
		journal.last.Waits[0].Until = clock.System()
	}
	completion, err := resumed(t, e, x, journal)
	require.NoError(t, err)
	assert.JSONEq(t, `"at last"`, string(completion.Response.Data))
	assert.Equal(t, 3, completion.Response.Metadata.Steps[0].Attempts)
}

// TestBranchesAndItemsWaitTogether: what can go on does, then all that is left to wait for is in one checkpoint.
func TestBranchesAndItemsWaitTogether(t *testing.T) {
	t.Parallel()
	w, http := &world{}, &echo{}
	e := engineIn(w, http)
	x := execution(t, `
  timeout: 1h
  steps:
    - parallel:
        - steps:
            - {id: a, uses: action.http, with: {url: "https://x/a"}}
            - {id: nap, uses: wait.for, with: {duration: 20m}}
        - id: asked
          uses: wait.event
          foreach: {in: "${['x', 'y', 'z']}", as: who, max_items: 3, max_parallel: 3}
          with: {name: "${who}", timeout: 10m}
    - {id: end, uses: action.http, with: {url: "https://x/end"}}
  result: "${steps.asked.outputs}"`)
	journal := &notes{last: e.Begin(x)}
	w.signals = map[string]string{"event/y": `"early"`}
	_, err := resumed(t, e, x, journal)
	require.ErrorIs(t, err, engine.ErrParked)
	keys := func() (keys []string) {
		for _, wait := range journal.last.Waits {
			keys = append(keys, wait.Step+wait.Event)
		}
		slices.Sort(keys)
		return keys
	}
	assert.Equal(t, []string{"askedx", "askedz", "nap"}, keys())
	w.signals["event/x"] = `"x"`
	_, err = resumed(t, e, x, journal)
	require.ErrorIs(t, err, engine.ErrParked)
	assert.Equal(t, []string{"askedz", "nap"}, keys())
	w.signals["event/z"] = `"z"`
	for i := range journal.last.Waits {
		journal.last.Waits[i].Since = journal.last.Waits[i].Since.Add(-20 * time.Minute)
	}
	completion, err := resumed(t, e, x, journal)
	require.NoError(t, err)
	assert.JSONEq(t, `["x", "early", "z"]`, string(completion.Response.Data))
	assert.Equal(t, map[string]int{"e1/a": 1, "e1/end": 1}, http.calls)
}

func TestSecretsReachTheCallAndNothingElse(t *testing.T) {
	t.Parallel()
	w := &world{secrets: map[string]any{"api_key": "s3cr3t-value"}}
	var got any
	e := engineIn(w, call(func(_ context.Context, c *component.Call) (component.Result, error) {
		got = c.With
		if c.Step == "b" {
			return component.Result{}, &problem.Error{Code: problem.Upstream4xx, Message: "bad key s3cr3t-value"}
		}
		return component.Result{Output: map[string]any{"echo": "Bearer s3cr3t-value"}}, nil
	}))
	x := execution(t, `
  steps:
    - {id: a, uses: action.http, with: {url: "https://x", headers: {authorization: "Bearer ${secrets.api_key}"}}}
    - {id: b, uses: action.http, with: {url: "https://x", headers: {authorization: "${secrets.api_key}"}}, on_error: continue}
    - {id: c, uses: state.set, with: {seen: "${steps.a.output}", why: "${steps.b.error.message}"}}`)
	journal := &notes{}
	completion, err := e.Run(t.Context(), x, e.Begin(x), journal)
	require.NoError(t, err)
	assert.Contains(t, fmt.Sprint(got), "s3cr3t-value")
	checkpoint, err := json.Marshal(journal.last)
	require.NoError(t, err)
	assert.NotContains(t, string(checkpoint)+string(completion.Data), "s3cr3t-value")
	assert.Contains(t, string(completion.Data), "[secret:api_key]")
	w.secrets = nil
	completion, err = e.Run(t.Context(), x, e.Begin(x), journal)
	require.NoError(t, err)
	assert.Equal(t, problem.SecretUnavailable, completion.Response.Errors[0].Code)
}

func TestOriginKeepsWhatIsDone(t *testing.T) {
	t.Parallel()
	http := &echo{}
	e := engineIn(&world{}, http)
	x := execution(t, `
  steps:
    - {id: a, uses: action.http, with: {url: "https://x/a"}, price: 1}
    - {id: b, uses: action.http, with: {url: "https://x/b"}, price: 1}
    - {id: c, uses: state.set, with: {c: "${string(size(steps.b.output))}"}}
  result: {a: "${steps.a.output}", b: "${steps.b.output}", all: "${state}"}`)
	x.Origin = &event.Origin{
		ExecutionID: "e0", Verb: event.VerbResume, Step: "b", State: map[string]any{"s": 1.0},
		Steps: []event.StepOutcome{{StepSummary: event.StepSummary{ID: "a", Status: event.StepSuccess, Attempts: 1}, Output: "earlier"}},
	}
	completion, err := e.Run(t.Context(), x, e.Begin(x), &notes{})
	require.NoError(t, err)
	assert.Equal(t, event.StatusSuccess, completion.Response.Status, "%v", completion.Response.Errors)
	assert.JSONEq(t, `{"a": "earlier", "b": "b", "all": {"s": 1, "c": "1"}}`, string(completion.Response.Data))
	assert.Equal(t, map[string]int{"e1/b": 1}, http.calls)
	assert.Equal(t, "1", completion.Response.Metadata.CreditsConsumed.String(), "what was paid is not paid again")
}

func TestExecutionsRunExecutionsOnlySoDeep(t *testing.T) {
	t.Parallel()
	w := &world{}
	e := engineIn(w, &echo{})
	x := execution(t, `  steps: [{id: a, uses: recipe.run, with: {agent: a, recipe: r}}]`)
	x.Parent = &event.Parent{ExecutionID: "e0", Step: "s", Depth: event.MaxDepth}
	completion, err := e.Run(t.Context(), x, e.Begin(x), &notes{})
	require.NoError(t, err)
	assert.Equal(t, problem.TooDeep, completion.Response.Errors[0].Code)
	assert.Empty(t, w.started)
	x.Parent.Depth = 3
	w.refuse = &problem.Error{Code: problem.NotFound, Message: "no such recipe"}
	completion, err = e.Run(t.Context(), x, e.Begin(x), &notes{})
	require.NoError(t, err)
	assert.Equal(t, problem.NotFound, completion.Response.Errors[0].Code)
	assert.Equal(t, 4, w.started[0].Parent.Depth)
	w.refuse = errors.New("no responders")
	_, err = e.Run(t.Context(), x, e.Begin(x), &notes{})
	require.ErrorIs(t, err, w.refuse, "an execution does not fail because ingest is away")
}

// TestAChildIsKnownAtOnce: whoever cancels the execution has to find it, also while another branch is busy.
func TestAChildIsKnownAtOnce(t *testing.T) {
	t.Parallel()
	w := &world{children: map[string]string{}}
	known := make(chan struct{})
	var once sync.Once
	e := engineIn(w, call(func(context.Context, *component.Call) (component.Result, error) {
		<-known
		return component.Result{}, nil
	}))
	x := execution(t, `
  steps:
    - parallel:
        - {id: a, uses: action.http, with: {url: "https://x"}}
        - {id: b, uses: recipe.run, with: {agent: a, recipe: r}}`)
	journal := &tap{notes: &notes{}, seen: func(c *event.Checkpoint) {
		if len(c.Waits) == 1 && c.Waits[0].Execution == "child of e1/b" {
			once.Do(func() { close(known) })
		}
	}}
	_, err := e.Run(t.Context(), x, e.Begin(x), journal)
	require.ErrorIs(t, err, engine.ErrParked)
}
