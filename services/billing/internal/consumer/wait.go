package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

const (
	// tellInterval is how long a decision waits that nobody was woken for: one of a process that is gone.
	tellInterval = 5 * time.Second
	// tellPage is how many decisions are read and appended at a time.
	tellPage = 100
	// lost is how long after the end of its wait an execution is given up that the journal does not have. Reconciliation settles its debit.
	lost = time.Hour
)

// Tell carries out what is decided about executions that waited for credits, until ctx ends: it ends those that have waited too long, and
// appends the events that follow to the journal. Every process may do it: the journal takes each of them once. A decision is forgotten only
// when the journal has it, so whatever dies in between, whoever looks next goes on.
func (c *Consumer) Tell(ctx context.Context) error {
	for pause := redelivery; ; {
		wait := tellInterval
		next, err := c.Ledger.Serve(ctx)
		err = errors.Join(err, c.tellAll(ctx))
		switch {
		case err != nil && ctx.Err() == nil:
			c.Logger.Warn().Err(err).Msg("decisions about executions that waited for credits not told, trying again")
			wait = min(wait, pause)
			pause += redelivery
		case err == nil:
			pause = redelivery
		}
		if !next.IsZero() {
			wait = min(wait, max(0, next.Sub(c.Clock())))
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-c.Ledger.Woken():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// tellAll looks at every decision once.
func (c *Consumer) tellAll(ctx context.Context) error {
	var after *ledger.Decision
	var failures error
	for {
		page, err := c.Ledger.Decided(ctx, after, tellPage)
		if err != nil || len(page) == 0 {
			return errors.Join(failures, err)
		}
		failures = errors.Join(failures, c.tell(ctx, page))
		if len(page) < tellPage || ctx.Err() != nil {
			return failures
		}
		after = &page[len(page)-1]
	}
}

// tell appends what follows from a page of decisions, and forgets those that the journal has. It returns one of its failures.
func (c *Consumer) tell(ctx context.Context, page []ledger.Decision) (failure error) {
	var told []ledger.Key
	messages := make([]message, 0, len(page))
	entries := make([]journal.Entry, 0, len(page))
	now := c.Clock()
	for i := range page {
		m, entry, err := c.sequel(ctx, &page[i], now)
		switch {
		case errors.Is(err, journal.ErrNotFound) && page[i].Instruction.Wait.Until.Add(lost).Before(now):
			c.Logger.Error().Err(err).Str("execution", page[i].Execution.String()).Msg("waited for credits, and is lost")
			told = append(told, page[i].Key)
		case err != nil:
			failure = err
		case entry == nil:
			told = append(told, page[i].Key)
		default:
			messages, entries = append(messages, m), append(entries, *entry)
		}
	}
	results := c.Journal.Append(ctx, entries...)
	c.decisions.count(entries, results)
	for i, result := range results {
		moved, isMoved := errors.AsType[*journal.MovedError](result.Err)
		switch {
		case isMoved && (moved.Last.Sequence == 0 || open(&moved.Last)), result.Err != nil && !isMoved:
			failure = result.Err
			continue
		case entries[i].Kind == event.Completed && isMoved:
			c.reply(ctx, &messages[i], &moved.Last)
		case entries[i].Kind == event.Completed:
			c.reply(ctx, &messages[i], &journal.Record{Kind: event.Completed, Header: entries[i].Header, Data: entries[i].Data})
		}
		told = append(told, messages[i].instruction.Key)
	}
	if len(told) == 0 {
		return failure
	}
	return errors.Join(failure, c.Ledger.Told(ctx, told))
}

// sequel makes the event that follows a decision: nil when the journal is past that. What it follows is read, for it may be accepted or the
// wait.
func (c *Consumer) sequel(ctx context.Context, decided *ledger.Decision, now time.Time) (m message, entry *journal.Entry, err error) {
	execution := decided.Subject()
	last, err := c.Journal.Last(ctx, execution)
	if err != nil {
		return message{}, nil, err
	}
	if !open(&last) && (decided.State != ledger.StateRefused || last.Kind != event.Completed) {
		return message{}, nil, nil
	}
	accepted := last
	if last.Kind != event.Accepted {
		if accepted, err = c.Journal.First(ctx, execution); err != nil {
			return message{}, nil, err
		}
	}
	m = message{record: accepted, instruction: decided.Instruction, expect: last.Sequence}
	if !open(&last) {
		c.reply(ctx, &m, &last) // whoever appended it may have died before it answered
		return m, nil, nil
	}
	if err := m.checkAccepted(); err != nil {
		return m, nil, err
	}
	entry, err = m.follow(&decided.Charge, now)
	return m, entry, err
}

// open tells whether a decision may follow an event.
func open(last *journal.Record) bool {
	return last.Kind == event.Accepted || last.WaitsForCredits()
}

func (c *Consumer) reply(ctx context.Context, m *message, last *journal.Record) {
	if last.Kind != event.Completed {
		return
	}
	if err := c.Journal.Reply(ctx, m.record.Header, last.Header, last.Data); err != nil {
		c.Logger.Debug().Err(err).Str("execution", m.record.Execution.ID).Msg("caller not answered, the journal has the response")
	}
}
