package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/state"
	"github.com/galley-engine/galley/services/executor/internal/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// call is a component in the place of action.http.
type call func(ctx context.Context, call *component.Call) (component.Result, error)

func (c call) Execute(ctx context.Context, arguments *component.Call) (component.Result, error) {
	return c(ctx, arguments)
}

func answer(output any) call {
	return func(context.Context, *component.Call) (component.Result, error) {
		return component.Result{Output: output}, nil
	}
}

func refuse(err error) call {
	return func(context.Context, *component.Call) (component.Result, error) { return component.Result{}, err }
}

// notes is a journal that writes down what it is given, and fails on demand.
type notes struct {
	events []string
	last   event.Checkpoint
	err    error
	hold   error
	wake   time.Time
}

func (n *notes) note(name string, data []byte) error {
	if n.err != nil {
		return n.err
	}
	n.events = append(n.events, name)
	n.last = event.Checkpoint{}
	return json.Unmarshal(data, &n.last)
}

func (n *notes) Start(_ context.Context, data []byte) error { return n.note("started", data) }

func (n *notes) Checkpoint(_ context.Context, step int, data []byte) error {
	return n.note(fmt.Sprintf("step/%d", step), data)
}

func (n *notes) Park(ctx context.Context, data []byte, wake time.Time, news func(ctx context.Context) (bool, error)) error {
	n.wake = wake
	if err := n.note("waiting", data); err != nil {
		return err
	}
	_, err := news(ctx)
	return err
}

func (n *notes) Hold() error { return n.hold }

func newEngine(http component.Component) *engine.Engine {
	components := component.Registry{recipe.KindHTTP: http, recipe.KindStateSet: component.Func(state.Set)}
	return engine.New(components, nil, clock.System, zerolog.Nop())
}

// spec is what follows "spec:" in a recipe, in YAML's flow style or indented by two.
func compile(tb testing.TB, spec string) *recipe.Recipe {
	tb.Helper()
	compiler, err := recipe.NewCompiler()
	require.NoError(tb, err)
	document := "apiVersion: galley/v1\nkind: Recipe\nmetadata: {agent: the-hunter, id: discovery}\nspec:\n" + spec
	compiled, err := compiler.Load([]byte(document))
	require.NoError(tb, err)
	return compiled
}

func execution(tb testing.TB, spec string) *engine.Execution {
	tb.Helper()
	compiled := compile(tb, spec)
	return &engine.Execution{
		Funding: event.Funding{
			Debit: event.Debit{Amount: compiled.Quote()},
			Request: event.Request{
				ExecutionID: "e1", CustomerID: "cust_001", AgentID: "the-hunter", RecipeID: "discovery", RecipeVersion: 3,
				Vars: map[string]any{"base": "http://directory.example"}, Deadline: clock.System().Add(time.Hour),
			},
		},
		Input: map[string]any{"query": "dentists", "notify": false}, Recipe: compiled, TraceParent: "00-trace",
	}
}

