package accept_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
	"github.com/galley-engine/galley/services/ingest/internal/reply"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const document = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: cook, id: soup}
spec:
  on_insufficient_credits: wait
  credit_wait: 1h
  input: {type: object, required: [litres], properties: {litres: {type: integer, minimum: 1}, salt: {type: boolean}}, additionalProperties: false}
  steps:
    - {id: boil, uses: state.set, with: {pot: "${input.litres}"}, price: "0.25"}
`

// shelf is a catalogue of one recipe.
type shelf struct{ pinned *catalogue.Pinned }

func (s shelf) Resolve(_ context.Context, _, agent, id string, _ int) (*catalogue.Pinned, error) {
	if agent != "cook" || id != "soup" {
		return nil, &problem.Error{Code: problem.NotFound, Message: "no such recipe"}
	}
	return s.pinned, nil
}

// past is what the projection knows.
type past map[string]accept.Outcome

func (p past) Completed(_ context.Context, executions []subject.Execution) (map[string]accept.Outcome, error) {
	found := map[string]accept.Outcome{}
	for _, execution := range executions {
		if outcome, known := p[execution.ID]; known {
			found[execution.ID] = outcome
		}
	}
	return found, nil
}

type fixture struct {
	*accept.Acceptor
	bus     *bus.Bus
	journal *journal.Journal
	clock   *testkit.Clock
	past    past
}

func setUp(t *testing.T) *fixture {
	t.Helper()
	conn := testkit.NATS(t).Conn(t)
	messages, err := bus.New(conn, bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	require.NoError(t, messages.Provision(t.Context()))
	compiler, err := recipe.NewCompiler()
	require.NoError(t, err)
	compiled, err := compiler.Load([]byte(document))
	require.NoError(t, err)
	f := &fixture{bus: messages, journal: journal.New(conn, messages.JS), clock: testkit.NewClock(time.Now()), past: past{}}
	inbox := reply.New(conn, f.journal)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- inbox.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-ended) })
	f.Acceptor = accept.New(shelf{&catalogue.Pinned{Recipe: compiled, Version: 3, MaxConcurrency: 7}}, f.past, messages, f.journal, inbox, f.clock.Now)
	return f
}

func command() accept.Command {
	return accept.Command{
		Customer: "cust_001", Agent: "cook", Recipe: "soup", Input: json.RawMessage(`{"litres": 2}`), Actor: event.Actor{Type: "api_key", ID: "k1"},
	}
}

// finish ends every execution as soon as it is accepted, as the executor would; silently when it does not reply.
func (f *fixture) finish(t *testing.T, answer bool) {
	t.Helper()
	subscription, err := f.bus.Conn.Subscribe(subject.ExecutionMilestone(string(event.Accepted)), func(message *nats.Msg) {
		execution, _, _, err := subject.ParseExecution(message.Subject)
		if err != nil {
			return
		}
		header := nats.Header{event.HeaderStatus: {"success"}}
		for _, name := range []string{event.HeaderReply, event.HeaderSubject} {
			header[name] = message.Header[name]
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		last, err := f.journal.Last(ctx, execution)
		for err != nil && ctx.Err() == nil {
			last, err = f.journal.Last(ctx, execution)
		}
		f.journal.Append(ctx, journal.Entry{
			Execution: execution, Kind: event.Completed, Expect: last.Sequence, Source: "test", Header: header, Data: []byte(`{"data":1}`),
		})
		if answer {
			_ = f.journal.Reply(ctx, message.Header, header, []byte(`{"data":1}`))
		}
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = subscription.Unsubscribe() })
}

func TestExecutePinsWhatCouldChange(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	outcome, err := f.Execute(t.Context(), command())
	require.NoError(t, err)
	require.False(t, outcome.Done)
	record, err := f.journal.Last(t.Context(), subject.Execution{Customer: "cust_001", ID: outcome.ExecutionID})
	require.NoError(t, err)
	var request event.Request
	require.NoError(t, json.Unmarshal(record.Data, &request))
	require.Equal(t, 3, request.RecipeVersion)
	require.Equal(t, "0.25", request.Quoted.String())
	require.Equal(t, 7, request.MaxConcurrency)
	require.JSONEq(t, `{"litres": 2}`, string(request.Input))
	require.Equal(t, request.AcceptedAt.Add(bus.MaxExecution), request.Deadline)
	require.Equal(t, "250000", record.Header.Get(event.HeaderCredits))
	require.Equal(t, "api_key:k1", record.Header.Get(event.HeaderActor))
	require.Equal(t, request.AcceptedAt.Add(time.Hour).Format(time.RFC3339Nano), record.Header.Get(event.HeaderCreditsUntil))
	require.Regexp(t, `^00-[0-9a-f]{32}-[0-9a-f]{16}-00$`, record.Header.Get(event.HeaderTraceParent))
}

func TestExecuteWaitsForTheEnd(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]bool{"answered": true, "the reply is lost": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			f.finish(t, answer)
			asked := command()
			asked.Wait = 20 * time.Second
			outcome, err := f.Execute(t.Context(), asked)
			require.NoError(t, err)
			require.True(t, outcome.Done)
			require.Equal(t, event.StatusSuccess, outcome.Status)
			require.JSONEq(t, `{"data":1}`, string(outcome.Response))
		})
	}
}

func TestExecuteGivesUpWaitingWithoutLosingTheExecution(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	asked := command()
	asked.Wait = time.Millisecond
	outcome, err := f.Execute(t.Context(), asked)
	require.NoError(t, err)
	require.False(t, outcome.Done)
	require.Equal(t, event.StatusAccepted, outcome.Status)
	require.NotEmpty(t, outcome.ExecutionID)
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.finish(t, true)
	asked := command()
	asked.IdempotencyKey, asked.Wait = "order-7", 20*time.Second
	first, err := f.Execute(t.Context(), asked)
	require.NoError(t, err)
	again, err := f.Execute(t.Context(), asked)
	require.NoError(t, err)
	require.Equal(t, first, again)

	other := asked
	other.Input = json.RawMessage(`{"litres": 3}`)
	_, err = f.Execute(t.Context(), other)
	var refused *problem.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, problem.Conflict, refused.Code)

	neighbour := asked
	neighbour.Customer = "cust_002"
	elsewhere, err := f.Execute(t.Context(), neighbour)
	require.NoError(t, err)
	require.NotEqual(t, first.ExecutionID, elsewhere.ExecutionID)
}

// A keyed request is the same execution also when its journal has expired: then the projection knows it.
func TestIdempotencyKeyOutlivesTheJournal(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	asked := command()
	asked.IdempotencyKey = "order-7"
	id, err := accept.ExecutionID("cust_001", "order-7")
	require.NoError(t, err)
	f.past[id] = accept.Outcome{ExecutionID: id, Done: true, Response: []byte(`{}`), Status: event.StatusPartial}

	_, err = f.Execute(t.Context(), command())
	require.NoError(t, err)
	f.clock.Advance(bus.DefaultJournalRetention)
	outcome, err := f.Execute(t.Context(), asked)
	require.NoError(t, err)
	require.Equal(t, f.past[id], outcome)
	_, err = f.journal.Last(t.Context(), subject.Execution{Customer: "cust_001", ID: id})
	require.ErrorIs(t, err, journal.ErrNotFound)
}

func TestOriginAndParentAreAccepted(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	asked := command()
	asked.IdempotencyKey = "again"
	asked.Origin = &event.Origin{ExecutionID: "old", Verb: event.VerbResume, Step: "boil", State: map[string]any{"a": "b"}}
	asked.Parent = &event.Parent{ExecutionID: "parent", Step: "cook", Depth: 2}
	outcome, err := f.Execute(t.Context(), asked)
	require.NoError(t, err)
	record, err := f.journal.Last(t.Context(), subject.Execution{Customer: "cust_001", ID: outcome.ExecutionID})
	require.NoError(t, err)
	var request event.Request
	require.NoError(t, json.Unmarshal(record.Data, &request))
	require.Equal(t, asked.Origin, request.Origin)
	require.Equal(t, asked.Parent, request.Parent)
	require.Equal(t, "galley.due.execution.cust_001.parent", record.Header.Get(event.HeaderParent))

	_, err = f.Execute(t.Context(), asked)
	require.NoError(t, err)
	for _, origin := range []*event.Origin{nil, {ExecutionID: "other", Verb: event.VerbResume, Step: "boil"}, {ExecutionID: "old", Verb: event.VerbRerun}} {
		other := asked
		other.Origin = origin
		_, err = f.Execute(t.Context(), other)
		var refused *problem.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, problem.Conflict, refused.Code)
	}
}

func TestExecuteRefuses(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	for name, test := range map[string]struct {
		change func(*accept.Command)
		code   problem.Code
		paths  []string
	}{
		"ids that are no subject tokens": {
			func(c *accept.Command) { c.Agent, c.Recipe, c.Customer = "a.b", "*", "é" },
			problem.InvalidRequest,
			[]string{"/agent_id", "/customer_id", "/recipe_id"},
		},
		"unknown recipe": {func(c *accept.Command) { c.Recipe = "stew" }, problem.NotFound, nil},
		"every violation": {
			func(c *accept.Command) { c.Input = json.RawMessage(`{"litres": 0, "salt": 1, "x": 1}`) },
			problem.InputInvalid,
			[]string{"/input_data/litres", "/input_data/salt", "/input_data/x"},
		},
		"no input":  {func(c *accept.Command) { c.Input = nil }, problem.InputInvalid, []string{"/input_data/litres"}},
		"not JSON":  {func(c *accept.Command) { c.Input = json.RawMessage(`{`) }, problem.InvalidRequest, []string{"/input_data"}},
		"too large": {func(c *accept.Command) { c.Input = json.RawMessage(`"` + strings.Repeat("x", accept.MaxInput) + `"`) }, problem.PayloadTooLarge, nil},
		"too much kept": {
			func(c *accept.Command) {
				c.Origin = &event.Origin{State: map[string]any{"a": strings.Repeat("x", 1000<<10)}}
			},
			problem.PayloadTooLarge,
			nil,
		},
		"no version": {func(c *accept.Command) { c.Version = -1 }, problem.InvalidRequest, []string{"/version"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := command()
			test.change(&asked)
			_, err := f.Execute(t.Context(), asked)
			var refused *problem.Error
			require.ErrorAs(t, err, &refused)
			require.Equal(t, test.code, refused.Code)
			var invalid *accept.InvalidInput
			var paths []string
			if test.paths != nil {
				require.ErrorAs(t, err, &invalid)
				for _, violation := range invalid.Violations {
					paths = append(paths, violation.Path)
				}
			}
			require.ElementsMatch(t, test.paths, paths)
		})
	}
}
