// Package deadletter lets the operator decide about messages that could not be processed: have them processed again once the cause is
// gone, or do without them. Both are recorded in the audit log, in the name of the customer whose message it was.
package deadletter

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
)

// Desk is where dead letters are looked at and decided about. Its errors are *problem.Error, or wrap one.
type Desk struct {
	bus    *bus.Bus
	pool   *pgxpool.Pool
	outbox *outbox.Outbox
	clock  clock.Clock
}

// New makes a Desk. The pool acts as the role galley_ingest_reader.
func New(messages *bus.Bus, pool *pgxpool.Pool, events *outbox.Outbox, now clock.Clock) *Desk {
	return &Desk{bus: messages, pool: pool, outbox: events, clock: now}
}

// List gives the newest dead letters that are older than before (0: all), and whether there are more.
func (d *Desk) List(ctx context.Context, before uint64, limit int) (found []bus.Letter, more bool, err error) {
	found, more, err = d.bus.Letters(ctx, before, limit)
	return found, more, failure(0, err)
}

// Get finds a dead letter.
func (d *Desk) Get(ctx context.Context, sequence uint64) (bus.Letter, error) {
	letter, err := d.bus.Letter(ctx, sequence)
	return letter, failure(sequence, err)
}

// Redrive has the consumer that gave the message up process it again.
func (d *Desk) Redrive(ctx context.Context, sequence uint64, author activity.Author) error {
	return d.decide(ctx, sequence, event.ActionDeadLetterRedriven, author, d.bus.Redrive)
}

// Discard removes a dead letter for good.
func (d *Desk) Discard(ctx context.Context, sequence uint64, author activity.Author) error {
	return d.decide(ctx, sequence, event.ActionDeadLetterDiscarded, author, d.bus.Discard)
}

// decide records the decision and carries it out, in this order: what is refused leaves no activity. Only a commit that fails leaves a
// decision without one.
func (d *Desk) decide(
	ctx context.Context, sequence uint64, action string, author activity.Author, do func(ctx context.Context, letter bus.Letter) error,
) error {
	letter, err := d.bus.Letter(ctx, sequence)
	if err != nil {
		return failure(sequence, err)
	}
	entry := activity.Entry{
		Customer: customerOf(letter.Header.Get(bus.HeaderSubject)), Action: action, ResourceID: strconv.FormatUint(sequence, 10), Author: author,
		Before: map[string]string{
			"stream": letter.Header.Get(bus.HeaderStream), "sequence": letter.Header.Get(bus.HeaderSequence),
			"subject": letter.Header.Get(bus.HeaderSubject), "consumer": letter.Header.Get(bus.HeaderConsumer),
			"reason": letter.Header.Get(bus.HeaderReason),
		},
	}
	err = postgres.Transact(ctx, d.pool, entry.Customer, func(tx pgx.Tx) error {
		if err := activity.Store(ctx, tx, d.outbox, d.clock(), &entry); err != nil {
			return err
		}
		return do(ctx, letter)
	})
	if err != nil {
		return failure(sequence, err)
	}
	d.outbox.Wake()
	return nil
}

// customerOf is whose message it was by its subject, "" when that names no possible customer.
func customerOf(name string) string {
	var customer string
	if execution, _, _, err := subject.ParseExecution(name); err == nil {
		customer = execution.Customer
	} else {
		for _, prefix := range []string{
			subject.AllRuns, subject.AllSignals, subject.AllDueExecutions, subject.AllDueSchedules, subject.AllDuePeriods,
		} {
			if rest, found := strings.CutPrefix(name, strings.TrimRight(prefix, "*>")); found {
				customer, _, _ = strings.Cut(rest, ".")
			}
		}
	}
	if !subject.ValidID(customer) {
		return ""
	}
	return customer
}

// failure makes err one that a caller may see.
func failure(sequence uint64, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bus.ErrNoLetter):
		return &problem.Error{Code: problem.NotFound, Message: fmt.Sprintf("there is no dead letter %d", sequence)}
	case errors.Is(err, bus.ErrUnredrivable):
		return &problem.Error{Code: problem.Conflict, Message: "the dead letter does not say who gave it up: it can only be discarded"}
	}
	return problem.Public(err, "the dead letters cannot be reached at the moment")
}