func run(t *testing.T, http component.Component, spec string) (*event.Response, *notes) {
	t.Helper()
	e, journal, x := newEngine(http), &notes{}, execution(t, spec)
	completion, err := e.Run(t.Context(), x, e.Begin(x), journal)
	require.NoError(t, err)
	var decoded event.Response
	require.NoError(t, json.Unmarshal(completion.Data, &decoded))
	assert.Equal(t, completion.Response.Status, decoded.Status)
	assert.NotContains(t, string(completion.Data), `"errors":null`)
	return &decoded, journal
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	unavailable := &problem.Error{Code: problem.Upstream5xx, Message: "the other side answered 503", Retryable: true}
	forbidden := &problem.Error{Code: problem.Upstream4xx, Message: "the other side answered 403"}
	big := strings.Repeat("x", 200<<10)
	tests := []struct {
		name    string
		http    call
		spec    string
		status  event.Status
		data    string
		charged string
		records int
		ran     int
		errors  []problem.Error
		events  []string
	}{
		{
			name: "the last step's output is the data without result and state", http: answer("hello"),
			spec:   `  steps: [{id: a, uses: action.http, with: {url: "https://a.example"}, price: 0.02}]`,
			status: event.StatusSuccess, data: `"hello"`, charged: "0.02", records: 1, ran: 1, events: []string{"started"},
		},
		{
			name: "the final state is the data without result", http: answer(map[string]any{"list": []any{1.0, 2.0}}),
			spec: `
  steps:
    - {id: a, uses: action.http, with: {url: "${vars.base}/${input.query}"}, price: 0.02}
    - {id: b, uses: state.set, with: {leads: "${steps.a.output.list}", who: "${execution.customer}"}}
    - {id: c, uses: state.set, with: {count: "${size(state.leads)}"}, price: 0.01}`,
			status: event.StatusSuccess, data: `{"count":2,"leads":[1,2],"who":"cust_001"}`, charged: "0.03", records: 2, ran: 3,
			events: []string{"started", "step/0"},
		},
		{
			name: "a result wins", http: answer(map[string]any{"list": []any{}}),
			spec: `
  steps:
    - {id: a, uses: state.set, with: {x: 1}, checkpoint: true}
    - {id: b, uses: action.http, with: {url: "https://a.example"}}
  result: {all: ["${state.x}", "${steps.b.output}"], status: "${steps.b.status}"}`,
			status: event.StatusSuccess, data: `{"all":[1,{"list":[]}],"status":"success"}`, charged: "0", records: 2, ran: 2,
			events: []string{"step/0"},
		},
		{
			name: "pure steps leave no events", http: answer(nil),
			spec: `
  steps:
    - {id: a, uses: state.set, with: {x: 1}}
    - {id: b, uses: state.set, with: {y: 2}, checkpoint: true}`,
			status: event.StatusSuccess, data: `{"x":1,"y":2}`, charged: "0", records: 1, ran: 2,
		},
		{
			name: "a skipped step costs nothing and leaves no event", http: answer("no"),
			spec: `
  steps:
    - {id: a, uses: action.http, if: "${input.notify}", with: {url: "https://a.example"}, price: 1}
    - {id: b, uses: state.set, with: {seen: "${steps.a.status}"}, price: 0.5}`,
			status: event.StatusSuccess, data: `{"seen":"skipped"}`, charged: "0.5", records: 1, ran: 1,
		},
		{
			name: "a step that may fail makes it partial", http: refuse(unavailable),
			spec: `
  steps:
    - {id: a, uses: action.http, with: {url: "https://a.example"}, price: 1, on_error: continue, retry: {max_attempts: 2, initial: 1ms}}
    - {id: b, uses: state.set, with: {code: "${steps.a.error.code}", tries: "${steps.a.error.attempt}"}, price: 0.5}`,
			status: event.StatusPartial, data: `{"code":"UPSTREAM_5XX","tries":2}`, charged: "0.5", records: 1, ran: 2,
			errors: []problem.Error{{Code: problem.Upstream5xx, Message: unavailable.Message, Step: "a", Attempt: 2, Retryable: true}},
			events: []string{"started", "step/0"},
		},
		{
			name: "a failed step gives everything back", http: refuse(forbidden),
			spec: `
  steps:
    - {id: a, uses: state.set, with: {x: 1}, price: 0.5}
    - {id: b, uses: action.http, with: {url: "https://a.example"}, price: 1}
    - {id: c, uses: state.set, with: {y: 1}, price: 0.5}`,
			status: event.StatusFailed, data: `null`, charged: "0", ran: 2,
			errors: []problem.Error{{Code: problem.Upstream4xx, Message: forbidden.Message, Step: "b", Attempt: 1}},
			events: []string{"started"},
		},
		{
			name: "what ended it comes first among the errors", http: refuse(forbidden),
			spec: `
  steps:
    - {id: a, uses: action.http, with: {url: "https://a.example"}, on_error: continue}
    - {id: b, uses: state.set, with: {x: "${input.nothing}"}}`,
			status: event.StatusFailed, data: `null`, charged: "0", ran: 1,
			errors: []problem.Error{
				{Code: problem.ExpressionError, Step: "b"},
				{Code: problem.Upstream4xx, Message: forbidden.Message, Step: "a", Attempt: 1},
			},
			events: []string{"started", "step/0"},
		},
		{
			name: "the result must fit the output schema", http: answer("x"),
			spec: `
  output: {type: object, required: [leads]}
  steps: [{id: a, uses: state.set, with: {x: 1}, price: 1}]`,
			status: event.StatusFailed, data: `null`, charged: "0", ran: 1,
			errors: []problem.Error{{Code: problem.OutputInvalid}},
		},
		{
			name: "a result that cannot be built fails", http: answer("x"),
			spec: `
  steps: [{id: a, uses: state.set, with: {x: 1}}]
  result: {y: "${input.y}"}`,
			status: event.StatusFailed, data: `null`, charged: "0", ran: 1,
			errors: []problem.Error{{Code: problem.ExpressionError}},
		},
		{
			name: "state and outputs are bounded", http: answer(big),
			spec: `
  steps:
    - {id: a, uses: action.http, with: {url: "https://a.example"}, price: 1}
    - {id: b, uses: state.set, with: {x: "${steps.a.output}"}}`,
			status: event.StatusFailed, data: `null`, charged: "0", ran: 2,
			errors: []problem.Error{{Code: problem.StateTooLarge, Message: "the state with all outputs is larger than 512 KiB"}},
			events: []string{"started", "step/0"},
		},
		{
			name: "the response is bounded", http: answer(big),
			spec: `
  steps: [{id: a, uses: action.http, with: {url: "https://a.example"}, price: 1}]
  result: ["${steps.a.output}", "${steps.a.output}", "${steps.a.output}"]`,
			status: event.StatusFailed, data: `null`, charged: "0", ran: 1,
			errors: []problem.Error{{Code: problem.StateTooLarge, Message: "the response is larger than 512 KiB"}},
			events: []string{"started"},
		},
		{
			name: "a panic is an internal error", http: func(context.Context, *component.Call) (component.Result, error) { panic("secret") },
			spec:   `  steps: [{id: a, uses: action.http, with: {url: "https://a.example"}, price: 1}]`,
			status: event.StatusFailed, data: `null`, charged: "0", ran: 1,
			errors: []problem.Error{{Code: problem.Internal, Message: "a defect in galley stopped the step", Step: "a", Attempt: 1}},
			events: []string{"started"},
		},
		{
			name: "an unknown error is an internal one", http: refuse(errors.New("dial 10.0.0.7")),
			spec:   `  steps: [{id: a, uses: action.http, with: {url: "https://a.example"}, price: 1}]`,
			status: event.StatusFailed, data: `null`, charged: "0", ran: 1,
			errors: []problem.Error{{Code: problem.Internal, Message: "a defect in galley stopped the step", Step: "a", Attempt: 1}},
			events: []string{"started"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			response, journal := run(t, test.http, test.spec)
			assert.Equal(t, test.status, response.Status)
			assert.JSONEq(t, test.data, string(response.Data))
			assert.Equal(t, test.charged, response.Metadata.CreditsConsumed.String())
			assert.Equal(t, test.records, response.Metadata.RecordsProcessed)
			assert.Equal(t, test.ran, response.Metadata.ComponentsExecuted)
			assert.Equal(t, test.events, journal.events)
			var sum credit.Micro
			for _, step := range response.Metadata.Steps {
				sum += step.Credits
			}
			assert.Equal(t, response.Metadata.CreditsConsumed, sum, "the steps' credits add up")
			assert.Equal(t, sum, response.Metadata.Debited-response.Metadata.Refunded, "so does the receipt")
			require.Len(t, response.Errors, len(test.errors))
			for i, want := range test.errors {
				if want.Message == "" {
					want.Message = response.Errors[i].Message
				}
				assert.Equal(t, want, response.Errors[i])
			}
		})
	}
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	response, _ := run(t, answer("x"), `  steps: [{id: a, uses: action.http, with: {url: "https://a.example"}, price: 0.08}]`)
	assert.Equal(t, "e1", response.ExecutionID)
	assert.Equal(t, "cust_001", response.CustomerID)
	assert.Equal(t, "the-hunter", response.AgentID)
	assert.Equal(t, "discovery", response.RecipeID)
	assert.Equal(t, 3, response.RecipeVersion)
	assert.WithinDuration(t, clock.System(), response.Metadata.Timestamp, time.Minute)
	require.Len(t, response.Metadata.Steps, 1)
	step := response.Metadata.Steps[0]
	step.DurationMS = 0
	assert.Equal(t, event.StepSummary{ID: "a", Status: event.StepSuccess, Attempts: 1, Credits: 80_000}, step)
}

