// Package reply lets synchronous callers wait for the end of their execution. One inbox subscription serves the whole process.
package reply

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	// A reply is lost when whoever ended the execution dies between its append and the reply, so a waiting caller also looks into
	// the journal: rarely at first, because the reply nearly always comes.
	firstLook = time.Second
	maxLook   = 5 * time.Second
	// A caller that joined an execution which somebody else asked for may wait for a reply that goes to another process.
	firstLookJoined = 20 * time.Millisecond
)

// Completion is the end of an execution.
type Completion struct {
	// Response is the standard response as it stands in the journal.
	Response []byte
	Status   event.Status
	// Code is that of the first error, empty on success.
	Code problem.Code
}

// Inbox holds the waiting callers.
type Inbox struct {
	conn    *nats.Conn
	journal *journal.Journal
	prefix  string
	mu      sync.Mutex
	waiters map[string][]chan Completion
}

// New makes an inbox; Run receives its replies.
func New(conn *nats.Conn, executions *journal.Journal) *Inbox {
	return &Inbox{conn: conn, journal: executions, prefix: conn.NewInbox() + ".", waiters: map[string][]chan Completion{}}
}

// Run receives replies until ctx ends.
func (i *Inbox) Run(ctx context.Context) error {
	subscription, err := i.conn.Subscribe(i.prefix+"*", i.receive)
	if err != nil {
		return fmt.Errorf("subscribe to replies: %w", err)
	}
	<-ctx.Done()
	_ = subscription.Unsubscribe()
	return nil
}

func (i *Inbox) receive(message *nats.Msg) {
	completion := complete(message.Header, message.Data)
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, waiter := range i.waiters[message.Subject[len(i.prefix):]] {
		select {
		case waiter <- completion:
		default:
		}
	}
}

func complete(header nats.Header, data []byte) Completion {
	return Completion{
		Response: data, Status: event.Status(header.Get(event.HeaderStatus)), Code: problem.Code(header.Get(event.HeaderCode)),
	}
}

// Waiter is one caller's place.
type Waiter struct {
	inbox     *Inbox
	execution subject.Execution
	reply     chan Completion
}

// Register makes a place for a caller. It comes before the append, so that no reply can be missed. Close gives the place up.
func (i *Inbox) Register(execution subject.Execution) *Waiter {
	waiter := &Waiter{inbox: i, execution: execution, reply: make(chan Completion, 1)}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.waiters[execution.ID] = append(i.waiters[execution.ID], waiter.reply)
	return waiter
}

// Subject is where the reply is to be published.
func (w *Waiter) Subject() string {
	return w.inbox.prefix + w.execution.ID
}

// Close gives the place up.
func (w *Waiter) Close() {
	w.inbox.mu.Lock()
	defer w.inbox.mu.Unlock()
	remaining := w.inbox.waiters[w.execution.ID][:0]
	for _, waiter := range w.inbox.waiters[w.execution.ID] {
		if waiter != w.reply {
			remaining = append(remaining, waiter)
		}
	}
	if len(remaining) == 0 {
		delete(w.inbox.waiters, w.execution.ID)
		return
	}
	w.inbox.waiters[w.execution.ID] = remaining
}

// Wait blocks until the execution ends, for at most limit; false when it had not ended by then. joined tells that somebody else asked
// for the execution earlier.
func (w *Waiter) Wait(ctx context.Context, limit time.Duration, joined bool) (Completion, bool) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	look := firstLook
	if joined {
		if completion, found := Look(ctx, w.inbox.journal, w.execution); found {
			return completion, true
		}
		look = firstLookJoined
	}
	timer := time.NewTimer(look)
	defer timer.Stop()
	for {
		select {
		case completion := <-w.reply:
			return completion, true
		case <-ctx.Done():
			return Completion{}, false
		case <-timer.C:
			if completion, found := Look(ctx, w.inbox.journal, w.execution); found {
				return completion, true
			}
			look = min(2*look, maxLook)
			timer.Reset(look)
		}
	}
}

// Look reads from the journal whether the execution has ended. While the journal cannot be read, the answer is that it has not.
func Look(ctx context.Context, executions *journal.Journal, execution subject.Execution) (Completion, bool) {
	last, err := executions.Last(ctx, execution)
	if err != nil && !errors.Is(err, journal.ErrNotFound) || last.Kind != event.Completed {
		return Completion{}, false
	}
	return complete(last.Header, last.Data), true
}
