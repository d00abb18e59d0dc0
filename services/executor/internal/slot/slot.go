// Package slot bounds how many executions of a customer, and of a recipe, are under way at the same time. A slot belongs to the
// execution, not to the process that works on it: a crash neither frees nor doubles it.
//
// Each customer that has limited executions has one value in the bucket slots, changed by compare-and-set. Who frees a slot hands it to
// the execution that waits for it the longest, in the same change, and then wakes that one up. Whatever a crash leaves undone is found by
// those that wait: they come back now and then, and look at the journals of those that hold slots.
//
// Executions bring the limits that they pinned when they were accepted. What has changed since is asked of ingest, when somebody has to wait
// and when ingest says that there is something new.
package slot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	// patience bounds one change of a table, tryTime each try: a server that is started again does not answer what the one before it was
	// asked.
	patience = 5 * time.Second
	tryTime  = time.Second
	// lookPause spaces the looks at the journals of those that hold slots, maxLooks bounds each.
	lookPause = time.Second
	maxLooks  = 64
)

// Claim is an execution that is limited.
type Claim struct {
	Execution subject.Execution
	// Ticket orders executions by the time of their arrival.
	Ticket uint64
	// Accepted is when its limits were pinned.
	Accepted time.Time
	// Recipe is "<agent>.<recipe>".
	Recipe  string
	Version int
	// MaxCustomer and MaxRecipe are the limits, 0 for none.
	MaxCustomer, MaxRecipe int
}

// Standing is how an execution stands.
type Standing struct {
	Held bool
	// Full is the limit that keeps the execution from beginning.
	Full event.SlotLimit
	// Place is how many executions of the customer waited longer; for one that the table has no room for, how many it has room for.
	Place int
}

// Journals tells how executions stand.
type Journals interface {
	Last(ctx context.Context, execution subject.Execution) (journal.Record, error)
}

// Slots takes slots and gives them back. It is safe for concurrent use.
type Slots struct {
	bus      *bus.Bus
	journals Journals
	clock    clock.Clock
	log      zerolog.Logger

	mu sync.Mutex
	// lines has an entry for each customer with limited executions that this process has seen.
	lines map[string]*line
}

// line is what is to be done to one table: at most one change at a time in this process, for all that have come meanwhile.
type line struct {
	busy    bool
	pending []*operation

	// The rest belongs to the one who is busy.

	looked time.Time
	// next is where the next look begins.
	next int
}

// operation is a claim, the end of an execution, or what limits there are now.
type operation struct {
	Claim
	release bool
	limits  map[string]limit
	done    chan outcome
}

func (o *operation) claims() bool { return !o.release && o.limits == nil }

type outcome struct {
	Standing
	err error
}

// New makes Slots.
func New(messages *bus.Bus, journals Journals, now clock.Clock, log zerolog.Logger) *Slots {
	return &Slots{bus: messages, journals: journals, clock: now, log: log, lines: make(map[string]*line)}
}

// Enter takes a slot of each limit of an execution, unless it has them, or has it wait for them. It is woken up when it gets them.
func (s *Slots) Enter(claim Claim) (Standing, error) {
	return s.do(&operation{Claim: claim})
}

// Release gives the slots of an execution back that has ended, or has it wait no more.
func (s *Slots) Release(execution subject.Execution) error {
	_, err := s.do(&operation{Claim: Claim{Execution: execution}, release: true})
	return err
}

// Refresh has those of a customer that wait go by the limits that there are now. Should it fail, those that come back by themselves make up
// for it.
func (s *Slots) Refresh(customer string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	found, _, err := s.read(ctx, customer)
	if err != nil {
		s.log.Warn().Err(err).Str("customer", customer).Msg("executions that wait not told of a limit")
		return
	}
	crowded := len(found.Waiting) == maxWaiting
	if limits := s.ask(ctx, customer, &found); found.learn(limits) {
		_, _ = s.do(&operation{Claim: Claim{Execution: subject.Execution{Customer: customer}}, limits: limits})
		if crowded {
			s.callOthers(customer)
		}
	}
}

// Holds tells whether the execution has its slots.
func (s *Slots) Holds(ctx context.Context, execution subject.Execution) (bool, error) {
	found, _, err := s.read(ctx, execution.Customer)
	return found.holds(execution.ID), err
}