func TestChargeIsNeverAboveTheDebit(t *testing.T) {
	t.Parallel()
	e := newEngine(answer("x"))
	x := execution(t, `  steps: [{id: a, uses: state.set, with: {x: 1}, price: 2}]`)
	x.Debit.Amount = credit.One
	completion, err := e.Run(t.Context(), x, e.Begin(x), &notes{})
	require.NoError(t, err)
	assert.Equal(t, credit.One, completion.Response.Metadata.CreditsConsumed)
	assert.Equal(t, event.Receipt{Quoted: x.Quoted, Debited: credit.One}, completion.Response.Metadata.Receipt)
}

func TestRetry(t *testing.T) {
	t.Parallel()
	flaky := func(failures int, err error) (call, *atomic.Int64) {
		var calls atomic.Int64
		return func(_ context.Context, c *component.Call) (component.Result, error) {
			if n := calls.Add(1); int(n) != c.Attempt {
				return component.Result{}, fmt.Errorf("call %d is attempt %d", n, c.Attempt)
			}
			if c.IdempotencyKey() != "e1/a" || c.TraceParent != "00-trace" {
				return component.Result{}, errors.New("another key or trace")
			}
			if c.Attempt <= failures {
				return component.Result{}, err
			}
			return component.Result{Output: "done"}, nil
		}, &calls
	}
	timeout := &problem.Error{Code: problem.Timeout, Message: "late", Retryable: true}
	limited := &component.DelayError{
		Problem: &problem.Error{Code: problem.RateLimited, Message: "slower", Retryable: true}, After: 30 * time.Millisecond,
	}
	tests := []struct {
		name     string
		failures int
		err      error
		retry    string
		status   event.Status
		calls    int
		atLeast  time.Duration
	}{
		{"until it succeeds", 3, timeout, "{max_attempts: 5, initial: 1ms}", event.StatusSuccess, 4, 0},
		{"as often as allowed", 9, timeout, "{max_attempts: 3, initial: 1ms}", event.StatusFailed, 3, 0},
		{"only what is retryable", 9, &problem.Error{Code: problem.Timeout}, "{max_attempts: 3, initial: 1ms}", event.StatusFailed, 1, 0},
		{"only the codes named", 9, timeout, "{max_attempts: 3, initial: 1ms, on: [RATE_LIMITED, UPSTREAM_5XX]}", event.StatusFailed, 1, 0},
		{"the codes named", 2, timeout, "{max_attempts: 3, initial: 1ms, on: [TIMEOUT]}", event.StatusSuccess, 3, 0},
		{
			"with growing delays", 3, timeout, "{max_attempts: 4, initial: 4ms, multiplier: 3, max: 20ms, jitter: false}",
			event.StatusSuccess, 4, 36 * time.Millisecond,
		},
		{"as late as the other side asks", 1, limited, "{initial: 1ms, max: 1s}", event.StatusSuccess, 2, 30 * time.Millisecond},
		{"but not later than max", 2, &component.DelayError{Problem: timeout, After: time.Hour}, "{initial: 1ms, max: 2ms}", event.StatusSuccess, 3, 0},
		{"not past the deadline", 1, timeout, "{initial: 1h, max: 1h}", event.StatusFailed, 1, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			http, calls := flaky(test.failures, test.err)
			started := clock.System()
			response, _ := run(t, http, `  steps: [{id: a, uses: action.http, with: {url: "https://a.example"}, retry: `+test.retry+`}]`)
			assert.Equal(t, test.status, response.Status)
			assert.EqualValues(t, test.calls, calls.Load())
			assert.Equal(t, test.calls, response.Metadata.Steps[0].Attempts)
			assert.GreaterOrEqual(t, clock.System().Sub(started), test.atLeast)
		})
	}
}

