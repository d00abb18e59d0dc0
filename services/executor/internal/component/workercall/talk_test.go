package workercall_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/call"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/workercall"
)

// outcome is that of a call made in the background.
type outcome struct {
	result component.Result
	err    error
}

func start(ctx context.Context, c *workercall.Component, made *component.Call) <-chan outcome {
	ended := make(chan outcome, 1)
	go func() {
		result, err := c.Execute(ctx, made)
		ended <- outcome{result, err}
	}()
	return ended
}

func TestWorkerThatIsNotHeardOf(t *testing.T) {
	t.Parallel()
	for title, signs := range map[string][]string{
		"never": nil, "after a heartbeat": {""}, "after two": {`{"heartbeat": true}`, " \n"}, "after progress": {`{"progress": "half"}`},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := testkit.NATS(t)
			raw(t, s.Conn(t), serves, func(message *nats.Msg) {
				for _, sign := range signs {
					assert.NoError(t, message.Respond([]byte(sign)))
				}
			})
			_, err := execute(t, newComponent(t, s, impatient()), asked(nil))
			requireProblem(t, err, problem.WorkerLost, true)
		})
	}
}

// TestWorkerThatDies: its connection is gone in the middle of the work, and with it whoever could be asked.
func TestWorkerThatDies(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	conn := s.Conn(t)
	raw(t, conn, serves, func(message *nats.Msg) {
		_, err := conn.SubscribeSync(message.Header.Get(call.HeaderControl))
		assert.NoError(t, err)
		assert.NoError(t, message.Respond(nil))
		assert.NoError(t, conn.Flush())
		go conn.Close()
	})
	_, err := execute(t, newComponent(t, s, impatient()), asked(nil))
	requireProblem(t, err, problem.WorkerLost, true)
}

// TestWorkerThatMissesHeartbeats is asked, says that it works, and is waited for.
func TestWorkerThatMissesHeartbeats(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	conn := s.Conn(t)
	raw(t, conn, serves, func(message *nats.Msg) {
		asks := 0
		_, err := conn.Subscribe(message.Header.Get(call.HeaderControl), func(ask *nats.Msg) {
			assert.JSONEq(t, `{"attach": true, "timeout_ms": 1}`, replaceNumbers(string(ask.Data)))
			if asks++; asks < 3 {
				assert.NoError(t, ask.Respond(nil))
				return
			}
			assert.NoError(t, ask.Respond([]byte(`{"output": "done"}`)))
		})
		assert.NoError(t, err)
	})
	result, err := execute(t, newComponent(t, s, impatient()), asked(nil))
	require.NoError(t, err)
	assert.Equal(t, "done", result.Output)
}

// replaceNumbers writes 1 for each number.
func replaceNumbers(text string) string {
	var out strings.Builder
	for _, c := range text {
		if c < '0' || c > '9' {
			out.WriteRune(c)
		} else if !strings.HasSuffix(out.String(), "1") {
			out.WriteByte('1')
		}
	}
	return out.String()
}

func TestCancel(t *testing.T) {
	t.Parallel()
	errEnded := errors.New("the execution was ended")
	tests := map[string]struct {
		end  func(ctx context.Context) (context.Context, func())
		want string // what the worker is told, "" for nothing
	}{
		"time-out": {func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithTimeoutCause(ctx, time.Second/2, errors.New("the attempt took too long"))
			context.AfterFunc(ctx, cancel)
			return ctx, func() {}
		}, `{"cancel":true,"reason":"timeout"}`},
		"execution ended": {func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(ctx)
			return ctx, func() { cancel(errEnded) }
		}, `{"cancel":true,"reason":"cancelled"}`},
		"process stops": {func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithCancel(ctx)
			return ctx, cancel
		}, ""},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := testkit.NATS(t)
			conn := s.Conn(t)
			calls, told := make(chan *nats.Msg, 1), listen(t, conn, control)
			raw(t, conn, serves, func(message *nats.Msg) { calls <- message })
			waits := workercall.DefaultPatience()
			waits.Attach = time.Millisecond // somebody listens to what the worker is told, who does not answer
			base, cancelBase := context.WithCancel(t.Context())
			defer cancelBase()
			ctx, end := test.end(base)
			mine := s.Conn(t)
			ended := start(ctx, workercall.New(mine, waits, clock.System), asked(nil))
			message := receive(t, calls, "the call")
			assert.Contains(t, string(receive(t, told, "the question").Data), "attach")
			end()
			made := receive(t, ended, "the end")
			requireProblem(t, made.err, problem.Timeout, true)
			require.NoError(t, mine.Publish(control, []byte("the end")))
			heard := string(receive(t, told, "what the worker is told").Data)
			if test.want != "" {
				assert.Equal(t, test.want, heard)
			} else {
				assert.Equal(t, "the end", heard)
			}
			// Whatever the worker says now is too late.
			require.NoError(t, message.Respond([]byte(`{"output": "late"}`)))
		})
	}
}

