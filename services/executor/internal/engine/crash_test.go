package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/engine"
)

// TestNothingDurableRunsAgain: random recipes of steps, branches, items and waits, whose workers die at random places. Whatever the
// journal has is not run again, and the end is the same as without any crash.
func TestNothingDurableRunsAgain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		spec := randomRecipe(rt)
		reference := &mortal{}
		want, _ := reference.toTheEnd(t, rt, spec)
		crashes := &mortal{fates: rapid.SliceOfN(rapid.SampledFrom([]fate{live, live, live, dieBefore, dieAfter, dieInCall}), 40, 40).Draw(rt, "fates")}
		got, deaths := crashes.toTheEnd(t, rt, spec)
		require.Equal(rt, want, got)
		for key, calls := range crashes.calls {
			require.LessOrEqual(rt, calls, 1+deaths, key)
			require.Equal(rt, 1, reference.calls[key], key)
		}
		require.Len(rt, crashes.calls, len(reference.calls))
	})
}

func randomRecipe(rt *rapid.T) string {
	var count int
	var results []string
	var stages func(depth, indent int) string
	stages = func(depth, indent int) string {
		var text strings.Builder
		pad := strings.Repeat(" ", indent)
		for range rapid.IntRange(1, 3).Draw(rt, "stages") {
			kinds := []string{"call", "call", "set", "each", "wait", "waits"}
			if depth < 2 {
				kinds = append(kinds, "parallel", "parallel")
			}
			kind := rapid.SampledFrom(kinds).Draw(rt, "kind")
			if kind == "parallel" {
				fmt.Fprintf(&text, "%s- parallel:\n", pad)
				for range rapid.IntRange(2, 3).Draw(rt, "branches") {
					fmt.Fprintf(&text, "%s    - steps:\n%s", pad, stages(depth+1, indent+8))
				}
				continue
			}
			count++
			id := "s" + strconv.Itoa(count)
			field := "output"
			switch kind {
			case "call":
				fmt.Fprintf(&text, "%s- {id: %s, uses: action.http, with: {url: \"https://x/%s\"}}\n", pad, id, id)
			case "set":
				fmt.Fprintf(&text, "%s- {id: %s, uses: state.set, with: {%s: 1}, checkpoint: %t}\n", pad, id, id, rapid.Bool().Draw(rt, "checkpoint"))
			case "wait":
				field = "status"
				fmt.Fprintf(&text, "%s- {id: %s, uses: wait.for, with: {duration: 10m}}\n", pad, id)
			case "waits":
				field = "status"
				fmt.Fprintf(&text, "%s- {id: %s, uses: wait.for, foreach: {in: \"${[1, 2]}\", as: n, max_parallel: 2}, with: {duration: \"${string(int(n))}0m\"}}\n", pad, id)
			case "each":
				field = "outputs"
				fmt.Fprintf(&text, "%s- {id: %s, uses: action.http, foreach: {in: \"${[1, 2, 3, 4]}\", as: n, max_parallel: %d}, with: {url: \"https://x/%s-${n}\"}}\n",
					pad, id, rapid.IntRange(1, 3).Draw(rt, "width"), id)
			}
			results = append(results, fmt.Sprintf("%s: \"${steps.%s.%s}\"", id, id, field))
		}
		return text.String()
	}
	steps := stages(0, 4)
	return "\n  timeout: 24h\n  steps:\n" + steps + "  result: {" + strings.Join(results, ", ") + "}"
}

type fate int

const (
	live fate = iota
	dieBefore
	dieAfter
	dieInCall
)

var errDied = errors.New("the worker died")

// mortal is a journal, and a component in the place of action.http, whose worker dies as its fates say.
type mortal struct {
	mu    sync.Mutex
	fates []fate
	calls map[string]int
	// last is the last checkpoint that was stored, durable what it says is done.
	last    []byte
	durable map[string]bool
	again   []string
	kill    context.CancelFunc
}

func (m *mortal) next(calling bool) fate {
	if len(m.fates) == 0 || (m.fates[0] == dieInCall) != calling {
		return live
	}
	drawn := m.fates[0]
	m.fates = m.fates[1:]
	return drawn
}

func (m *mortal) store(data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	drawn := m.next(false)
	if drawn == dieBefore {
		return errDied
	}
	m.last = append([]byte{}, data...)
	var checkpoint event.Checkpoint
	if err := json.Unmarshal(data, &checkpoint); err != nil {
		return err
	}
	m.durable = map[string]bool{}
	for i := range checkpoint.Steps {
		step := &checkpoint.Steps[i]
		for j := range step.Items {
			m.durable["e1/"+step.ID+"/"+strconv.Itoa(step.Items[j].Index)] = true
		}
		if step.Status != event.StepRunning {
			m.durable["e1/"+step.ID] = true
		}
	}
	if drawn == dieAfter {
		return errDied
	}
	return nil
}

func (m *mortal) Start(_ context.Context, data []byte) error             { return m.store(data) }
func (m *mortal) Checkpoint(_ context.Context, _ int, data []byte) error { return m.store(data) }
func (m *mortal) Hold() error                                            { return nil }

func (m *mortal) Park(_ context.Context, data []byte, _ time.Time, _ func(context.Context) (bool, error)) error {
	return m.store(data)
}

func (m *mortal) Execute(ctx context.Context, call *component.Call) (component.Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.calls == nil {
		m.calls = map[string]int{}
	}
	m.calls[call.IdempotencyKey()]++
	if m.durable[call.IdempotencyKey()] {
		m.again = append(m.again, call.IdempotencyKey())
	}
	if m.next(true) == dieInCall {
		m.kill()
		return component.Result{}, ctx.Err()
	}
	with, _ := call.With.(map[string]any)
	return component.Result{Output: with["url"]}, nil
}

// toTheEnd has one worker after the other run the execution. What it waits for comes whenever it is parked.
func (m *mortal) toTheEnd(t *testing.T, rt *rapid.T, spec string) (end string, deaths int) {
	e := engineIn(&world{}, m)
	x := execution(t, spec)
	for range 1000 {
		from := e.Begin(x)
		if m.last != nil {
			from = event.Checkpoint{}
			require.NoError(rt, json.Unmarshal(m.last, &from))
			from.Delivery++
		}
		ctx, cancel := context.WithCancel(t.Context())
		m.kill = cancel
		completion, err := e.Run(ctx, x, from, m)
		cancel()
		require.Empty(rt, m.again, "ran again although they were done")
		switch {
		case errors.Is(err, engine.ErrParked):
			var parked event.Checkpoint
			require.NoError(rt, json.Unmarshal(m.last, &parked))
			require.NotEmpty(rt, parked.Waits)
			for i := range parked.Waits {
				parked.Waits[i].Since = parked.Waits[i].Since.Add(-10 * time.Minute)
			}
			m.last, err = json.Marshal(parked)
			require.NoError(rt, err)
		case errors.Is(err, errDied), errors.Is(err, engine.ErrInterrupted):
			deaths++
		default:
			require.NoError(rt, err)
			require.Equal(rt, event.StatusSuccess, completion.Response.Status, "%v", completion.Response.Errors)
			return string(completion.Response.Data), deaths
		}
	}
	rt.Fatalf("the execution does not end")
	return "", 0
}
