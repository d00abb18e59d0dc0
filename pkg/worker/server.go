package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/galley-engine/galley/schemas/call"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	// slotPatience is how long a call waits for its turn before it is given back, so that it may find an instance that is idle.
	slotPatience = 2 * time.Second
	// hurry is how long what was received before the end may take to be given back.
	hurry = 5 * time.Second
)

// server is a worker that serves.
type server struct {
	conn    *nats.Conn
	config  Config
	handler Handler
	log     *slog.Logger
	slots   chan struct{}
	// stopping is closed when no more calls are taken; the context of all handlers ends later.
	stopping chan struct{}
	stop     func(reason error)
	newWork  func(key string) *work
	busy     sync.WaitGroup

	mu    sync.Mutex
	works map[string]*work
	kept  memory
	// ended says that nothing more begins: what began is waited for.
	ended bool
}

func newServer(ctx context.Context, conn *nats.Conn, config Config, handler Handler) *server {
	config.Concurrency = cmp.Or(config.Concurrency, defaultConcurrency)
	config.Drain = cmp.Or(config.Drain, defaultDrain)
	log := config.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	// Handlers outlive ctx by the time to drain.
	base, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	s := &server{
		conn: conn, config: config, handler: handler, log: log, slots: make(chan struct{}, config.Concurrency),
		stopping: make(chan struct{}), stop: stop, works: make(map[string]*work),
	}
	s.newWork = func(key string) *work { return newWork(base, s, key) }
	return s
}

func (s *server) serve(ctx context.Context) error {
	defer s.stop(ErrStopping)
	gone := s.conn.StatusChanged(nats.CLOSED)
	defer s.conn.RemoveStatusListener(gone)
	subscription, err := s.conn.QueueSubscribe(subject.Worker(cmp.Or(s.config.Customer, "*"), s.config.Name), call.Queue, s.receive)
	if err != nil {
		return fmt.Errorf("serve worker %s: %w", s.config.Name, err)
	}
	select {
	case <-ctx.Done():
		close(s.stopping)
		drained := subscription.StatusChanged(nats.SubscriptionClosed)
		_ = subscription.Drain()
		await(drained, hurry)
	case <-gone:
		err = fmt.Errorf("serve worker %s: %w", s.config.Name, nats.ErrConnectionClosed)
		close(s.stopping)
		s.stop(ErrStopping)
	}
	s.finish()
	return errors.Join(err, s.flush())
}

// finish waits for what began. A closed connection, or a slow one, may still hand over a call: it begins before that, or not at all.
func (s *server) finish() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.busy.Wait()
	}()
	if !await(ended, s.config.Drain) {
		s.stop(ErrStopping)
		<-ended
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.works {
		w.unsubscribe()
	}
}

func await[T any](done <-chan T, patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// flush has the last answers reach the server before the caller closes the connection.
func (s *server) flush() error {
	if !s.conn.IsConnected() {
		return nil // then nobody can say that they would
	}
	return s.conn.FlushTimeout(hurry)
}

// receive takes a call. It is called with one after the other.
func (s *server) receive(message *nats.Msg) {
	if message.Reply == "" {
		return
	}
	taken := &Call{Key: message.Header.Get(call.HeaderKey), TraceParent: message.Header.Get(event.HeaderTraceParent)}
	if err := json.Unmarshal(message.Data, &taken.Request); err != nil {
		s.say(call.Reply{Error: &call.Failure{Message: "the call is not of the form that this worker knows"}}, message.Reply)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w, known := s.works[taken.Key]; known && taken.Key != "" {
		w.attach(message.Reply, taken.TimeoutMS)
		return
	}
	if s.ended {
		s.say(call.Reply{Busy: true}, message.Reply)
		return
	}
	w := s.newWork(taken.Key)
	w.replies = []string{message.Reply}
	w.extend(taken.TimeoutMS)
	taken.progress = func(text string) { w.tell(call.Reply{Progress: text}) }
	if taken.Key != "" {
		s.works[taken.Key] = w
		w.listen(message.Header.Get(call.HeaderControl))
	}
	s.busy.Go(func() { w.run(taken) })
}

// isControl tells whether subject is one on which a call may be controlled, and no wildcard that hears those of others.
func isControl(subject string) bool {
	return strings.HasPrefix(subject, "galley.call.") && !strings.ContainsAny(subject, "*> \t\r\n")
}

// forget is called by a work that has ended. What is kept answers when the call is made again.
func (s *server) forget(w *work, keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.works[w.key] != w {
		w.unsubscribe()
		return
	}
	out := []*work{w}
	if keep {
		out = s.kept.add(w)
	}
	for _, old := range out {
		old.unsubscribe()
		delete(s.works, old.key)
	}
}

// disown makes room for the same call before a cancelled one has returned.
func (s *server) disown(w *work) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.unsubscribe()
	if s.works[w.key] == w {
		delete(s.works, w.key)
	}
}

// say sends a reply. One that cannot be sent is asked for again by whoever waits for it.
func (s *server) say(reply call.Reply, to ...string) {
	data, err := json.Marshal(reply)
	if err != nil {
		s.log.Error("reply not encoded", "error", err)
		return
	}
	s.send(data, to...)
}

func (s *server) send(data []byte, to ...string) {
	for _, inbox := range to {
		if err := s.conn.Publish(inbox, data); err != nil {
			s.log.Warn("reply not sent", "error", err)
		}
	}
}
