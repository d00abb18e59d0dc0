// Package activity records what people and services do through ingest, for the audit log.
package activity

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/event"
)

// Author is who does something, and in which trace.
type Author struct {
	Actor event.Actor
	// Trace is a W3C traceparent.
	Trace string
}

// Entry is something that was done.
type Entry struct {
	// Customer is empty for what belongs to none.
	Customer string
	// Action is one of event's; what stands before its point is the type of the resource.
	Action     string
	ResourceID string
	Author     Author
	// Before and After are what event.Changes compares, Secret the names of members whose values must not be told.
	Before, After any
	Secret        []string
	// Outcome is "success" when it is empty.
	Outcome event.Status
}

// Store stores an entry in the transaction of what was done; the caller wakes the outbox after the commit. A change that changes nothing is
// not stored.
func Store(ctx context.Context, tx pgx.Tx, events *outbox.Outbox, now time.Time, entry *Entry) error {
	changes, err := event.Changes(entry.Before, entry.After, entry.Secret...)
	if err != nil {
		return err
	}
	if changes == nil && entry.Before != nil && entry.After != nil {
		return nil
	}
	resource, _, _ := strings.Cut(entry.Action, ".")
	return events.Activity(ctx, tx, event.Activity{
		CustomerID: entry.Customer, ActionType: entry.Action, ResourceType: resource, ResourceID: entry.ResourceID, Actor: entry.Author.Actor,
		Changes: changes, Outcome: string(cmp.Or(entry.Outcome, event.StatusSuccess)), OccurredAt: now,
	}, entry.Author.Trace)
}

// Recorder records what is done outside of Postgres.
type Recorder struct {
	pool   *pgxpool.Pool
	outbox *outbox.Outbox
	clock  clock.Clock
}

// NewRecorder makes a Recorder. The pool acts as the role galley_ingest_reader.
func NewRecorder(pool *pgxpool.Pool, events *outbox.Outbox, now clock.Clock) *Recorder {
	return &Recorder{pool: pool, outbox: events, clock: now}
}

// Record stores entries in a transaction of their own. They are of one customer.
func (r *Recorder) Record(ctx context.Context, entries ...Entry) error {
	if len(entries) == 0 {
		return nil
	}
	err := postgres.Transact(ctx, r.pool, entries[0].Customer, func(tx pgx.Tx) error {
		for i := range entries {
			if err := Store(ctx, tx, r.outbox, r.clock(), &entries[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		r.outbox.Wake()
	}
	return err
}
