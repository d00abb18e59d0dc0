package crash

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/tests/internal/inspect"
)

// begin is when the first event of every journal here was stored; the others follow one second apart.
var begin = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant in all but name

// journalOf is the journal of one execution e of the order m, with these events after accepted.
func journalOf(t *testing.T, events ...any) inspect.Journal {
	t.Helper()
	execution := &inspect.Execution{Execution: subject.Execution{Customer: "c", ID: "e"}}
	add := func(kind event.Kind, data any) {
		text, err := json.Marshal(data)
		require.NoError(t, err)
		n := len(execution.Events)
		execution.Events = append(execution.Events, inspect.Event{
			Sequence: uint64(n + 1), Kind: kind, Stored: begin.Add(time.Duration(n) * time.Second), Data: text,
		})
	}
	add(event.Accepted, event.Request{ExecutionID: "e", Input: json.RawMessage(`{"marker":"m"}`)})
	for _, data := range events {
		switch data := data.(type) {
		case event.Response:
			add(event.Completed, data)
		case event.Checkpoint:
			kind := event.Step
			if data.Delivery > 1 {
				kind = event.Started
			}
			add(kind, data)
		}
	}
	return inspect.Journal{"e": execution}
}

func checkpoint(delivery int, done ...string) event.Checkpoint {
	c := event.Checkpoint{ExecutionID: "e", Delivery: delivery, Checkpoints: len(done)}
	for _, id := range done {
		c.Steps = append(c.Steps, event.StepOutcome{StepSummary: event.StepSummary{ID: id, Status: event.StepSuccess, Attempts: 1}})
	}
	return c
}

func response(done ...string) event.Response {
	var r event.Response
	for _, id := range done {
		r.Metadata.Steps = append(r.Metadata.Steps, event.StepSummary{ID: id, Status: event.StepSuccess, Attempts: 1})
	}
	return r
}

func at(seconds ...float64) []time.Time {
	var times []time.Time
	for _, each := range seconds {
		times = append(times, begin.Add(time.Duration(each*float64(time.Second))))
	}
	return times
}

func TestCompareCalls(t *testing.T) {
	t.Parallel()
	plain := journalOf(t, checkpoint(1, "a"), response("a", "b"))        // a durable at 1 s, b at 2 s
	taken := journalOf(t, checkpoint(2), checkpoint(1, "a"), response()) // taken over at 1 s, a durable at 2 s
	tests := map[string]struct {
		journal inspect.Journal
		calls   map[string][]time.Time
		wrong   int
	}{
		"once each":                          {plain, map[string][]time.Time{"e/a": at(0.5), "e/b": at(1.5)}, 0},
		"unknown execution":                  {plain, map[string][]time.Time{"x/a": at(0.5)}, 1},
		"no key":                             {plain, map[string][]time.Time{"": at(0.5)}, 1},
		"twice in one attempt":               {plain, map[string][]time.Time{"e/a": at(0.5, 0.6)}, 1},
		"again after the checkpoint":         {plain, map[string][]time.Time{"e/a": at(0.5, 1.1)}, 2},
		"again after completed":              {plain, map[string][]time.Time{"e/b": at(1.5, 2.1)}, 2},
		"twice because it was taken over":    {taken, map[string][]time.Time{"e/a": at(0.5, 1.5)}, 0},
		"taken over, after the checkpoint":   {taken, map[string][]time.Time{"e/a": at(0.5, 2.5)}, 1},
		"taken over, twice after checkpoint": {taken, map[string][]time.Time{"e/a": at(0.5, 2.5, 2.6)}, 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Len(t, compareCalls(test.calls, test.journal), test.wrong)
		})
	}
}

func TestCompareOrders(t *testing.T) {
	t.Parallel()
	journal := journalOf(t, response())
	completed := journal["e"].Last(event.Completed).Data
	tests := map[string]struct {
		orders []order
		wrong  int
	}{
		"as told":          {[]order{{Marker: "m", Customer: "c", Execution: "e", Response: completed}}, 0},
		"not told":         {[]order{{Marker: "m", Customer: "c"}}, 0},
		"lost":             {[]order{{Marker: "other", Customer: "c"}}, 1},
		"of another":       {[]order{{Marker: "m", Customer: "d"}}, 1},
		"another id":       {[]order{{Marker: "m", Customer: "c", Execution: "f"}}, 1},
		"another response": {[]order{{Marker: "m", Customer: "c", Execution: "e", Response: []byte(`{}`)}}, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Len(t, compareOrders(test.orders, journal), test.wrong)
		})
	}
	twice := journalOf(t, response())
	other := *twice["e"]
	other.ID = "f"
	twice["f"] = &other
	require.Len(t, compareOrders([]order{{Marker: "m", Customer: "c"}}, twice), 1, "an order that became two executions")
}
