package auditnote_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/auditnote"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	execution = "019a9c3e-7122-7b13-9d66-1b2c3d4e5f60"
	trace     = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
)

func now() time.Time { return time.Date(2026, 1, 2, 4, 4, 5, 6000, time.FixedZone("", 3600)) }

type fixture struct {
	server *testkit.NATSServer
	bus    *bus.Bus
	*auditnote.Component
}

func setUp(t *testing.T) *fixture {
	t.Helper()
	server := testkit.NATS(t)
	messages, err := bus.New(server.Conn(t, nats.ReconnectBufSize(-1)), bus.Settings{Replicas: 1, JournalRetention: 72 * time.Hour}, zerolog.Nop())
	require.NoError(t, err)
	require.NoError(t, messages.Provision(t.Context()))
	return &fixture{server, messages, auditnote.New(messages, now)}
}

func call(t *testing.T, with string) *component.Call {
	t.Helper()
	made := &component.Call{
		Execution: subject.Execution{Customer: "alice", ID: execution}, Step: "tell", Kind: auditnote.Kind,
		Actor: event.Actor{Type: "api_key", ID: "key_1"}, TraceParent: trace,
	}
	require.NoError(t, json.Unmarshal([]byte(with), &made.With))
	return made
}

// stored are the messages of the stream of activities.
func (f *fixture) stored(t *testing.T) (found []*jetstream.RawStreamMsg) {
	t.Helper()
	stream, err := f.bus.JS.Stream(t.Context(), subject.StreamActivity)
	require.NoError(t, err)
	info, err := stream.Info(t.Context())
	require.NoError(t, err)
	for sequence := uint64(1); sequence <= info.State.LastSeq; sequence++ {
		message, err := stream.GetMsg(t.Context(), sequence)
		require.NoError(t, err)
		found = append(found, message)
	}
	return found
}

// schema compiles one of the schemas of the contract.
func schema(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	files, err := filepath.Glob("../../../../../schemas/json/*.schema.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		require.NoError(t, err)
		require.NoError(t, compiler.AddResource("https://galley.dev/schemas/"+filepath.Base(file), document))
	}
	compiled, err := compiler.Compile("https://galley.dev/schemas/" + name + ".schema.json")
	require.NoError(t, err)
	return compiled
}

func TestNote(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	data, headers := schema(t, "activity"), schema(t, "headers")
	item := 3
	tests := []struct {
		with, activity string
		item           *int
		id             string
	}{
		{
			`{"action": "lead_contacted", "message": "Mail <sent>", "resource_type": "lead", "resource_id": "l-1", "data": {"a": [1, "&"], "password": "x"}}`,
			`{"customer_id": "alice", "action_type": "note.lead_contacted", "resource_type": "lead", "resource_id": "l-1",
			  "actor": {"type": "execution", "id": "` + execution + `"}, "outcome": "success", "occurred_at": "2026-01-02T03:04:05.000006Z",
			  "changes": {"after": {"message": "Mail <sent>", "data": {"a": [1, "&"], "password": "[redacted]"}, "step": "tell",
			    "requested_by": {"type": "api_key", "id": "key_1"}}}}`,
			nil, execution + "/tell/note",
		},
		{
			`{"action": "done", "message": "ok"}`,
			`{"customer_id": "alice", "action_type": "note.done", "resource_type": "execution", "resource_id": "` + execution + `",
			  "actor": {"type": "execution", "id": "` + execution + `"}, "outcome": "success", "occurred_at": "2026-01-02T03:04:05.000006Z",
			  "changes": {"after": {"message": "ok", "step": "tell", "requested_by": {"type": "api_key", "id": "key_1"}}}}`,
			&item, execution + "/tell/3/note",
		},
	}
	for i, test := range tests {
		made := call(t, test.with)
		made.Item = test.item
		result, err := f.Execute(t.Context(), made)
		require.NoError(t, err)
		require.Equal(t, component.Result{Output: map[string]any{"event_id": test.id}}, result)

		message := f.stored(t)[i]
		var activity event.Activity
		require.NoError(t, json.Unmarshal(message.Data, &activity))
		assert.Equal(t, subject.Activity("alice", activity.ActionType), message.Subject)
		assert.JSONEq(t, test.activity, string(message.Data))
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(message.Data))
		require.NoError(t, err)
		require.NoError(t, data.Validate(instance))

		attributes := map[string]any{}
		for name := range message.Header {
			attributes[name] = message.Header.Get(name)
		}
		require.NoError(t, headers.Validate(attributes))
		assert.Equal(t, map[string]any{
			"ce-specversion": "1.0", "ce-id": test.id, "ce-type": event.TypeActivity, "ce-source": "/galley/executor",
			"ce-time": "2026-01-02T03:04:05.000006Z", "ce-actor": "execution:" + execution, "traceparent": trace, "Nats-Msg-Id": test.id,
		}, attributes)
	}
}

// A further attempt is the same event, so that the log has it once at any distance in time.
func TestAnotherAttempt(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	for range 3 {
		_, err := f.Execute(t.Context(), call(t, `{"action": "a", "message": "m"}`))
		require.NoError(t, err)
	}
	require.Len(t, f.stored(t), 1)
}

func TestWhatCannotBeNoted(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	for with, want := range map[string]problem.Error{
		`{"action": "a", "message": "m", "data": {"x": "` + strings.Repeat("x", 8<<10) + `"}}`: {
			Code: problem.StateTooLarge, Message: "data is 8200 bytes as JSON, more than the 8192 that a note can hold",
		},
		`{"action": "a.b", "message": "m"}`: {Code: problem.ComponentError, Message: "action must be a word of small letters and _"},
		`{"action": "", "message": "m"}`:    {Code: problem.ComponentError, Message: "action must be a word of small letters and _"},
		`{"action": ">", "message": "m"}`:   {Code: problem.ComponentError, Message: "action must be a word of small letters and _"},
	} {
		_, err := f.Execute(t.Context(), call(t, with))
		var failed *problem.Error
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, want, *failed)
	}
	for _, with := range []string{`1`, `[]`, `{"action": 1}`, `{"action": "a", "data": []}`} {
		_, err := f.Execute(t.Context(), call(t, with))
		require.Error(t, err)
	}
	assert.Empty(t, f.stored(t))
}

func TestServerIsAway(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.server.Shutdown()
	_, err := f.Execute(t.Context(), call(t, `{"action": "a", "message": "m"}`))
	var failed *problem.Error
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, problem.Error{Code: problem.Unavailable, Message: "the entry cannot be stored at the moment", Retryable: true}, *failed)
}
