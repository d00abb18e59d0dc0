package worker

import (
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/subject"
)

// errNotHeld says that NATS may have given the execution to another worker.
var errNotHeld = errors.New("the execution may have been given to another worker")

// given is what brought an execution to this process: its funded event, or a wake-up call.
type given struct {
	execution subject.Execution
	// record is the funded event; a wake-up call leaves it to be read.
	record journal.Record
	// call is the sequence of the wake-up call, 0 for a funded event.
	call uint64
	// deliveries counts from 1.
	deliveries int
}

type givenKey struct{ funded, call uint64 }

func (g *given) key() givenKey {
	if g.call > 0 {
		return givenKey{call: g.call}
	}
	return givenKey{funded: g.record.Sequence}
}

// holding is one execution that this process was given and has not settled.
type holding struct {
	given

	// The rest belongs to holdings.

	// message is the latest delivery.
	message jetstream.Msg
	// since is a moment at which NATS held the message for this process, for certain: from then on it does so for AckWait.
	since time.Time
}

// holdings knows which executions this process may work on. NATS gives a message to somebody else when it has heard nothing for
// AckWait, and does not say so; so every holding is kept alive by heartbeats, and is not to be relied upon once AckWait has passed
// since the last one that is known to have arrived.
//
// A delivery does not say when it was made, and may have waited in a buffer while the process stood still. What is known is a
// bound: when a heartbeat's round trip that began at some moment is over, everything that arrives afterwards was sent after that
// moment, and whatever arrived before it has left the buffers, which nothing ever blocks, by the next heartbeat. The
// same holds for a moment at which there was no connection.
type holdings struct {
	clock   clock.Clock
	ackWait time.Duration

	mu    sync.Mutex
	byKey map[givenKey]*holding
	// mark becomes the bound with the next heartbeat.
	mark, bound time.Time
}

func newHoldings(now clock.Clock, ackWait time.Duration) *holdings {
	return &holdings{clock: now, ackWait: ackWait, byKey: make(map[givenKey]*holding)}
}

// begin is called before the first message can arrive.
func (h *holdings) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mark = h.clock()
	h.bound = h.mark
}

// take adds an execution. When this process works on it already, the new delivery only renews that; taken is nil.
func (h *holdings) take(g given, message jetstream.Msg) (taken *holding) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if known := h.byKey[g.key()]; known != nil {
		known.message, known.since = message, h.bound
		return nil
	}
	taken = &holding{given: g, message: message, since: h.bound}
	h.byKey[g.key()] = taken
	return taken
}

// drop forgets an execution and gives its latest delivery, to be settled.
func (h *holdings) drop(held *holding) jetstream.Msg {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.byKey, held.key())
	return held.message
}

// check is nil while no other worker can have been given the execution.
func (h *holdings) check(held *holding) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lost(held) {
		return errNotHeld
	}
	return nil
}

func (h *holdings) lost(held *holding) bool {
	return h.clock().Sub(held.since) >= h.ackWait
}

// beat sends a heartbeat for everything held. flush waits until the server has had them all. What is lost stays lost, until it is
// delivered to this process again: a heartbeat would only keep it from the next worker, should the one that has it now die.
func (h *holdings) beat(connected func() bool, flush func() error) {
	started := h.clock()
	h.mu.Lock()
	h.bound = h.mark
	beaten := make(map[*holding]jetstream.Msg, len(h.byKey))
	for _, held := range h.byKey {
		if !h.lost(held) {
			beaten[held] = held.message
		}
	}
	h.mu.Unlock()

	disconnected := !connected()
	for held, message := range beaten {
		if message.InProgress() != nil {
			delete(beaten, held)
		}
	}
	arrived := flush() == nil

	h.mu.Lock()
	defer h.mu.Unlock()
	if arrived || disconnected {
		h.mark = started
	}
	for held := range beaten {
		if arrived && !h.lost(held) && held.since.Before(started) {
			held.since = started
		}
	}
}
