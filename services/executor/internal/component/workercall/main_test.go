package workercall_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/pkg/worker"
	"github.com/galley-engine/galley/schemas/call"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/workercall"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	customer = "cust_001"
	name     = "shout"
	// serves is where the worker of these tests gets its calls, control where it is told of the one that asked makes.
	serves  = "galley.worker.*." + name
	control = "galley.call." + customer + ".e1.loud"

	patience = 30 * time.Second
)

// impatient gives up soon, for workers of which nothing is heard.
func impatient() workercall.Patience {
	return workercall.Patience{
		First: 100 * time.Millisecond, Silence: 100 * time.Millisecond, Attach: 100 * time.Millisecond,
		Absent: 10 * time.Millisecond, Again: time.Millisecond,
	}
}

func newComponent(t *testing.T, server *testkit.NATSServer, waits workercall.Patience, options ...nats.Option) *workercall.Component {
	t.Helper()
	c := workercall.New(server.Conn(t, options...), waits, clock.System)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	return c
}

func asked(with any) *component.Call {
	return &component.Call{
		Execution: subject.Execution{Customer: customer, ID: "e1"}, Step: "loud", Kind: "worker." + name, Attempt: 1, TraceParent: "00-trace",
		With: with,
	}
}

// execute makes a call that must end long before its time is over.
func execute(t *testing.T, c *workercall.Component, made *component.Call) (component.Result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	result, err := c.Execute(ctx, made)
	require.NoError(t, ctx.Err(), "the call does not end")
	return result, err
}

func requireProblem(t *testing.T, err error, code problem.Code, retryable bool) {
	t.Helper()
	var failed *problem.Error
	require.ErrorAs(t, err, &failed)
	require.Equal(t, code, failed.Code, failed.Message)
	require.Equal(t, retryable, failed.Retryable, failed.Message)
	require.NotContains(t, failed.Message, "galley.reply")
}

// raw is a worker without the library. The test ends after what handle is at, which may say more than the component waits for.
func raw(t *testing.T, conn *nats.Conn, on string, handle func(message *nats.Msg)) {
	t.Helper()
	var handling sync.Mutex
	ended := false
	_, err := conn.QueueSubscribe(on, call.Queue, func(message *nats.Msg) {
		handling.Lock()
		defer handling.Unlock()
		if !ended {
			handle(message)
		}
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		handling.Lock()
		defer handling.Unlock()
		ended = true
	})
	require.NoError(t, conn.Flush())
}

// listen gives what is published on a subject.
func listen(t *testing.T, conn *nats.Conn, on string) <-chan *nats.Msg {
	t.Helper()
	heard := make(chan *nats.Msg, 100)
	_, err := conn.ChanSubscribe(on, heard)
	require.NoError(t, err)
	require.NoError(t, conn.Flush())
	return heard
}

func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		require.Fail(t, "nothing came: "+what)
		panic("unreachable")
	}
}

// serve runs a worker with the library until the test ends, or stop is called.
func serve(t *testing.T, conn *nats.Conn, config worker.Config, handler worker.Handler) (stop func()) {
	t.Helper()
	config.Name = name
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- worker.Serve(ctx, conn, config, handler) }()
	var stopped atomic.Bool
	stop = func() {
		cancel()
		if stopped.CompareAndSwap(false, true) {
			assert.NoError(t, receive(t, ended, "the worker does not stop"))
		}
	}
	t.Cleanup(stop)
	probe := listen(t, conn, "probe."+name)
	require.Eventually(t, func() bool { // until the subscription is there
		require.NoError(t, conn.PublishMsg(&nats.Msg{Subject: "galley.worker." + customer + "." + name, Reply: "probe." + name, Data: []byte("?")}))
		select {
		case message := <-probe:
			return len(message.Data) > 0
		case <-time.After(100 * time.Millisecond):
			return false
		}
	}, patience, time.Millisecond)
	return stop
}
