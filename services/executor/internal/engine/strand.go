package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
)

// parkAfter is how long an execution is kept at hand when all that it does is to wait: to put it down and to take it up again costs
// two events and up to a second.
const parkAfter = 5 * time.Second

// News has those who wait look again. Its zero value is ready for use.
type News struct {
	mu   sync.Mutex
	next chan struct{}
}

// Spread tells everybody who waits.
func (n *News) Spread() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next != nil {
		close(n.next)
		n.next = nil
	}
}

// wait is closed at the next news.
func (n *News) wait() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next == nil {
		n.next = make(chan struct{})
	}
	return n.next
}

// waiter is a strand that waits.
type waiter struct {
	event.Wait
	// ready tells whether what the strand waits for has come; nil when that is the time alone.
	ready func(ctx context.Context) (bool, error)
	// begun tells that something was begun that whoever ends the execution has to know of.
	begun bool
}

// strands are the strands of an execution: how many are busy, and what the others wait for.
type strands struct {
	run *run
	// halt ends when no strand should begin anything more.
	halt context.Context //nolint:containedctx // the life of the execution's strands, made and ended by Run
	stop context.CancelCauseFunc

	mu sync.Mutex
	// busy counts the strands that do not wait. A strand that waits for others it has started is not counted itself.
	busy    int
	waiters []*waiter
	// earlier are the waits of the checkpoint that no strand has come back to yet.
	earlier []event.Wait
	parked  bool
}

func newStrands(r *run, ctx context.Context) *strands { //nolint:revive // ctx is what is made, r for whom
	s := &strands{run: r, busy: 1, earlier: r.progress.Waits}
	s.halt, s.stop = context.WithCancelCause(ctx)
	return s
}

func (s *strands) end() { s.stop(nil) }

// halted says why a strand must not go on.
func (s *strands) halted() error {
	if s.halt.Err() == nil {
		return nil
	}
	return s.cause()
}

func (s *strands) cause() error {
	cause := context.Cause(s.halt)
	if errors.Is(cause, ErrParked) || errors.Is(cause, errHalted) {
		return cause
	}
	return cutOff(s.halt)
}

// each runs do for 0 to n-1, width at a time, and returns when all that were begun have ended. The first error that ends the
// execution, or has this worker let go of it, keeps the others from beginning anything more.
func (s *strands) each(n, width int, do func(i int) error) error {
	width = min(n, width)
	if width == 0 {
		return nil
	}
	var mu sync.Mutex
	var next int
	var first error
	var panicked any
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == n || first != nil || panicked != nil {
			return 0, false
		}
		next++
		return next - 1, true
	}
	s.add(width - 1) // the first has the place of the one who waits for all
	var group sync.WaitGroup
	remaining := width
	for range width {
		group.Go(func() {
			defer func() { // a defect must not take the other executions of the process with it: see below
				if cause := recover(); cause != nil {
					mu.Lock()
					defer mu.Unlock()
					panicked = fmt.Errorf("%v\n%s", cause, debug.Stack())
					s.stop(errHalted)
				}
			}()
			for i, more := take(); more; i, more = take() {
				if err := do(i); err != nil {
					mu.Lock()
					first = weightier(first, err)
					mu.Unlock()
					s.stop(errHalted)
				}
			}
			mu.Lock()
			remaining--
			last := remaining == 0
			mu.Unlock()
			if !last { // the last gives its place back
				s.add(-1)
			}
		})
	}
	group.Wait()
	if panicked != nil {
		panic(panicked)
	}
	return first
}

// weightier is the error of two that says more about the execution: that it has failed, then that its worker must let go, then
// that a strand was halted by another.
func weightier(a, b error) error {
	for _, err := range []error{a, b} {
		if _, failed := errors.AsType[*problem.Error](err); failed {
			return err
		}
	}
	for _, err := range []error{a, b} {
		if err != nil && !errors.Is(err, errHalted) && !errors.Is(err, ErrParked) {
			return err
		}
	}
	for _, err := range []error{a, b} {
		if errors.Is(err, ErrParked) {
			return err
		}
	}
	if a != nil {
		return a
	}
	return b
}