func stall(ctx context.Context, _ *component.Call) (component.Result, error) {
	<-ctx.Done()
	return component.Result{}, ctx.Err()
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	t.Run("of a step", func(t *testing.T) {
		t.Parallel()
		response, _ := run(t, call(stall),
			`  steps: [{id: a, uses: action.http, with: {url: "https://a.example"}, timeout: 5ms, retry: {max_attempts: 2, initial: 1ms}}]`)
		assert.Equal(t, event.StatusFailed, response.Status)
		assert.Equal(t, []problem.Error{{Code: problem.Timeout, Message: "no result within 5ms", Step: "a", Attempt: 2, Retryable: true}}, response.Errors)
	})
	t.Run("of the recipe, whatever the step may do", func(t *testing.T) {
		t.Parallel()
		response, _ := run(t, call(stall), `
  timeout: 20ms
  steps: [{id: a, uses: action.http, with: {url: "https://a.example"}, on_error: continue}]`)
		assert.Equal(t, event.StatusFailed, response.Status)
		assert.Equal(t, []problem.Error{{Code: problem.Timeout, Message: "the execution ran out of time", Step: "a", Attempt: 1, Retryable: true}},
			response.Errors)
		assert.Len(t, response.Metadata.Steps, 1)
	})
	t.Run("of the request, before anything runs", func(t *testing.T) {
		t.Parallel()
		e, journal := newEngine(answer("x")), &notes{}
		x := execution(t, `  steps: [{id: a, uses: action.http, with: {url: "https://a.example"}}]`)
		x.Deadline = clock.System().Add(-time.Second)
		completion, err := e.Run(t.Context(), x, e.Begin(x), journal)
		require.NoError(t, err)
		assert.Equal(t, event.StatusFailed, completion.Response.Status)
		assert.Equal(t, problem.Timeout, completion.Response.Errors[0].Code)
		assert.Empty(t, journal.events)
	})
}

