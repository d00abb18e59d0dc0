package crash

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
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
			switch {
			case len(data.Waits) > 0:
				kind = event.Waiting
			case data.Delivery > 1:
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

// ended is the end of the execution by a code; "" for a success.
func (r recorded) ended(code problem.Code) recorded {
	completed := r.Journal["e"].Last(event.Completed)
	completed.Header = nats.Header{event.HeaderCode: {string(code)}, event.HeaderStatus: {string(event.StatusFailed)}}
	if code == "" {
		completed.Header = nats.Header{event.HeaderStatus: {string(event.StatusSuccess)}}
	}
	return r
}

// recorded is a journal whose last event can be given headers.
type recorded struct{ inspect.Journal }

func at(seconds ...float64) []time.Time {
	var times []time.Time
	for _, each := range seconds {
		times = append(times, begin.Add(time.Duration(each*float64(time.Second))))
	}
	return times
}

func TestCompareCalls(t *testing.T) {
	t.Parallel()
	items := checkpoint(1)
	items.Steps = []event.StepOutcome{{
		StepSummary: event.StepSummary{ID: "l", Status: event.StepRunning}, Items: []event.ItemOutcome{{Index: 1, Attempts: 2}},
	}}
	parked, woken := checkpoint(1, "a"), checkpoint(2, "a")
	parked.Waits = []event.Wait{{Step: "b"}}
	list := journalOf(t, items, response("l")) // item 1 durable at 1 s, after two attempts, all others at 2 s
	waited := journalOf(t, parked, woken, response("a", "b"))
	cancelled := recorded{journalOf(t, items, response("l", "a"))}.ended(problem.Cancelled).Journal
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
		"items":                              {list, map[string][]time.Time{"e/l/0": at(0.5), "e/l/1": at(0.5, 0.6)}, 0},
		"item in more calls than attempts":   {list, map[string][]time.Time{"e/l/1": at(0.5, 0.6, 0.7)}, 1},
		"item again after the checkpoint":    {list, map[string][]time.Time{"e/l/1": at(0.5, 1.1)}, 1},
		"twice, and nobody took it over":     {waited, map[string][]time.Time{"e/b": at(0.5, 0.6)}, 1},
		"cut short by a cancellation":        {cancelled, map[string][]time.Time{"e/l/0": at(0.5, 0.6), "e/b": at(1.5, 2.1)}, 0},
		"cancelled, after the checkpoint":    {cancelled, map[string][]time.Time{"e/l/1": at(0.5, 1.1)}, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Len(t, compareCalls(test.calls, test.journal), test.wrong)
		})
	}
}

func TestCompareCancels(t *testing.T) {
	t.Parallel()
	lost := recorded{journalOf(t, response())}.ended(problem.Cancelled).Journal
	kept := recorded{journalOf(t, response())}.ended("").Journal
	body := lost["e"].Last(event.Completed).Data
	tests := map[string]struct {
		journal inspect.Journal
		heard   *cancelled
		wrong   int
	}{
		"cancelled and told so":          {lost, &cancelled{Response: body}, 0},
		"cancelled, the answer was lost": {lost, &cancelled{Unsure: true}, 0},
		"cancelled and told otherwise":   {lost, &cancelled{}, 1},
		"cancelled, told something else": {lost, &cancelled{Response: []byte(`{}`)}, 1},
		"cancelled by nobody":            {lost, nil, 1},
		"both won":                       {kept, &cancelled{Response: body}, 1},
		"too late":                       {kept, &cancelled{}, 0},
		"too late, an answer was lost":   {kept, &cancelled{Unsure: true}, 0},
		"left alone":                     {kept, nil, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Len(t, compareCancels([]order{{Execution: "e", Cancel: test.heard}}, test.journal), test.wrong)
		})
	}
}

func TestCompareChildren(t *testing.T) {
	t.Parallel()
	child := func(id, parent string) *inspect.Execution {
		return &inspect.Execution{Execution: subject.Execution{Customer: "c", ID: id}, Events: []inspect.Event{
			{Kind: event.Accepted, Data: []byte(`{"parent":{"execution_id":"` + parent + `","step":"run","depth":1}}`)},
		}}
	}
	journal := journalOf(t, response())
	journal["f"] = child("f", "e")
	children, violations := compareChildren(journal)
	require.Equal(t, 1, children)
	require.Empty(t, violations)
	journal["g"] = child("g", "e")
	_, violations = compareChildren(journal)
	require.Len(t, violations, 1, "a second child of one step")
	journal["g"] = child("g", "x")
	_, violations = compareChildren(journal)
	require.Len(t, violations, 1, "a child of nobody")
}

func TestCompareCharges(t *testing.T) {
	t.Parallel()
	journal := recorded{journalOf(t, response())}.ended("").Journal
	accepted, completed := journal["e"].Last(event.Accepted), journal["e"].Last(event.Completed)
	accepted.Header = nats.Header{event.HeaderCredits: {"7"}}
	completed.Header.Set(event.HeaderCredits, "7")
	require.Empty(t, compareCharges(journal))
	completed.Header.Set(event.HeaderCredits, "6")
	require.Len(t, compareCharges(journal), 1)
}

func TestCompareLimits(t *testing.T) {
	t.Parallel()
	journal, calls := inspect.Journal{}, map[string][]time.Time{}
	begin := func(customer, id string, first, end float64) {
		calls[id+"/a"] = at(first)
		journal[id] = &inspect.Execution{Execution: subject.Execution{Customer: customer, ID: id}, Events: []inspect.Event{
			{Kind: event.Completed, Stored: at(end)[0], Header: nats.Header{event.HeaderSubject: {"a/r/1"}}},
		}}
	}
	begin("c", "1", 0, 3)
	begin("c", "2", 1, 2)
	begin("c", "3", 2.5, 4)
	begin("d", "4", 1, 4)
	require.Empty(t, compareLimits("a/r/1", 2, calls, journal))
	begin("c", "5", 2.7, 2.8)
	require.Len(t, compareLimits("a/r/1", 2, calls, journal), 1)
	require.Empty(t, compareLimits("a/r/1", 3, calls, journal))
	require.Empty(t, compareLimits("a/r/2", 2, calls, journal))
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
