package workercall_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/pkg/worker"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component/workercall"
)

// These tests have a worker that uses the library.

func TestHandlers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		handler worker.Handler
		want    any
		usage   *event.Usage
		code    problem.Code
		again   bool
		says    string
	}{
		"output": {handler: func(_ context.Context, c *worker.Call) (any, error) {
			var input struct{ Text string }
			err := c.Decode(&input)
			return map[string]string{"text": strings.ToUpper(input.Text), "key": c.Key, "trace": c.TraceParent, "customer": c.CustomerID}, err
		}, want: map[string]any{"text": "HI", "key": "e1/loud", "trace": "00-trace", "customer": customer}},
		"nothing": {handler: func(context.Context, *worker.Call) (any, error) { return nil, nil }}, //nolint:nilnil // an output may be null
		"usage": {handler: func(context.Context, *worker.Call) (any, error) {
			return worker.Result{Output: 1, Usage: event.Usage{Units: 4}}, nil
		}, want: 1.0, usage: &event.Usage{Units: 4}},
		"usage of a failure": {handler: func(context.Context, *worker.Call) (any, error) {
			return worker.Result{Usage: event.Usage{Units: 4}}, errors.New("broken")
		}, usage: &event.Usage{Units: 4}, code: problem.ComponentError, again: true, says: "broken"},
		"input that does not fit": {handler: func(_ context.Context, c *worker.Call) (any, error) {
			var input []string
			return nil, c.Decode(&input)
		}, code: problem.ComponentError, says: "the input does not fit"},
		"any error": {handler: func(context.Context, *worker.Call) (any, error) { return 1, errors.New("try again") }, code: problem.ComponentError, again: true},
		"an error that is judged": {handler: func(context.Context, *worker.Call) (any, error) {
			return nil, &worker.Error{Code: problem.RateLimited, Message: "slow down", Retryable: true}
		}, code: problem.RateLimited, again: true, says: "slow down"},
		"panic":   {handler: func(context.Context, *worker.Call) (any, error) { panic("hush") }, code: problem.ComponentError, says: "a defect in the worker"},
		"Goexit":  {handler: func(context.Context, *worker.Call) (any, error) { runtime.Goexit(); return nil, nil }, code: problem.ComponentError, says: "a defect"},
		"no JSON": {handler: func(context.Context, *worker.Call) (any, error) { return func() {}, nil }, code: problem.ComponentError, says: "JSON"},
		"too large": {handler: func(context.Context, *worker.Call) (any, error) {
			return strings.Repeat("x", 600<<10), nil
		}, code: problem.StateTooLarge, says: "bytes"},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := testkit.NATS(t)
			serve(t, s.Conn(t), worker.Config{}, test.handler)
			result, err := execute(t, newComponent(t, s, workercall.DefaultPatience()), asked(map[string]any{"text": "hi"}))
			assert.Equal(t, test.usage, result.Usage)
			if test.code == "" {
				require.NoError(t, err)
				assert.Equal(t, test.want, result.Output)
				return
			}
			requireProblem(t, err, test.code, test.again)
			assert.Contains(t, err.Error(), test.says)
			assert.NotContains(t, err.Error(), "hush")
		})
	}
}