// TestInterruption: a worker that has to stop says nothing about the step that it cuts off.
func TestInterruption(t *testing.T) {
	t.Parallel()
	const spec = `
  steps:
    - {id: a, uses: state.set, with: {x: 1}, checkpoint: true}
    - {id: b, uses: action.http, with: {url: "https://a.example"}, on_error: continue, retry: {initial: 10s}}
    - {id: c, uses: state.set, with: {y: 1}}`
	tests := map[string]func(ctx context.Context, stop context.CancelFunc) (component.Result, error){
		"in a call": func(ctx context.Context, stop context.CancelFunc) (component.Result, error) {
			stop()
			return stall(ctx, nil)
		},
		"between attempts": func(_ context.Context, stop context.CancelFunc) (component.Result, error) {
			stop()
			return component.Result{}, &problem.Error{Code: problem.Connection, Retryable: true}
		},
	}
	for name, http := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			e := newEngine(call(func(ctx context.Context, _ *component.Call) (component.Result, error) { return http(ctx, stop) }))
			journal := &notes{}
			x := execution(t, spec)
			_, err := e.Run(ctx, x, e.Begin(x), journal)
			require.ErrorIs(t, err, engine.ErrInterrupted)
			assert.Equal(t, []string{"step/0"}, journal.events)
			assert.Len(t, journal.last.Steps, 1)
		})
	}
	t.Run("an outcome that exists is kept", func(t *testing.T) {
		t.Parallel()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		e, journal := newEngine(call(func(context.Context, *component.Call) (component.Result, error) {
			stop()
			return component.Result{Output: "sent"}, nil
		})), &notes{}
		x := execution(t, spec)
		_, err := e.Run(ctx, x, e.Begin(x), journal)
		require.ErrorIs(t, err, engine.ErrInterrupted)
		assert.Equal(t, []string{"step/0", "step/1"}, journal.events)
		assert.Equal(t, "sent", journal.last.Steps[1].Output)
	})
}

