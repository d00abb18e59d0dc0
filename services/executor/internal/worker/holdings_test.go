package worker

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/testkit"
)

// message is a delivery that counts its heartbeats.
type message struct {
	jetstream.Msg
	beats int
	delay time.Duration
	err   error
}

func (m *message) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{NumDelivered: 1, Sequence: jetstream.SequencePair{Stream: 7}}, nil
}

func (m *message) Subject() string      { return "galley.execution.00.cust_001.e1.funded" }
func (m *message) Headers() nats.Header { return nil }
func (m *message) Data() []byte         { return nil }

func (m *message) NakWithDelay(delay time.Duration) error {
	m.delay = delay
	return nil
}

func (m *message) InProgress() error {
	m.beats++
	return m.err
}

const (
	beatEvery = 3 * time.Second
	ackWait   = 9 * time.Second
)

type heart struct {
	*holdings
	clock *testkit.Clock
}

func newHeart() *heart {
	clock := testkit.NewClock(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
	h := &heart{holdings: newHoldings(clock.Now, ackWait), clock: clock}
	h.begin()
	return h
}

func (h *heart) beat(connected bool, flush error) {
	h.clock.Advance(beatEvery)
	h.holdings.beat(func() bool { return connected }, func() error { return flush })
}

func (h *heart) give(sequence uint64) (*holding, *message) {
	m := &message{}
	return h.take(given{record: journal.Record{Sequence: sequence}, deliveries: 1}, m), m
}

var errLost = errors.New("lost")

func TestHeartbeatsKeepAHolding(t *testing.T) {
	t.Parallel()
	h := newHeart()
	held, m := h.give(1)
	for range 10 {
		h.beat(true, nil)
		require.NoError(t, h.check(held))
	}
	assert.Equal(t, 10, m.beats)
	h.drop(held)
	h.beat(true, nil)
	assert.Equal(t, 10, m.beats)
}

func TestHoldingIsLost(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		beat    func(h *heart)
		message error
	}{
		"without heartbeats":               {beat: func(h *heart) { h.clock.Advance(beatEvery) }},
		"when they do not arrive":          {beat: func(h *heart) { h.beat(true, errLost) }},
		"without a connection":             {beat: func(h *heart) { h.beat(false, errLost) }},
		"when its own cannot be published": {beat: func(h *heart) { h.beat(true, nil) }, message: errLost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHeart()
			held, m := h.give(1)
			m.err = test.message
			for range 2 {
				test.beat(h)
				require.NoError(t, h.check(held))
			}
			test.beat(h)
			require.ErrorIs(t, h.check(held), errNotHeld)
		})
	}
}

// TestDeliveryThatWaited: the process stood still, and now finds what was delivered before.
func TestDeliveryThatWaited(t *testing.T) {
	t.Parallel()
	h := newHeart()
	h.beat(true, nil)
	h.clock.Advance(ackWait)
	stale, _ := h.give(1)
	require.ErrorIs(t, h.check(stale), errNotHeld)
	h.beat(true, nil)
	stillBuffered, _ := h.give(2)
	require.ErrorIs(t, h.check(stillBuffered), errNotHeld)
	h.beat(true, nil)
	fresh, _ := h.give(3)
	require.NoError(t, h.check(fresh))
}

// TestDeliveriesAfterAnOutage are as good as ever: they were made on the new connection.
func TestDeliveriesAfterAnOutage(t *testing.T) {
	t.Parallel()
	h := newHeart()
	before, _ := h.give(1)
	for range 5 {
		h.beat(false, errLost)
	}
	after, _ := h.give(2)
	require.ErrorIs(t, h.check(before), errNotHeld)
	require.NoError(t, h.check(after))
	h.beat(true, nil)
	require.NoError(t, h.check(after))
	require.ErrorIs(t, h.check(before), errNotHeld, "a heartbeat does not bring back what somebody else has by now")
}

// TestHeartbeatThatTookTooLong reaches the server, but not for certain in time.
func TestHeartbeatThatTookTooLong(t *testing.T) {
	t.Parallel()
	h := newHeart()
	held, _ := h.give(1)
	h.holdings.beat(func() bool { return true }, func() error {
		h.clock.Advance(ackWait)
		return nil
	})
	require.ErrorIs(t, h.check(held), errNotHeld)
}

// TestNetworkThatHangs: connected by the look of it, and nothing comes through.
func TestNetworkThatHangs(t *testing.T) {
	t.Parallel()
	h := newHeart()
	for range 5 {
		h.beat(true, errLost)
	}
	held, _ := h.give(1)
	require.ErrorIs(t, h.check(held), errNotHeld)
}

func TestRedeliveryToTheSameProcessRenews(t *testing.T) {
	t.Parallel()
	h := newHeart()
	held, old := h.give(1)
	for range 5 {
		h.beat(false, errLost)
	}
	require.ErrorIs(t, h.check(held), errNotHeld)
	again, renewed := h.give(1)
	assert.Nil(t, again, "it is not run twice")
	require.NoError(t, h.check(held))
	before := old.beats
	h.beat(true, nil)
	assert.Equal(t, 1, renewed.beats)
	assert.Equal(t, before, old.beats)
	assert.Same(t, renewed, h.drop(held))
}

// TestTurnOfALostExecution: nothing is run, nothing is settled. The worker has nothing that could.
func TestTurnOfALostExecution(t *testing.T) {
	t.Parallel()
	h := newHeart()
	held, _ := h.give(1)
	h.clock.Advance(ackWait)
	(&Worker{held: h.holdings}).turn(t.Context(), t.Context(), held)
	assert.Empty(t, h.byKey)
}

// TestFullQueue: the worker never blocks the deliveries behind.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	h := newHeart()
	w := &Worker{held: h.holdings, queue: make(chan *holding)}
	m := &message{}
	w.take(t.Context(), []jetstream.Msg{m})
	assert.Equal(t, laterDelay, m.delay)
	assert.Empty(t, h.byKey)
}

// TestDefectStopsOneExecutionOnly: a processor without an engine panics.
func TestDefectStopsOneExecutionOnly(t *testing.T) {
	t.Parallel()
	h := newHeart()
	held, _ := h.give(1)
	outcome, reason := (&Worker{held: h.holdings, processor: &processor{}}).process(t.Context(), held)
	assert.Equal(t, leave, outcome)
	require.ErrorContains(t, reason, "panic")
}
