// Package writer appends events to the audit log: it follows the streams and stores a row for every event, once, in one order
// without a gap.
package writer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/audit/internal/leaf"
)

const (
	// lockID is held by the process that writes.
	lockID = 7313
	batch  = 1000
	// pause follows a transaction that took all there was, so that under load one transaction takes many events: small ones cost
	// several times as much for each row. It is also how late a row can be.
	pause = 20 * time.Millisecond
)

// Writer is the one that appends to the log. Other processes' writers stand by.
type Writer struct {
	pool   *pgxpool.Pool
	bus    *bus.Bus
	signer *Signer
	clock  clock.Clock
	log    zerolog.Logger

	// appending is held while a batch is stored: both streams end in one log.
	appending sync.Mutex
	// tip is where the log ends, nil when that must be read.
	tip *tip
}

// New makes a Writer. The pool acts as the role that may append; four connections are enough.
func New(pool *pgxpool.Pool, messages *bus.Bus, signer *Signer, now clock.Clock, log zerolog.Logger) *Writer {
	return &Writer{pool: pool, bus: messages, signer: signer, clock: now, log: log}
}

// Run appends, or stands by while another process does, until ctx ends.
func (w *Writer) Run(ctx context.Context) error {
	report := func(err error) { w.log.Warn().Err(err).Msg("audit writer interrupted, trying again") }
	return postgres.Lead(ctx, w.pool, lockID, report, w.follow)
}

// follow appends the events of both streams. It needs no lock to be correct, only not to do the work twice.
func (w *Writer) follow(ctx context.Context) error {
	return lifecycle.Run(ctx,
		func(ctx context.Context) error {
			return w.bus.Follow(ctx, w.tail(subject.StreamExecutions, subject.ExecutionMilestones))
		},
		func(ctx context.Context) error {
			return w.bus.Follow(ctx, w.tail(subject.StreamActivity, ">"))
		},
		w.signer.run,
	)
}

func (w *Writer) tail(stream, filter string) bus.Tail {
	return bus.Tail{
		Stream: stream, Name: stream, Filter: filter, Batch: batch,
		Position: func(ctx context.Context, key string) (uint64, error) {
			return postgres.Position(ctx, w.pool, query.ServiceAudit, key)
		},
		Apply: func(ctx context.Context, after bus.Place, messages []bus.Message) error {
			if err := w.append(ctx, stream, after, messages); err != nil {
				return err
			}
			if len(messages) < batch {
				lifecycle.Sleep(ctx, pause)
			}
			return nil
		},
	}
}

// append stores the messages' rows and the position of the last one. Nearly always every event is new, so that is what it tries
// first; the unique index tells when one is not, and only then are the known ones looked up and left out.
func (w *Writer) append(ctx context.Context, stream string, after bus.Place, messages []bus.Message) error {
	entries := make([]entry, len(messages))
	for i, message := range messages {
		entries[i].leaf, entries[i].payload = leaf.Of(&leaf.Event{
			Stream: stream, Sequence: message.Sequence, Stored: message.Stored,
			Subject: message.Subject(), Header: message.Headers(), Data: message.Data(),
		})
	}
	last := messages[len(messages)-1].Sequence
	err := w.store(ctx, after, last, entries)
	if repeatsEvent(err) {
		if entries, err = w.unknown(ctx, entries); err != nil {
			return err
		}
		err = w.store(ctx, after, last, entries)
	}
	if err != nil {
		return err
	}
	w.warn(entries)
	return nil
}

// unknown leaves out the events that are in the log, and repetitions among the entries themselves.
func (w *Writer) unknown(ctx context.Context, entries []entry) ([]entry, error) {
	known, err := knownIDs(ctx, w.pool, entries)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(entries, func(e entry) bool {
		_, found := known[e.leaf.EventID]
		known[e.leaf.EventID] = struct{}{}
		return found
	}), nil
}

func (w *Writer) warn(entries []entry) {
	for i := range entries {
		if l := &entries[i].leaf; l.Action == leaf.ActionMalformed {
			w.log.Warn().Str("event", l.ResourceID).Msg("malformed event, logged as such: its data in the log says what is wrong")
		}
	}
}

const (
	uniqueViolation = "23505"
	eventIndex      = "events_event_id"
)

func repeatsEvent(err error) bool {
	var failure *pgconn.PgError
	return errors.As(err, &failure) && failure.Code == uniqueViolation && failure.ConstraintName == eventIndex
}
