package workercall_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/call"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component/workercall"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	nats16 := testkit.NATS(t, func(o *server.Options) { o.MaxPayload = 16 << 20 })
	long := strings.Repeat("x", 2000)
	tests := map[string]struct {
		reply string
		want  any
		usage *event.Usage
		code  problem.Code
		again bool
		says  string
	}{
		"an object":               {reply: `{"output": {"a": [1, null]}}`, want: map[string]any{"a": []any{1.0, nil}}},
		"null":                    {reply: `{"output": null}`},
		"false":                   {reply: `{"output": false}`, want: false},
		"with more fields":        {reply: ` {"output": "x", "took": 5, "heartbeat": true}`, want: "x"},
		"usage":                   {reply: `{"output": 1, "usage": {"units": 3, "pages": 9}}`, want: 1.0, usage: &event.Usage{Units: 3}},
		"no error":                {reply: `{"output": 1, "error": null}`, want: 1.0},
		"as large as allowed":     {reply: `{"output":"` + strings.Repeat("x", call.MaxReply-13) + `"}`, want: strings.Repeat("x", call.MaxReply-13)},
		"one byte more":           {reply: `{"output":"` + strings.Repeat("x", call.MaxReply-12) + `"}`, code: problem.StateTooLarge, says: "512 KiB"},
		"10 MB":                   {reply: `{"output":"` + strings.Repeat("x", 10<<20) + `"}`, code: problem.StateTooLarge},
		"failed":                  {reply: `{"error": {"message": "no such page"}}`, code: problem.ComponentError, says: "no such page"},
		"failed for now":          {reply: `{"error": {"message": "m", "retryable": true}}`, code: problem.ComponentError, again: true},
		"failed with a code":      {reply: `{"error": {"code": "RATE_LIMITED", "message": "m", "retryable": true}}`, code: problem.RateLimited, again: true, says: "m"},
		"failed with its code":    {reply: `{"error": {"code": "NO_PAPER", "message": "m"}}`, code: problem.ComponentError, says: "NO_PAPER: m"},
		"not a code for workers":  {reply: `{"error": {"code": "INSUFFICIENT_CREDITS", "message": "m"}}`, code: problem.ComponentError, says: "INSUFFICIENT_CREDITS: m"},
		"failed, usage counts":    {reply: `{"error": {"message": "m"}, "usage": {"units": 2}}`, code: problem.ComponentError, usage: &event.Usage{Units: 2}},
		"failed and not":          {reply: `{"error": {"message": "m"}, "output": 1}`, code: problem.ComponentError, says: "m"},
		"failed without a word":   {reply: `{"error": {}}`, code: problem.ComponentError, says: "does not say why"},
		"a long message":          {reply: `{"error": {"code": "` + long + `", "message": "` + long + `"}}`, code: problem.ComponentError},
		"control characters":      {reply: `{"error": {"code": "A\u0000", "message": "a\u001b[31m\nb\u0085\u007f"}}`, code: problem.ComponentError, says: "A: a[31m b"},
		"not UTF-8":               {reply: "{\"error\": {\"message\": \"a\xffb\"}}", code: problem.ComponentError, says: "a\uFFFDb"},
		"text":                    {reply: `HELLO`, code: problem.ComponentError, says: "not JSON"},
		"cut off":                 {reply: `{"output": {"a": `, code: problem.ComponentError, says: "not JSON"},
		"a JSON text":             {reply: `"HELLO"`, code: problem.ComponentError, says: `{"output": …}`},
		"a list":                  {reply: `[{"output": 1}]`, code: problem.ComponentError, says: `{"output": …}`},
		"neither":                 {reply: `{"text": "HELLO"}`, code: problem.ComponentError, says: `{"output": …}`},
		"an error that is a text": {reply: `{"error": "no"}`, code: problem.ComponentError, says: `{"output": …}`},
		"heartbeat of a text":     {reply: `{"heartbeat": "yes"}`, code: problem.ComponentError, says: `{"output": …}`},
		"usage below nothing":     {reply: `{"output": 1, "usage": {"units": -1}}`, code: problem.ComponentError, says: "usage"},
		"usage beyond all":        {reply: `{"output": 1, "usage": {"input_tokens": 9223372036854775807}}`, code: problem.ComponentError, says: "usage"},
		"usage in parts":          {reply: `{"output": 1, "usage": {"units": 0.5}}`, code: problem.ComponentError, says: "whole numbers"},
		"a number too large":      {reply: `{"output": 1e999}`, code: problem.ComponentError, says: "number"},
		"as deep as a well":       {reply: `{"output": ` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, code: problem.ComponentError},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			made := asked(nil)
			made.Execution.Customer = strings.NewReplacer(" ", "-", ",", "").Replace(title)
			raw(t, nats16.Conn(t), "galley.worker."+made.Execution.Customer+"."+name, func(message *nats.Msg) {
				assert.NoError(t, message.Respond([]byte(test.reply)))
				assert.NoError(t, message.Respond([]byte(`{"output": "second"}`)))
			})
			result, err := execute(t, newComponent(t, nats16, workercall.DefaultPatience()), made)
			assert.Equal(t, test.usage, result.Usage)
			if test.code == "" {
				require.NoError(t, err)
				assert.Equal(t, test.want, result.Output)
				return
			}
			requireProblem(t, err, test.code, test.again)
			assert.Nil(t, result.Output)
			assert.Contains(t, err.Error(), test.says)
			assert.LessOrEqual(t, len(err.Error()), 1000+len("COMPONENT_ERROR: "))
		})
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	conn := s.Conn(t)
	seen := make(chan *nats.Msg, 2)
	raw(t, conn, serves, func(message *nats.Msg) {
		seen <- message
		assert.NoError(t, message.Respond([]byte(`{"output": 1}`)))
	})
	c := newComponent(t, s, workercall.DefaultPatience())
	item, made := 7, asked(map[string]any{"text": "hello & <good> bye"})
	made.Item, made.Attempt = &item, 2
	_, err := execute(t, c, made)
	require.NoError(t, err)
	message := receive(t, seen, "the call")
	assert.Equal(t, "galley.worker.cust_001.shout", message.Subject)
	assert.Regexp(t, `^galley\.reply\.cust_001\.[A-Z2-7]{26}\.[A-Z2-7]{26}$`, message.Reply)
	assert.Equal(t, "e1/loud/7", message.Header.Get(call.HeaderKey))
	assert.Equal(t, control+".7", message.Header.Get(call.HeaderControl))
	assert.Equal(t, "00-trace", message.Header.Get("traceparent"))
	assert.Regexp(t, `^\{"execution_id":"e1","customer_id":"cust_001","step":"loud","item":7,"attempt":2,"deadline":"20[^"]+Z","timeout_ms":[23]\d{4},`+
		`"input":\{"text":".+"\}\}$`, string(message.Data))

	made = asked(nil)
	made.TraceParent = ""
	_, err = c.Execute(t.Context(), made)
	require.NoError(t, err)
	message = receive(t, seen, "the call")
	assert.NotContains(t, message.Header, "traceparent")
	assert.Contains(t, string(message.Data), `"timeout_ms":0,"input":null}`)
	assert.NotContains(t, string(message.Data), "item")
}