func TestJournalErrorsStopTheExecution(t *testing.T) {
	t.Parallel()
	broken := errors.New("moved on")
	const spec = `  steps: [{id: a, uses: action.http, with: {url: "https://a.example"}, on_error: continue}, {id: b, uses: state.set, with: {x: 1}}]`
	for name, journal := range map[string]*notes{"append": {err: broken}, "hold": {hold: broken}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(call(func(context.Context, *component.Call) (component.Result, error) {
				t.Error("the component was called")
				return component.Result{}, nil
			}))
			x := execution(t, spec)
			_, err := e.Run(t.Context(), x, e.Begin(x), journal)
			require.ErrorIs(t, err, broken)
		})
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	x := execution(t, `
  steps:
    - {id: a, uses: action.http, with: {url: "https://a.example"}, price: 1}
    - {id: b, uses: action.http, with: {url: "https://a.example"}, price: 1, on_error: continue}
    - {id: c, uses: state.set, with: {a: "${steps.a.output.n}", b: "${steps.b.error.code}"}, price: 1}
    - {id: d, uses: action.http, with: {url: "https://a.example"}, price: 1}`)
	e, journal := newEngine(answer("d")), &notes{}
	started := clock.System().Add(-2 * time.Second).Truncate(time.Millisecond)
	from := event.Checkpoint{
		ExecutionID: "e1", Delivery: 2, StartedAt: started, State: map[string]any{"x": "kept"},
		Steps: []event.StepOutcome{
			{StepSummary: event.StepSummary{ID: "a", Status: event.StepSuccess, Attempts: 1, Credits: credit.One}, Output: map[string]any{"n": 7.0}},
			{
				StepSummary: event.StepSummary{ID: "b", Status: event.StepFailed, Attempts: 3},
				Error:       &problem.Error{Code: problem.Timeout, Step: "b", Attempt: 3, Retryable: true},
			},
		},
	}
	completion, err := e.Run(t.Context(), x, from, journal)
	require.NoError(t, err)
	response := completion.Response
	assert.Equal(t, event.StatusPartial, response.Status)
	assert.JSONEq(t, `{"a": 7, "b": "TIMEOUT", "x": "kept"}`, string(response.Data))
	assert.Equal(t, "3", response.Metadata.CreditsConsumed.String())
	assert.GreaterOrEqual(t, response.Metadata.DurationMS, int64(2000))
	assert.Len(t, response.Metadata.Steps, 4)
	assert.Equal(t, []string{"started"}, journal.events)
	assert.Len(t, journal.last.Steps, 3, "what runs without an effect is carried in the next checkpoint")
	assert.Equal(t, 2, journal.last.Delivery)
	assert.True(t, journal.last.StartedAt.Equal(started))
}

func TestCheckpointOfAnotherRecipe(t *testing.T) {
	t.Parallel()
	e := newEngine(answer("x"))
	x := execution(t, `  steps: [{id: a, uses: state.set, with: {x: 1}}]`)
	completion, err := e.Run(t.Context(), x, event.Checkpoint{StartedAt: clock.System(), Steps: []event.StepOutcome{{StepSummary: event.StepSummary{ID: "z"}}}}, &notes{})
	require.NoError(t, err)
	assert.Equal(t, problem.Internal, completion.Response.Errors[0].Code)
}

// TestEarlierOutputsStayAsTheyWere: state.set must not write into a map that an output shares.
func TestEarlierOutputsStayAsTheyWere(t *testing.T) {
	t.Parallel()
	response, _ := run(t, answer(nil), `
  steps:
    - {id: a, uses: state.set, with: {x: 1}}
    - {id: b, uses: state.set, with: {copy: "${state}"}}
    - {id: c, uses: state.set, with: {x: 2}}
  result: "${steps.b.output.copy}"`)
	assert.JSONEq(t, `{"x": 1}`, string(response.Data))
}

func BenchmarkThreeSteps(b *testing.B) {
	e := newEngine(answer(nil))
	x := execution(b, `
  steps:
    - {id: a, uses: state.set, with: {query: "${input.query}"}, checkpoint: true, price: 0.01}
    - {id: b, uses: state.set, with: {upper: "${state.query + '!'}"}, checkpoint: true, price: 0.01}
    - {id: c, uses: state.set, with: {list: ["${state.upper}"]}, checkpoint: true, price: 0.01}
  result: {list: "${state.list}"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Run(b.Context(), x, e.Begin(x), discard{}); err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{}

func (discard) Start(context.Context, []byte) error           { return nil }
func (discard) Checkpoint(context.Context, int, []byte) error { return nil }
func (discard) Hold() error                                   { return nil }
func (discard) Park(context.Context, []byte, time.Time, func(context.Context) (bool, error)) error {
	return nil
}

// BenchmarkForEachOfHundred is to be held against what a hundred executions cost.
func BenchmarkForEachOfHundred(b *testing.B) {
	e := newEngine(answer(nil))
	x := execution(b, `
  steps:
    - {id: a, uses: state.set, foreach: {in: "${lists.range(100)}", as: n}, with: {double: "${n * 2}"}, price: 0.01}
  result: {list: "${steps.a.outputs}"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Run(b.Context(), x, e.Begin(x), discard{}); err != nil {
			b.Fatal(err)
		}
	}
}
