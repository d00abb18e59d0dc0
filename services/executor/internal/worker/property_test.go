package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// planned is a step of a random recipe.
type planned struct {
	http       bool
	checkpoint bool
	carryOn    bool
	price      int
	// failures is how many attempts fail before one succeeds.
	failures int
	attempts int
	skipped  bool
}

func drawPlan(t *rapid.T) []planned {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) planned {
		p := planned{
			http: rapid.Bool().Draw(t, "http"), checkpoint: rapid.Bool().Draw(t, "checkpoint"),
			carryOn: rapid.Float64Range(0, 1).Draw(t, "on_error") < 0.8, price: rapid.IntRange(0, 9).Draw(t, "price"),
			attempts: rapid.IntRange(1, 2).Draw(t, "attempts"), skipped: rapid.Float64Range(0, 1).Draw(t, "if") < 0.1,
		}
		if p.http {
			p.failures = rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "failures")
		}
		return p
	}), 1, 6).Draw(t, "steps")
}

// spec writes the recipe. Each step's input reads what became of the step before it.
func spec(plan []planned) string {
	var b strings.Builder
	b.WriteString("  steps:\n")
	for i, p := range plan {
		before := "none"
		if i > 0 {
			before = fmt.Sprintf("${steps.s%d.status}", i-1)
		}
		uses, with := "state.set", fmt.Sprintf(`{k%d: "%s"}`, i, before)
		if p.http {
			uses, with = "action.http", fmt.Sprintf(`{url: "https://a.example/%s"}`, before)
		}
		onError := recipe.OnErrorFail
		if p.carryOn {
			onError = recipe.OnErrorContinue
		}
		fmt.Fprintf(&b, "    - {id: s%d, uses: %s, with: %s, price: %d, on_error: %s, checkpoint: %t, if: \"${%t}\", "+
			"retry: {max_attempts: %d, initial: 1ms}}\n", i, uses, with, p.price, onError, p.checkpoint, !p.skipped, p.attempts)
	}
	return b.String()
}

// expected is the outcome of a plan, worked out without the engine.
func expected(plan []planned) (status event.Status, credits int) {
	status = event.StatusSuccess
	for _, p := range plan {
		switch {
		case p.skipped:
		case p.failures < p.attempts:
			credits += p.price
		case p.carryOn:
			status = event.StatusPartial
		default:
			return event.StatusFailed, 0
		}
	}
	return status, credits
}

// world runs one execution with workers that die, stand still, stop, and are given it twice.
type world struct {
	t        *rapid.T
	plan     []planned
	recipe   *recipe.Recipe
	store    *store
	actors   []*actor
	lostAcks int
	effects  map[int]int // by step, the workers that began it
	takeover int         // how often a worker was replaced
}

func (w *world) give(deliveries int) {
	a := newActor(w.t, w.store, w.recipe, deliveries, func(a *actor) component.Component {
		return call(func(_ context.Context, c *component.Call) (component.Result, error) { return w.effect(a, c) })
	})
	a.loseAck = func() (lost, stored bool) {
		if w.lostAcks > 0 && rapid.Bool().Draw(w.t, "lose the acknowledgement") {
			w.lostAcks--
			return true, rapid.Bool().Draw(w.t, "stored all the same")
		}
		return false, false
	}
	w.actors = append(w.actors, a)
}

// effect is where an execution acts upon the world.
func (w *world) effect(a *actor, c *component.Call) (component.Result, error) {
	var index int
	_, err := fmt.Sscanf(c.Step, "s%d", &index)
	require.NoError(w.t, err)
	require.Equal(w.t, "e1/"+c.Step, c.IdempotencyKey())
	require.NotEqual(w.t, event.Completed, w.store.last().Kind, "an effect after the end")
	require.LessOrEqual(w.t, len(w.store.checkpoint().Steps), index, "step %d runs although its outcome is durable: %s", index, w.store.names())
	for i, earlier := range w.plan[:index] {
		if earlier.http && !earlier.skipped {
			require.Greater(w.t, len(w.store.checkpoint().Steps), i, "step %d runs before step %d is durable: %s", index, i, w.store.names())
		}
	}
	if c.Attempt == 1 {
		w.effects[index]++
	}
	a.pause("in " + c.Step)
	if c.Attempt <= w.plan[index].failures {
		return component.Result{}, &problem.Error{Code: problem.Upstream5xx, Message: "busy", Retryable: true}
	}
	return component.Result{Output: map[string]any{"n": float64(index)}}, nil
}