// TestTakenOver: the process that made the call stops; the next one finds the worker at work, and gets what it does.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	began, finish := make(chan struct{}, 10), make(chan struct{})
	serve(t, s.Conn(t), worker.Config{}, func(ctx context.Context, _ *worker.Call) (any, error) {
		began <- struct{}{}
		select {
		case <-finish:
			return "once", nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	})
	ctx, stop := context.WithCancel(t.Context())
	first := start(ctx, newComponent(t, s, workercall.DefaultPatience()), asked(nil))
	receive(t, began, "the call")
	stop()
	receive(t, first, "the end of the first process")

	waits := workercall.DefaultPatience()
	waits.First = time.Millisecond // a call that is made again would be lost at once
	second := newComponent(t, s, waits)
	again := start(t.Context(), second, asked(nil))
	heartbeat := listen(t, s.Conn(t), "galley.reply.>")
	select { // it is attached, or was so before this test listened
	case <-heartbeat:
	case <-time.After(100 * time.Millisecond):
	}
	close(finish)
	ended := receive(t, again, "the answer")
	require.NoError(t, ended.err)
	assert.Equal(t, "once", ended.result.Output)

	// Whoever asks after the end gets the answer that is kept, from whichever instance has it.
	serve(t, s.Conn(t), worker.Config{}, func(context.Context, *worker.Call) (any, error) { return "twice", nil })
	for range 10 {
		result, err := execute(t, newComponent(t, s, workercall.DefaultPatience()), asked(nil))
		require.NoError(t, err)
		assert.Equal(t, "once", result.Output)
	}
	assert.Empty(t, began)
}

// TestFailuresAreNotKept: what failed is done again when it is called again.
func TestFailuresAreNotKept(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	var calls atomic.Int64
	serve(t, s.Conn(t), worker.Config{}, func(context.Context, *worker.Call) (any, error) {
		if calls.Add(1) == 1 {
			return nil, errors.New("not now")
		}
		return "now", nil
	})
	c := newComponent(t, s, workercall.DefaultPatience())
	_, err := execute(t, c, asked(nil))
	requireProblem(t, err, problem.ComponentError, true)
	result, err := execute(t, c, asked(nil))
	require.NoError(t, err)
	assert.Equal(t, "now", result.Output)
}

// TestCancelledHandler: the handler hears of it, and a call that is made again does not get what it still does.
func TestCancelledHandler(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	causes, began := make(chan error, 1), make(chan struct{}, 1)
	release := make(chan struct{})
	var calls atomic.Int64
	conn := s.Conn(t)
	serve(t, conn, worker.Config{}, func(ctx context.Context, _ *worker.Call) (any, error) {
		if calls.Add(1) > 1 {
			return "second", nil
		}
		assert.NoError(t, conn.Flush()) // a cancel that is faster than the subscription to it is not heard
		began <- struct{}{}
		<-ctx.Done()
		causes <- context.Cause(ctx)
		<-release
		return "first", nil
	})
	c := newComponent(t, s, workercall.DefaultPatience())
	ctx, cancel := context.WithCancelCause(t.Context())
	first := start(ctx, c, asked(nil))
	receive(t, began, "the call")
	cancel(errors.New("the execution was ended"))
	receive(t, first, "the end")
	require.ErrorIs(t, receive(t, causes, "the end of the handler's context"), worker.ErrCancelled)
	result, err := execute(t, c, asked(nil))
	require.NoError(t, err)
	assert.Equal(t, "second", result.Output)
	close(release)
}

// TestInstancesShare: an instance that is at its limit leaves calls to others.
func TestInstancesShare(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	hold := make(chan struct{})
	var running, most [2]atomic.Int64
	for i := range 2 {
		serve(t, s.Conn(t), worker.Config{Concurrency: 1}, func(context.Context, *worker.Call) (any, error) {
			if now := running[i].Add(1); now > most[i].Load() {
				most[i].Store(now)
			}
			defer running[i].Add(-1)
			<-hold
			return nil, nil //nolint:nilnil // an output may be null
		})
	}
	c := newComponent(t, s, workercall.DefaultPatience())
	var ends []<-chan outcome
	for i := range 6 {
		made, item := asked(nil), i
		made.Item = &item
		ends = append(ends, start(t.Context(), c, made))
	}
	require.Eventually(t, func() bool { return running[0].Load()+running[1].Load() == 2 }, patience, time.Millisecond)
	close(hold)
	for _, ended := range ends {
		require.NoError(t, receive(t, ended, "the answer").err)
	}
	assert.EqualValues(t, 1, most[0].Load())
	assert.EqualValues(t, 1, most[1].Load())
}

