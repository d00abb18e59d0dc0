package workercall_test

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/services/executor/internal/component/workercall"
)

// BenchmarkCall is one call after the other: the question whether somebody works on it, and the call. BenchmarkQuestion is the first alone.
func BenchmarkCall(b *testing.B) {
	s := testkit.NATS(b)
	if _, err := s.Conn(b).QueueSubscribe(serves, "galley", func(m *nats.Msg) { _ = m.Respond([]byte(`{"output":1}`)) }); err != nil {
		b.Fatal(err)
	}
	c := workercall.New(s.Conn(b), workercall.DefaultPatience(), clock.System)
	defer func() { _ = c.Close() }()
	for b.Loop() {
		if _, err := c.Execute(b.Context(), asked(nil)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkQuestion(b *testing.B) {
	s := testkit.NATS(b)
	conn := s.Conn(b)
	for b.Loop() {
		if _, err := conn.Request(control, nil, patience); err == nil {
			b.Fatal("somebody answered")
		}
	}
}