// redeliver is what NATS does when AckWait has passed without a heartbeat: whoever held it does so no more.
func (w *world) redeliver() {
	w.takeover++
	highest := 1
	for _, a := range w.actors {
		a.revoked = true
		highest = max(highest, a.deliveries)
	}
	w.give(highest + 1)
}

// forget is what a NATS server does that was killed: it delivers again as if for the first time, and nobody is told. With a second
// worker in the middle of taking over, the two would be in the same step at the same time, which no journal can prevent.
func (w *world) forget() {
	for _, a := range w.actors {
		if a.deliveries > 1 && !a.finished && !a.revoked {
			return
		}
	}
	w.takeover++
	w.give(1)
}

// settled tells whether the funded event was acknowledged.
func (w *world) settled() bool {
	for _, a := range w.actors {
		if a.finished && a.verdict == done {
			return true
		}
	}
	return false
}

func (w *world) run() {
	w.give(1)
	t := w.t
	for range rapid.IntRange(0, 40).Draw(t, "turns") {
		a := rapid.SampledFrom(w.actors).Draw(t, "worker")
		switch action := rapid.IntRange(0, 20).Draw(t, "action"); {
		case action <= 14:
			a.step()
		case action == 15:
			a.kill()
		case action == 16:
			a.stop()
		case w.settled() || len(w.actors) > 5:
		case action <= 19:
			w.redeliver()
		default:
			w.forget()
		}
	}
	w.lostAcks = 0
	for range 10 {
		for _, a := range w.actors {
			for !a.finished {
				a.step()
			}
		}
		if w.settled() {
			return
		}
		w.redeliver()
	}
	t.Fatalf("the execution does not end: %s", w.store.names())
}

func TestExecutionSurvivesEverything(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	rapid.Check(t, func(t *rapid.T) {
		plan := drawPlan(t)
		w := &world{
			t: t, plan: plan, recipe: load(t, compiler, spec(plan)), store: newStore(t, 0), effects: make(map[int]int),
			lostAcks: rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "lost acknowledgements"),
		}
		defer func() { // also when rapid stops the test in the middle
			for _, a := range w.actors {
				a.kill()
			}
		}()
		w.run()

		last := w.store.last()
		require.Equal(t, event.Completed, last.Kind, w.store.names())
		require.Equal(t, 1, strings.Count(w.store.names(), "completed"), w.store.names())
		require.Positive(t, w.store.replies)
		ids := make(map[string]bool)
		for _, record := range w.store.records {
			require.False(t, ids[record.ID()], "two events with the id %s", record.ID())
			ids[record.ID()] = true
		}
		var response event.Response
		require.NoError(t, json.Unmarshal(last.Data, &response))
		status, credits := expected(plan)
		require.Equal(t, status, response.Status)
		require.EqualValues(t, credits*1_000_000, response.Metadata.CreditsConsumed)
		require.Equal(t, strconv.Itoa(credits*1_000_000), last.Header.Get(event.HeaderCredits))
		require.Equal(t, string(status), last.Header.Get(event.HeaderStatus))
		if status != event.StatusFailed {
			require.Len(t, response.Metadata.Steps, len(plan))
		}
		for index, count := range w.effects {
			require.LessOrEqual(t, count, 1+w.takeover, "step %d", index)
		}
		for i, p := range plan {
			if p.skipped {
				require.Zero(t, w.effects[i])
			}
		}
	})
}