// TestFlood: a worker that sends without end fails, and does not keep others from being heard.
func TestFlood(t *testing.T) {
	t.Parallel()
	for title, sent := range map[string]string{
		"heartbeats": "", "large heartbeats": `{"heartbeat":true,"x":"` + strings.Repeat("x", 8000) + `"}`, "progress": `{"progress": "more"}`,
		"busy": `{"busy":true}`,
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := testkit.NATS(t)
			conn := s.Conn(t)
			told := make(chan string, 100)
			_, err := conn.Subscribe(control, func(message *nats.Msg) { told <- string(message.Data) })
			require.NoError(t, err)
			stop := make(chan struct{})
			defer close(stop)
			raw(t, conn, serves, func(message *nats.Msg) {
				for {
					select {
					case <-stop:
						return
					default:
						_ = message.Respond([]byte(sent))
					}
				}
			})
			raw(t, s.Conn(t), "galley.worker.*.quiet", func(message *nats.Msg) { assert.NoError(t, message.Respond([]byte(`{"output":1}`))) })
			waits := workercall.DefaultPatience()
			waits.Attach, waits.Again = 10*time.Millisecond, time.Hour
			c := newComponent(t, s, waits)
			_, err = execute(t, c, asked(nil))
			requireProblem(t, err, problem.ComponentError, false)
			assert.Contains(t, err.Error(), "messages")
			made := asked(nil)
			made.Kind, made.Step = "worker.quiet", "quiet"
			_, err = execute(t, c, made)
			require.NoError(t, err)
			for heard := ""; !strings.Contains(heard, "cancel"); {
				heard = receive(t, told, "the cancel")
			}
		})
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	conn := s.Conn(t)
	raw(t, conn, serves, func(message *nats.Msg) {
		for _, reply := range []string{
			`{"progress": "reads page 1"}`, `{"progress": "uses hush \n\u0000"}`, `{"output": 1}`, `{"progress": "too late"}`,
		} {
			assert.NoError(t, message.Respond([]byte(reply)))
		}
	})
	heard := listen(t, conn, "galley.progress.>")
	made, item := asked(nil), 3
	made.Item, made.Redact = &item, func(text string) string { return strings.ReplaceAll(text, "hush", "***") }
	_, err := execute(t, newComponent(t, s, workercall.DefaultPatience()), made)
	require.NoError(t, err)
	for _, want := range []string{
		`{"step":"loud","item":3,"attempt":1,"sequence":1,"text":"reads page 1"}`,
		`{"step":"loud","item":3,"attempt":1,"sequence":2,"text":"uses *** \n\u0000"}`,
	} {
		message := receive(t, heard, "progress")
		assert.Equal(t, "galley.progress.cust_001.e1.loud.3", message.Subject)
		assert.Equal(t, want, string(message.Data))
	}
	assert.Empty(t, heard)
}

// TestForgedAnswers: an answer counts only on the subject that the worker was given, and only a customer's own worker may use that.
func TestForgedAnswers(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	conn := s.Conn(t)
	raw(t, conn, serves, func(message *nats.Msg) {
		for _, forged := range []string{
			strings.Replace(message.Reply, "cust_001", "cust_002", 1), message.Reply + "x", message.Reply[:len(message.Reply)-1],
		} {
			assert.NoError(t, conn.Publish(forged, []byte(`{"output": "forged"}`)))
		}
		assert.NoError(t, message.Respond([]byte(`{"output": "real"}`)))
	})
	result, err := execute(t, newComponent(t, s, workercall.DefaultPatience()), asked(nil))
	require.NoError(t, err)
	assert.Equal(t, "real", result.Output)
}

func TestManyCalls(t *testing.T) {
	t.Parallel()
	const calls = 2000
	s := testkit.NATS(t)
	held := make(chan *nats.Msg, calls)
	raw(t, s.Conn(t), serves, func(message *nats.Msg) { held <- message })
	conn := s.Conn(t)
	c := newComponent(t, s, workercall.DefaultPatience())
	before := s.Server().NumSubscriptions()
	var ended atomic.Int64
	done := make(chan struct{})
	for i := range calls {
		go func() {
			made, item := asked(i), i
			made.Item = &item
			result, err := c.Execute(t.Context(), made)
			assert.NoError(t, err)
			assert.InDelta(t, i, result.Output, 0)
			if ended.Add(1) == calls {
				close(done)
			}
		}()
	}
	messages := make([]*nats.Msg, calls)
	for i := range messages { // all at the same time
		messages[i] = receive(t, held, "a call")
	}
	assert.LessOrEqual(t, s.Server().NumSubscriptions(), before+1, "calls share a subscription")
	for _, message := range messages {
		var request call.Request
		require.NoError(t, json.Unmarshal(message.Data, &request))
		require.NoError(t, conn.Publish(message.Reply, []byte(`{"output": `+string(request.Input)+`}`)))
	}
	receive(t, done, "the last answer")
}
