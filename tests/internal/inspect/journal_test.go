package inspect_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/tests/internal/contract"
	"github.com/galley-engine/galley/tests/internal/inspect"
	"github.com/galley-engine/galley/tests/internal/repository"
)

// goldenEvent reads an event of the journal in schemas/golden.
func goldenEvent(t *testing.T, kind event.Kind, sequence uint64) inspect.Event {
	t.Helper()
	root, err := repository.Root()
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(root, "schemas", "golden", string(kind)+".json"))
	require.NoError(t, err)
	var message struct {
		Headers map[string]string `json:"headers"`
		Data    json.RawMessage   `json:"data"`
	}
	require.NoError(t, json.Unmarshal(text, &message))
	header := nats.Header{}
	for name, value := range message.Headers {
		header[name] = []string{value}
	}
	return inspect.Event{Sequence: sequence, Kind: kind, Header: header, Data: message.Data}
}

// execution is a sound journal that has been taken over.
func execution(t *testing.T) *inspect.Execution {
	t.Helper()
	e := &inspect.Execution{Execution: subject.Execution{Customer: "cust_001", ID: "019a9c3e-5d30-7c41-9d0a-3f2b1c4d5e6f"}}
	for n, kind := range []event.Kind{event.Accepted, event.Funded, event.Step, event.Started, event.Completed} {
		e.Events = append(e.Events, goldenEvent(t, kind, uint64(n+1)))
	}
	return e
}

func TestCheck(t *testing.T) {
	t.Parallel()
	rules, err := contract.Load()
	require.NoError(t, err)
	set := func(e *inspect.Execution, n int, name, value string) { e.Events[n].Header[name] = []string{value} }
	tests := map[string]struct {
		damage func(e *inspect.Execution)
		said   string
	}{
		"sound":              {func(*inspect.Execution) {}, ""},
		"not completed":      {func(e *inspect.Execution) { e.Events = e.Events[:4] }, "0 completed events"},
		"completed twice":    {func(e *inspect.Execution) { e.Events = append(e.Events, e.Events[4]) }, "2 completed events"},
		"accepted twice":     {func(e *inspect.Execution) { e.Events = append(e.Events[:1:1], e.Events...) }, "2 accepted events"},
		"funded twice":       {func(e *inspect.Execution) { e.Events = append(e.Events[:2:2], e.Events[1:]...) }, "funded 2 times"},
		"not funded":         {func(e *inspect.Execution) { e.Events = append(e.Events[:1:1], e.Events[2:]...) }, "steps without a debit"},
		"charged too much":   {func(e *inspect.Execution) { set(e, 4, event.HeaderCredits, "50001") }, "charged 50001 of 50000"},
		"headers and body":   {func(e *inspect.Execution) { set(e, 4, event.HeaderCredits, "1") }, "the response says"},
		"header missing":     {func(e *inspect.Execution) { delete(e.Events[4].Header, event.HeaderStatus) }, "breaks the contract"},
		"data not as agreed": {func(e *inspect.Execution) { e.Events[2].Data = []byte(`{}`) }, "breaks the contract"},
		"step goes back": {func(e *inspect.Execution) {
			e.Events[3].Data = []byte(strings.Replace(string(e.Events[3].Data), `"checkpoints": 1`, `"checkpoints": 0`, 1))
		}, "goes back"},
		"outcome is gone": {func(e *inspect.Execution) {
			e.Events[3].Data = []byte(strings.Replace(string(e.Events[3].Data), `"id": "find"`, `"id": "other"`, 1))
		}, "find was done before"},
		"waits for nothing": {func(e *inspect.Execution) { e.Events[3].Kind = event.Waiting }, "waits for nothing"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := execution(t)
			test.damage(e)
			problems := e.Check(rules)
			if test.said == "" {
				require.Empty(t, problems)
				return
			}
			var texts []string
			for n, problem := range problems {
				texts = append(texts, strconv.Itoa(n)+": "+problem.Error())
			}
			require.Contains(t, strings.Join(texts, "\n"), test.said)
		})
	}
}
