package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/galley-engine/galley/schemas/call"
	"github.com/galley-engine/galley/schemas/problem"
)

// maxReplies is how many processes of galley may wait for one call: one, and those that it was taken over from.
const maxReplies = 4

// work is a call under way, or one whose answer is kept. Its lock may be taken while the server's is held, never the other way round.
type work struct {
	server *server
	key    string
	// ended ends when nobody waits any more, or the worker stops.
	ended  func() <-chan struct{}
	cause  func() error
	handle func(taken *Call) (any, error)
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	replies  []string
	control  *nats.Subscription
	deadline *time.Timer
	// answer is there when the call has succeeded.
	answer []byte
}

func newWork(ctx context.Context, s *server, key string) *work {
	ctx, cancel := context.WithCancelCause(ctx)
	return &work{
		server: s, key: key, cancel: cancel, ended: ctx.Done, cause: func() error { return context.Cause(ctx) },
		handle: func(taken *Call) (any, error) { return s.handler(ctx, taken) },
	}
}

// listen hears what galley says of the call.
func (w *work) listen(control string) {
	if !isControl(control) {
		return
	}
	subscription, err := w.server.conn.Subscribe(control, w.hear)
	if err != nil {
		w.server.log.Warn("call cannot be cancelled", "error", err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.control = subscription
}

func (w *work) unsubscribe() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.control != nil {
		_ = w.control.Unsubscribe()
		w.control = nil
	}
}

func (w *work) hear(message *nats.Msg) {
	var control call.Control
	if json.Unmarshal(message.Data, &control) != nil {
		return
	}
	switch {
	case control.Cancel:
		w.cancel(ErrCancelled)
	case control.Attach && message.Reply != "":
		w.attach(message.Reply, control.TimeoutMS)
	}
}

// attach adds one more process that waits.
func (w *work) attach(reply string, timeoutMS int64) {
	w.mu.Lock()
	answer := w.answer
	if !slices.Contains(w.replies, reply) {
		w.replies = append(w.replies[max(0, len(w.replies)+1-maxReplies):], reply)
	}
	w.mu.Unlock()
	if answer != nil {
		w.server.send(answer, reply)
		return
	}
	w.extend(timeoutMS)
	w.server.say(call.Reply{Heartbeat: true}, reply)
}

// extend sets for how long galley waits from now on. That galley says so when the time is over may get lost.
func (w *work) extend(timeoutMS int64) {
	if timeoutMS <= 0 || timeoutMS > int64(1<<62/time.Millisecond) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deadline != nil {
		w.deadline.Stop()
	}
	w.deadline = time.AfterFunc(time.Duration(timeoutMS)*time.Millisecond, func() { w.cancel(ErrCancelled) })
}

func (w *work) tell(reply call.Reply) {
	w.mu.Lock()
	to := slices.Clone(w.replies)
	w.mu.Unlock()
	data, err := json.Marshal(reply)
	if cause := w.cause(); cause != nil && !errors.Is(cause, ErrStopping) {
		return // nobody waits any more
	}
	if err == nil && len(data) <= call.MaxSign {
		w.server.send(data, to...)
	}
}

// run waits for the call's turn, runs it and answers.
func (w *work) run(taken *Call) {
	defer w.close()
	if !w.turn() {
		w.finish(call.Reply{Busy: true})
		return
	}
	defer func() { <-w.server.slots }()
	results := make(chan call.Reply, 1)
	go func() {
		reply := broken() // also for a handler that ends its goroutine
		defer func() { results <- reply }()
		reply = w.do(taken)
	}()
	beat := time.NewTicker(call.Heartbeat)
	defer beat.Stop()
	ended := w.ended()
	for {
		select {
		case reply := <-results:
			w.finish(reply)
			return
		case <-beat.C:
			w.tell(call.Reply{Heartbeat: true})
		case <-ended:
			ended = nil
			if errors.Is(w.cause(), ErrCancelled) {
				w.server.disown(w)
			}
		}
	}
}

// turn waits for a slot. It is false when there is none for too long.
func (w *work) turn() bool {
	select {
	case <-w.server.stopping:
		return false
	default:
	}
	timer := time.NewTimer(slotPatience)
	defer timer.Stop()
	select {
	case w.server.slots <- struct{}{}:
		return true
	case <-timer.C:
	case <-w.ended():
	case <-w.server.stopping:
	}
	return false
}

// do calls the handler, and makes a reply of whatever comes of it.
func (w *work) do(taken *Call) (reply call.Reply) {
	defer func() {
		if cause := recover(); cause != nil {
			w.server.log.Error("handler panicked", "step", taken.Step, "execution", taken.ExecutionID, "panic", cause, "stack", string(debug.Stack()))
			reply = broken()
		}
	}()
	return w.reply(w.handle(taken))
}

func broken() call.Reply {
	return call.Reply{Error: &call.Failure{Message: "a defect in the worker stopped the step"}}
}

func (w *work) reply(value any, err error) call.Reply {
	var reply call.Reply
	if result, ok := value.(Result); ok {
		value = result.Output
		if result.Usage != (Usage{}) {
			reply.Usage = &result.Usage
		}
	}
	if err != nil && errors.Is(w.cause(), ErrStopping) {
		return call.Reply{Busy: true}
	}
	if err == nil {
		if reply.Output, err = json.Marshal(value); err != nil {
			err = &Error{Message: "the output cannot be written as JSON"}
		} else if size := len(reply.Output); size > call.MaxReply-call.MaxSign {
			err = &Error{Code: problem.StateTooLarge, Message: fmt.Sprintf("the output is %d bytes as JSON, more than %d", size, call.MaxReply-call.MaxSign)}
		}
	}
	if err == nil {
		return reply
	}
	reply.Output = nil
	judged, ok := errors.AsType[*Error](err)
	if !ok {
		judged = &Error{Message: err.Error(), Retryable: true}
	}
	reply.Error = &call.Failure{Code: string(judged.Code), Message: judged.Message, Retryable: judged.Retryable}
	return reply
}

// finish answers, unless nobody waits any more.
func (w *work) finish(reply call.Reply) {
	if errors.Is(w.cause(), ErrCancelled) {
		w.server.forget(w, false)
		return
	}
	data, err := json.Marshal(reply)
	if err != nil { // cannot be: the output is JSON already
		w.server.log.Error("reply not encoded", "error", err)
	}
	w.mu.Lock()
	to := slices.Clone(w.replies)
	keep := reply.Output != nil && w.control != nil
	if keep {
		w.answer = data
	}
	w.mu.Unlock()
	// Forgotten first: whoever hears that it failed or was given back may call again at once.
	w.server.forget(w, keep)
	w.server.send(data, to...)
}

// close lets go of what a call needs while it is under way.
func (w *work) close() {
	w.mu.Lock()
	if w.deadline != nil {
		w.deadline.Stop()
	}
	w.mu.Unlock()
	w.cancel(nil)
}
