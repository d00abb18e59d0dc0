package worker_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
)

type input map[string]any

// TestExamples holds each example to the protocol.
func TestExamples(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(t *testing.T) example{"Go": goExample, "Node.js": nodeExample} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program := make(t)
			server := testkit.NATS(t)
			kill := program.start(t, server.URL())
			g := newGalley(t, server, program.serves)
			t.Run("protocol", func(t *testing.T) {
				for name, check := range map[string]func(*testing.T, *galley){
					"answer": testAnswer, "progress": testProgress, "heartbeat": testHeartbeat, "cancel": testCancel, "attach": testAttach,
					"input that does not fit": testInvalidInput,
				} {
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						check(t, g)
					})
				}
			})
			t.Run("killed", func(t *testing.T) { //nolint:paralleltest // after all others
				m := g.call(t, "killed", endless())
				m.next(t)
				kill()
				m.gone(t)
			})
		})
	}
}

// endless is the input for work that does not end while a test runs.
func endless() input { return input{"text": strings.Repeat("x", 100), "pause_ms": 3000} }

func testAnswer(t *testing.T, g *galley) {
	t.Helper()
	reply := g.call(t, "answer", input{"text": "hi"}).answer(t)
	require.Nil(t, reply.Error)
	assert.Contains(t, []string{`{"text":"HI"}`, `{"letters":["h","i"]}`}, string(reply.Output))
}

func testProgress(t *testing.T, g *galley) {
	t.Helper()
	m := g.call(t, "progress", input{"text": "ab"})
	assert.Equal(t, "a", strings.ToLower(m.next(t).Progress))
	assert.Equal(t, "b", strings.ToLower(m.next(t).Progress))
	assert.NotNil(t, m.next(t).Output)
}

// testHeartbeat: one comes within five seconds, and a little more for slow machines.
func testHeartbeat(t *testing.T, g *galley) {
	t.Helper()
	m := g.call(t, "heartbeat", input{"text": "x", "pause_ms": 3_600_000})
	assert.True(t, m.next(t).Heartbeat)
	assert.True(t, m.next(t).Heartbeat)
	m.tell(t, `{"cancel": true, "reason": "cancelled"}`)
	m.gone(t)
}

func testCancel(t *testing.T, g *galley) {
	t.Helper()
	m := g.call(t, "cancel", endless())
	m.next(t) // it works
	m.tell(t, `{"cancel": true, "reason": "timeout"}`)
	m.gone(t)
	for {
		message, err := m.inbox.NextMsg(time.Millisecond)
		if err != nil {
			break
		}
		assert.NotContains(t, string(message.Data), "output", "nobody waits for it")
		assert.NotContains(t, string(message.Data), "error")
	}
}

// testAttach: somebody else asks for the result, and both get it.
func testAttach(t *testing.T, g *galley) {
	t.Helper()
	first := g.call(t, "attach", input{"text": "abcd", "pause_ms": 500})
	first.next(t) // it works
	second := g.prepare(t, "attach")
	second.tell(t, `{"attach": true, "timeout_ms": 60000}`)
	reply := second.next(t)
	assert.True(t, reply.Heartbeat || reply.Progress != "", "who asks hears at once that somebody works on it")
	assert.NotNil(t, second.answer(t).Output)
	assert.NotNil(t, first.answer(t).Output)
}

func testInvalidInput(t *testing.T, g *galley) {
	t.Helper()
	reply := g.call(t, "invalid", input{"text": 5}).answer(t)
	require.NotNil(t, reply.Error)
	assert.NotEmpty(t, reply.Error.Message)
	assert.False(t, reply.Error.Retryable)
}