func (s *strands) add(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy += n
	s.parkIfIdle()
}

// others tells whether another strand is busy, so that the execution is not parked at once.
func (s *strands) others() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.busy > 1
}

// parkIfIdle puts the execution down when nothing is left but to wait, and for long. mu is held.
func (s *strands) parkIfIdle() {
	if s.busy > 0 || s.parked || len(s.waiters) == 0 || s.halt.Err() != nil {
		return
	}
	soon := s.run.clock().Add(parkAfter)
	for _, w := range s.waiters {
		if w.Until.Before(soon) {
			return
		}
	}
	s.parked = true
	s.stop(ErrParked)
}

// resume gives the wait that a strand was in when the checkpoint was written.
func (s *strands) resume(step string, item *int) (event.Wait, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.earlier {
		if same(&w, step, item) {
			return w, true
		}
	}
	return event.Wait{}, false
}

// done says that a strand needs its earlier wait no more.
func (s *strands) done(step string, item *int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(step, item)
}

// forget drops an earlier wait, with mu held.
func (s *strands) forget(step string, item *int) {
	s.earlier = slices.DeleteFunc(s.earlier, func(w event.Wait) bool { return same(&w, step, item) })
}

func same(w *event.Wait, step string, item *int) bool {
	return w.Step == step && (w.Item == nil && item == nil || w.Item != nil && item != nil && *w.Item == *item)
}

// await has a strand wait until its time, or until ready says that what it waits for has come, which is asked at once and whenever
// there is news. It is false when the time is over.
func (s *strands) await(ctx context.Context, w *waiter) (bool, error) {
	s.mu.Lock()
	s.waiters = append(s.waiters, w)
	s.forget(w.Step, w.Item)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.parked { // else it waits on, in the checkpoint
			s.waiters = slices.DeleteFunc(s.waiters, func(other *waiter) bool { return other == w })
		}
	}()
	if w.begun && s.others() {
		if err := s.run.note(ctx); err != nil {
			return false, err
		}
	}
	timer := time.NewTimer(w.Until.Sub(s.run.clock()))
	defer timer.Stop()
	for {
		news := s.run.execution.News.wait()
		if w.ready != nil {
			if ready, err := w.ready(ctx); ready || err != nil {
				return ready, err
			}
		}
		if !s.run.clock().Before(w.Until) {
			return false, nil
		}
		s.add(-1)
		select {
		case <-news:
		case <-timer.C:
		case <-s.halt.Done():
		}
		s.mu.Lock()
		s.busy++
		s.mu.Unlock()
		if err := s.halted(); err != nil {
			return false, err
		}
	}
}

// waits are what the execution waits for now: what its strands wait for, and what those waited for that have not come back yet.
func (s *strands) waits() []event.Wait {
	s.mu.Lock()
	defer s.mu.Unlock()
	waits := slices.Clone(s.earlier)
	for _, w := range s.waiters {
		waits = append(waits, w.Wait)
	}
	return waits
}

// wake is when the execution has to be looked at again in any case.
func (s *strands) wake(deadline time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	wake := deadline
	for _, w := range s.waiters {
		until := w.Until
		if w.Execution != "" { // whoever ended the child may have died before it told
			if again := s.run.clock().Add(event.MaxChildWait); again.Before(until) {
				until = again
			}
		}
		if until.Before(wake) {
			wake = until
		}
	}
	return wake
}

// news tells whether anything has come that the execution waits for.
func (s *strands) news(ctx context.Context) (bool, error) {
	s.mu.Lock()
	waiters := slices.Clone(s.waiters)
	s.mu.Unlock()
	for _, w := range waiters {
		if w.ready == nil {
			continue
		}
		if ready, err := w.ready(ctx); ready || err != nil {
			return ready, err
		}
	}
	return false, nil
}
