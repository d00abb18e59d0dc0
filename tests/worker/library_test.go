package worker_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/pkg/worker"
	"github.com/galley-engine/galley/schemas/call"
)

func serve(ctx context.Context, conn *nats.Conn, config worker.Config, handler worker.Handler) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- worker.Serve(ctx, conn, config, handler) }()
	return ended
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		require.Fail(t, "nothing came")
		panic("unreachable")
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	conn := testkit.NATS(t).Conn(t)
	for title, config := range map[string]worker.Config{
		"no name": {}, "a wildcard": {Name: "*"}, "a dot": {Name: "a.b"}, "a customer that is none": {Name: "a", Customer: ">"},
		"less than none at once": {Name: "a", Concurrency: -1}, "no time at all": {Name: "a", Drain: -1},
	} {
		require.Error(t, worker.Serve(t.Context(), conn, config, nil), title)
	}
}

func TestClosedConnection(t *testing.T) {
	t.Parallel()
	server := testkit.NATS(t)
	conn := server.Conn(t)
	g := newGalley(t, server, "quick")
	ended := serve(t.Context(), conn, worker.Config{Name: "quick"}, func(ctx context.Context, _ *worker.Call) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	g.call(t, "closed", nil)
	conn.Close()
	require.ErrorIs(t, receive(t, ended), nats.ErrConnectionClosed)
	require.ErrorIs(t, worker.Serve(t.Context(), conn, worker.Config{Name: "quick"}, nil), nats.ErrConnectionClosed)
}

// TestStop: a worker that stops takes nothing more and finishes what it has.
func TestStop(t *testing.T) {
	t.Parallel()
	server := testkit.NATS(t)
	began, finish := make(chan struct{}), make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	ended := serve(ctx, server.Conn(t), worker.Config{Name: "slow", Drain: time.Minute}, func(ctx context.Context, _ *worker.Call) (any, error) {
		close(began)
		<-finish
		return "done", ctx.Err()
	})
	g := newGalley(t, server, "slow")
	m := g.call(t, "stop", nil)
	receive(t, began)
	stop()
	require.Eventually(t, func() bool {
		_, err := g.conn.Request("galley.worker.cust_001.slow", nil, time.Second)
		return errors.Is(err, nats.ErrNoResponders)
	}, patience, time.Millisecond)
	close(finish)
	assert.Equal(t, `"done"`, string(m.answer(t).Output))
	require.NoError(t, receive(t, ended))
	m.gone(t)
}

// TestRequestsThatAreNone do no harm.
func TestRequestsThatAreNone(t *testing.T) {
	t.Parallel()
	server := testkit.NATS(t)
	var calls atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	ended := serve(ctx, server.Conn(t), worker.Config{Name: "odd"}, func(_ context.Context, c *worker.Call) (any, error) {
		calls.Add(1)
		c.Progress(strings.Repeat("x", call.MaxSign)) // too long to be told
		c.Progress("")
		return nil, nil //nolint:nilnil // an output may be null
	})
	g := newGalley(t, server, "odd")
	g.call(t, "first", nil).answer(t)
	before := server.Server().NumSubscriptions()
	require.NoError(t, g.conn.Publish("galley.worker.cust_001.odd", []byte("{}"))) // nobody waits for it
	for _, body := range []string{"", "{", "[]", `{"attempt": "x"}`, strings.Repeat("[", 50_000)} {
		m := g.prepare(t, "odd")
		m.send(t, []byte(body))
		assert.NotNil(t, m.answer(t).Error, body)
	}
	assert.EqualValues(t, 1, calls.Load())
	for _, control := range []string{"", ">", "galley.>", "galley.call.*", "galley.call.>", "galley.call.a b", "galley.run.request.cust_001"} {
		m := g.prepare(t, "odd")
		m.control, m.key = control, "key of "+control
		m.send(t, []byte("{}"))
		assert.NotNil(t, m.answer(t).Output, control)
	}
	m := g.prepare(t, "odd")
	m.key = ""
	m.send(t, []byte("{}"))
	assert.NotNil(t, m.answer(t).Output, "a call without a key")
	m.send(t, []byte("{}"))
	assert.NotNil(t, m.answer(t).Output, "another one without a key")
	m.gone(t)
	assert.LessOrEqual(t, server.Server().NumSubscriptions(), before+20, "no subject of others is listened to")
	stop()
	require.NoError(t, receive(t, ended))
}

// TestControlsThatAreNone do no harm to a call under way, and nor does a time-out without end.
func TestControlsThatAreNone(t *testing.T) {
	t.Parallel()
	server := testkit.NATS(t)
	began, finish := make(chan struct{}), make(chan struct{})
	conn := server.Conn(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := serve(ctx, conn, worker.Config{Name: "odd"}, func(ctx context.Context, _ *worker.Call) (any, error) {
		assert.NoError(t, conn.Flush()) // the subscription to what galley says is there
		close(began)
		<-finish
		return "done", ctx.Err()
	})
	g := newGalley(t, server, "odd")
	m := g.call(t, "control", nil)
	receive(t, began)
	for _, control := range []string{
		"", "x", "[]", `{"cancel": "yes"}`, `{"cancel": false}`, `{"attach": true, "timeout_ms": -1}`, `{"attach": true, "timeout_ms": 9223372036854775807}`,
	} {
		m.tell(t, control)
	}
	require.NoError(t, m.conn.Publish(m.control, []byte(`{"attach": true}`))) // to no inbox
	for range 10 {                                                            // only the latest are answered
		m.listen(t)
		m.tell(t, `{"attach": true}`)
		assert.True(t, m.next(t).Heartbeat)
	}
	close(finish)
	assert.Equal(t, `"done"`, string(m.answer(t).Output))
	// What is kept is given to whoever asks, and a cancel does nothing to it.
	m.tell(t, `{"cancel": true}`)
	m.tell(t, `{"attach": true}`)
	assert.Equal(t, `"done"`, string(m.answer(t).Output))
	stop()
	require.NoError(t, receive(t, ended))
}

// TestDeadline: a worker stops by itself when galley waits no longer, also when nobody tells it.
func TestDeadline(t *testing.T) {
	t.Parallel()
	server := testkit.NATS(t)
	began, causes := make(chan struct{}), make(chan error, 1)
	conn := server.Conn(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := serve(ctx, conn, worker.Config{Name: "late"}, func(ctx context.Context, _ *worker.Call) (any, error) {
		assert.NoError(t, conn.Flush()) // the subscription to what galley says is there
		close(began)
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return "late", nil
	})
	m := newGalley(t, server, "late").call(t, "late", nil)
	receive(t, began)
	m.tell(t, `{"attach": true, "timeout_ms": 1}`)
	require.ErrorIs(t, receive(t, causes), worker.ErrCancelled)
	m.gone(t)
	stop()
	require.NoError(t, receive(t, ended))
}

// TestMemory: the latest answers are kept, not all.
func TestMemory(t *testing.T) {
	t.Parallel()
	server := testkit.NATS(t)
	var calls atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	ended := serve(ctx, server.Conn(t), worker.Config{Name: "memory"}, func(context.Context, *worker.Call) (any, error) { return calls.Add(1), nil })
	g := newGalley(t, server, "memory")
	g.call(t, "first", nil).answer(t)
	before := server.Server().NumSubscriptions()
	m := g.prepare(t, "many")
	for i := range 600 {
		m.key, m.control = "many/"+strings.Repeat("x", i), "galley.call.cust_001.many."+strings.Repeat("x", i+1)
		m.send(t, []byte("{}"))
		m.answer(t)
	}
	assert.LessOrEqual(t, server.Server().NumSubscriptions(), before+300)
	m.send(t, []byte("{}"))
	assert.Equal(t, "601", string(m.answer(t).Output), "the last one is kept")
	m.key, m.control = "many/x", "galley.call.cust_001.many.xx"
	m.send(t, []byte("{}"))
	assert.Equal(t, "602", string(m.answer(t).Output), "an early one is done again")
	stop()
	require.NoError(t, receive(t, ended))
	require.Eventually(t, func() bool { return server.Server().NumSubscriptions() <= before }, patience, time.Millisecond, "all are given back")
}