func (s *Slots) do(o *operation) (Standing, error) {
	o.done = make(chan outcome, 1)
	customer := o.Execution.Customer
	s.mu.Lock()
	l := s.lines[customer]
	if l == nil {
		l = &line{}
		s.lines[customer] = l
	}
	l.pending = append(l.pending, o)
	if !l.busy {
		l.busy = true
		go s.serve(customer, l)
	}
	s.mu.Unlock()
	result := <-o.done
	return result.Standing, result.err
}

// serve does what is pending until nothing is.
func (s *Slots) serve(customer string, l *line) {
	for {
		s.mu.Lock()
		operations := l.pending
		l.pending = nil
		l.busy = len(operations) > 0
		s.mu.Unlock()
		if len(operations) == 0 {
			return
		}
		s.serveOnce(customer, l, operations)
	}
}

func (s *Slots) serveOnce(customer string, l *line, operations []*operation) {
	found, err := s.change(customer, operations)
	full := slices.ContainsFunc(operations, func(o *operation) bool { return o.claims() && !found.holds(o.Execution.ID) })
	if err == nil && full && s.clock().Sub(l.looked).Abs() >= lookPause {
		l.looked = s.clock()
		if news := s.look(customer, l, &found); len(news) > 0 {
			crowded := news[0].limits != nil && len(found.Waiting) == maxWaiting
			if healed, err := s.change(customer, append(news, operations...)); err == nil {
				found = healed
			}
			if crowded {
				go s.callOthers(customer)
			}
		}
	}
	for _, o := range operations {
		result := outcome{err: err}
		if err == nil && o.claims() {
			result.Standing = found.standing(&o.Claim)
		}
		o.done <- result
	}
}

// change applies operations to a table. Those of others that get slots by it are woken up.
func (s *Slots) change(customer string, operations []*operation) (table, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	changed, granted, err := s.swap(ctx, customer, func(t *table) []string {
		for _, o := range operations {
			switch {
			case o.release:
				t.release(o.Execution.ID)
			case o.limits != nil:
				t.learn(o.limits)
			default:
				t.enter(&o.Claim)
			}
		}
		return t.settle()
	})
	for _, id := range granted {
		if !slices.ContainsFunc(operations, func(o *operation) bool { return o.Execution.ID == id }) {
			s.wake(ctx, subject.Execution{Customer: customer, ID: id})
		}
	}
	return changed, err
}

// wake calls an execution that has got its slots. A call that is lost is made again by whoever looks.
func (s *Slots) wake(ctx context.Context, execution subject.Execution) {
	if err := s.bus.Due(ctx, execution.Due()); err != nil {
		s.log.Warn().Err(err).Str("execution", execution.ID).Msg("execution that has got a slot not called")
	}
}

// look finds what the table does not know: limits that have changed, and those that hold slots and have ended.
func (s *Slots) look(customer string, l *line, found *table) (news []*operation) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if limits := s.ask(ctx, customer, found); found.learn(limits) {
		news = []*operation{{limits: limits}}
	}
	return append(news, s.ended(ctx, customer, l, found.Held)...)
}

// ended finds those among the holders of slots that have ended, whoever ended them, and calls those that have not heard that they hold one.
func (s *Slots) ended(ctx context.Context, customer string, l *line, held []entry) (ended []*operation) {
	for range min(len(held), maxLooks) {
		l.next++
		execution := subject.Execution{Customer: customer, ID: held[l.next%len(held)].ID}
		last, err := s.journals.Last(ctx, execution)
		switch {
		case errors.Is(err, journal.ErrNotFound), err == nil && last.Kind == event.Completed:
			ended = append(ended, &operation{Claim: Claim{Execution: execution}, release: true})
		case err != nil:
			s.log.Warn().Err(err).Str("execution", execution.ID).Msg("holder of a slot not looked at")
			return ended
		case last.Kind == event.Waiting && forSlot(last.Data):
			s.wake(ctx, execution)
		}
	}
	return ended
}

// forSlot tells of a checkpoint whether its execution waits for a slot.
func forSlot(data []byte) bool {
	var checkpoint struct {
		Waits []event.Wait `json:"waits"`
	}
	return json.Unmarshal(data, &checkpoint) == nil && slices.ContainsFunc(checkpoint.Waits, IsWait)
}

// IsWait tells whether a wait is one for a slot.
func IsWait(wait event.Wait) bool { return wait.Slot != "" }

func failure(customer string, err error) error {
	return fmt.Errorf("slots of %s: %w", customer, err)
}