func TestInputThatCannotBeSent(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	raw(t, s.Conn(t), serves, func(*nats.Msg) {})
	c := newComponent(t, s, workercall.DefaultPatience())
	_, err := execute(t, c, asked(strings.Repeat("x", 1<<20)))
	requireProblem(t, err, problem.StateTooLarge, false)
	_, err = execute(t, c, asked(func() {}))
	requireProblem(t, err, problem.ComponentError, false)
}

func TestNobody(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	c := newComponent(t, s, impatient())
	raw(t, s.Conn(t), "galley.worker.another."+name, func(*nats.Msg) {})
	_, err := execute(t, c, asked(nil))
	requireProblem(t, err, problem.WorkerUnavailable, true)
	assert.Contains(t, err.Error(), "galley.worker.cust_001.shout")
}

// TestWorkerThatComesBack within the patience for one that is not there.
func TestWorkerThatComesBack(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	waits := workercall.DefaultPatience()
	waits.Absent = patience
	conn := s.Conn(t)
	tried := listen(t, conn, control)
	ended := start(t.Context(), newComponent(t, s, waits), asked(nil))
	receive(t, tried, "the question")
	raw(t, conn, serves, func(message *nats.Msg) { assert.NoError(t, message.Respond([]byte(`{"output": "back"}`))) })
	made := receive(t, ended, "the answer")
	require.NoError(t, made.err)
	assert.Equal(t, "back", made.result.Output)
}

func TestNoConnection(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	conn := s.Conn(t, nats.ReconnectBufSize(-1)) // as bus.Connect has it
	c := workercall.New(conn, impatient(), clock.System)
	s.Shutdown()
	require.Eventually(t, func() bool { return !conn.IsConnected() }, patience, time.Millisecond)
	_, err := execute(t, c, asked(nil))
	requireProblem(t, err, problem.Unavailable, true)
	conn.Close()
	require.NoError(t, c.Close())
	_, err = execute(t, workercall.New(conn, impatient(), clock.System), asked(nil))
	requireProblem(t, err, problem.Unavailable, true)
}

func TestBusy(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	var calls atomic.Int64
	raw(t, s.Conn(t), serves, func(message *nats.Msg) {
		if calls.Add(1) < 5 {
			assert.NoError(t, message.Respond([]byte(`{"busy": true}`)))
			return
		}
		assert.NoError(t, message.Respond([]byte(`{"output": "at last"}`)))
	})
	result, err := execute(t, newComponent(t, s, workercall.DefaultPatience()), asked(nil))
	require.NoError(t, err)
	assert.Equal(t, "at last", result.Output)
	assert.EqualValues(t, 5, calls.Load())
}