// TestWorkerThatStops: what it cannot finish goes to another instance, and costs no attempt.
func TestWorkerThatStops(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	began := make(chan struct{}, 1)
	stop := serve(t, s.Conn(t), worker.Config{Drain: time.Millisecond}, func(ctx context.Context, _ *worker.Call) (any, error) {
		began <- struct{}{}
		<-ctx.Done()
		assert.ErrorIs(t, context.Cause(ctx), worker.ErrStopping)
		return nil, ctx.Err()
	})
	waits := workercall.DefaultPatience()
	waits.Again = time.Second
	ended := start(t.Context(), newComponent(t, s, waits), asked(nil))
	receive(t, began, "the call")
	serve(t, s.Conn(t), worker.Config{}, func(context.Context, *worker.Call) (any, error) { return "other", nil })
	stop()
	other := receive(t, ended, "the answer")
	require.NoError(t, other.err)
	assert.Equal(t, "other", other.result.Output)
}

// TestNATSRestarts in the middle of a call: worker and galley connect again, and the answer arrives.
func TestNATSRestarts(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	began, finish := make(chan struct{}, 1), make(chan struct{})
	workers := s.Conn(t)
	serve(t, workers, worker.Config{}, func(context.Context, *worker.Call) (any, error) {
		began <- struct{}{}
		<-finish
		return "after all", nil
	})
	mine := s.Conn(t, nats.ReconnectBufSize(-1))
	c := workercall.New(mine, workercall.DefaultPatience(), time.Now)
	ended := start(t.Context(), c, asked(nil))
	receive(t, began, "the call")
	s.Restart(t)
	require.Eventually(t, func() bool { return workers.IsConnected() && mine.IsConnected() }, patience, time.Millisecond)
	require.NoError(t, mine.Flush())
	close(finish)
	made := receive(t, ended, "the answer")
	require.NoError(t, made.err)
	assert.Equal(t, "after all", made.result.Output)
	require.NoError(t, c.Close())
}

// TestPermissions: what docs/workers.md says that a customer's worker needs is enough, and calls of others are out of its reach.
func TestPermissions(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "galley", Password: "secret"},
			{Username: "worker", Password: "secret", Permissions: &server.Permissions{
				Subscribe: &server.SubjectPermission{Allow: []string{"galley.worker.cust_001.> galley", "galley.call.cust_001.>", "probe.>"}},
				Publish:   &server.SubjectPermission{Allow: []string{"galley.reply.cust_001.>", "galley.worker.cust_001.>", "probe.>"}},
			}},
		}
	})
	refused := make(chan error, 10)
	conn := s.Conn(t, nats.UserInfo("worker", "secret"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	release := make(chan struct{})
	serve(t, conn, worker.Config{Customer: customer}, func(_ context.Context, c *worker.Call) (any, error) {
		c.Progress("works")
		<-release
		return "done", nil
	})
	watcher := s.Conn(t, nats.UserInfo("galley", "secret"))
	heard := listen(t, watcher, "galley.progress.>")
	c := newComponent(t, s, workercall.DefaultPatience(), nats.UserInfo("galley", "secret"))
	ctx, stop := context.WithCancel(t.Context())
	first := start(ctx, c, asked(nil))
	receive(t, heard, "progress")
	stop()
	receive(t, first, "the end of the first call")
	again := start(t.Context(), c, asked(nil))
	close(release)
	made := receive(t, again, "the answer")
	require.NoError(t, made.err)
	assert.Equal(t, "done", made.result.Output)
	assert.Empty(t, refused)

	for _, other := range []string{"galley.worker.>", "galley.call.cust_002.>", "galley.reply.>", "galley.worker.cust_001." + name} {
		_, err := conn.SubscribeSync(other)
		require.NoError(t, err)
		require.ErrorContains(t, receive(t, refused, "the refusal of "+other), "Permissions Violation")
	}
	for _, other := range []string{"galley.reply.cust_002.a.b", "galley.run.request.cust_001"} {
		require.NoError(t, conn.Publish(other, nil))
		require.ErrorContains(t, receive(t, refused, "the refusal of "+other), "Permissions Violation")
	}
}
