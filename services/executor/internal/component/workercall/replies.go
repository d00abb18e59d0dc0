package workercall

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/schemas/call"
	"github.com/galley-engine/galley/schemas/subject"
)

// A worker may send maxSigns messages in each window, and tell maxProgress of them before they are passed on.
const (
	maxSigns    = 1000
	window      = 10 * time.Second
	maxProgress = 100
)

// noResponders is the status of the server's own reply to a message that nobody subscribes to.
const noResponders = "503"

// replies hears the answers to all calls of the process, and gives each to the one that waits for it.
type replies struct {
	conn    *nats.Conn
	clock   clock.Clock
	process string

	mu           sync.Mutex
	subscription *nats.Subscription
	waiters      map[string]*waiter
}

func newReplies(conn *nats.Conn, now clock.Clock) *replies {
	return &replies{conn: conn, clock: now, process: secretText(), waiters: make(map[string]*waiter)}
}

// expect makes the subjects for replies.
func (r *replies) expect(customer string) (*waiter, error) {
	w := &waiter{
		call: subject.WorkerReply(customer, r.process, secretText()), question: subject.WorkerReply(customer, r.process, secretText()),
		news: make(chan struct{}, 1),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.subscription == nil {
		var err error
		if r.subscription, err = r.conn.Subscribe(subject.WorkerReplies(r.process), r.receive); err != nil {
			return nil, fmt.Errorf("subscribe to the replies of workers: %w", err)
		}
	}
	r.waiters[w.call], r.waiters[w.question] = w, w
	return w, nil
}

func (r *replies) forget(w *waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiters, w.call)
	delete(r.waiters, w.question)
}

func (r *replies) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.subscription == nil {
		return nil
	}
	err := r.subscription.Unsubscribe()
	r.subscription = nil
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrBadSubscription) {
		return nil // it ended with its connection
	}
	return err
}

// receive is called with one message after the other: it must be quick whatever they hold.
func (r *replies) receive(message *nats.Msg) {
	r.mu.Lock()
	w, expected := r.waiters[message.Subject]
	r.mu.Unlock()
	if !expected {
		return // it comes late, or is the second answer
	}
	if w.hear(message, r.clock()) {
		r.forget(w)
	}
}

// waiter is a call that waits for replies.
type waiter struct {
	// call and question are the subjects for what comes of the call, and of the question whether somebody works on it.
	call, question string
	// news is filled when there is something to take.
	news chan struct{}

	mu    sync.Mutex
	heard heard
	// began and signs bound what a worker sends in a window.
	began time.Time
	signs int
}

// heard is what came since it was taken the last time. What says the same again takes no more room.
type heard struct {
	alive, busy, flood bool
	// unserved: nobody subscribes to the worker's subject; unworked: nobody works on the call.
	unserved, unworked bool
	progress           []string
	// answer is the one that ends the call.
	answer *nats.Msg
}

// hear adds a message, and tells whether nothing more is to be heard.
func (w *waiter) hear(message *nats.Msg, now time.Time) (ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.began) > window {
		w.began, w.signs = now, 0
	}
	w.signs++
	reply, isSign := sign(message.Data)
	switch {
	case w.signs > maxSigns:
		w.heard.flood = true
	case len(message.Data) == 0 && message.Header.Get("Status") == noResponders:
		w.heard.unserved = w.heard.unserved || message.Subject == w.call
		w.heard.unworked = w.heard.unworked || message.Subject == w.question
	case !isSign:
		w.heard.answer = message
	case reply.Busy:
		w.heard.busy = true
	default:
		w.heard.alive = true
		if reply.Progress != "" && len(w.heard.progress) < maxProgress {
			w.heard.progress = append(w.heard.progress, reply.Progress)
		}
	}
	select {
	case w.news <- struct{}{}:
	default:
	}
	return w.heard.flood || w.heard.answer != nil
}

// take gives what was heard.
func (w *waiter) take() heard {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.heard
	w.heard = heard{}
	return taken
}

// sign reads a message that does not end the call. Everything else is an answer, be it one that nobody understands.
func sign(data []byte) (reply call.Reply, isSign bool) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return reply, true
	}
	if len(data) > call.MaxSign || data[0] != '{' || json.Unmarshal(data, &reply) != nil || reply.Output != nil || reply.Error != nil {
		return call.Reply{}, false
	}
	return reply, reply.Heartbeat || reply.Busy || reply.Progress != ""
}
