// Package reader answers questions about the rows of the audit log, limited to those of one customer unless the operator asks.
//
// Every question reads a bounded number of rows. Where there is an index for what is asked, it is as many as are wanted; where there is
// none, a page ends after a number of rows that were looked at, whatever was found among them, and the next one goes on from there.
package reader

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/refusal"
)

const (
	maxLimit = 200
	// maxWalk is how many rows a page looks at: some 20 ms of Postgres.
	maxWalk = 10_000
	// maxPage is about how many bytes a page has: a message of NATS must hold it.
	maxPage = 384 << 10
)

// Reader reads the log.
type Reader struct {
	pool *pgxpool.Pool
	walk int
}

// New makes a Reader. The pool acts as the role that row-level security holds to one customer.
func New(pool *pgxpool.Pool) *Reader {
	return &Reader{pool: pool, walk: maxWalk}
}

// Events gives a page of rows, newest first. The error is a *problem.Error when the request is at fault.
func (r *Reader) Events(ctx context.Context, request query.AuditEventsRequest) (query.AuditEventsReply, error) {
	if err := check(&request); err != nil {
		return query.AuditEventsReply{}, err
	}
	reply, err := r.events(ctx, &request)
	if err != nil {
		return query.AuditEventsReply{}, fmt.Errorf("list audit events of %s: %w", request.CustomerID, err)
	}
	return reply, nil
}

func (r *Reader) events(ctx context.Context, request *query.AuditEventsRequest) (query.AuditEventsReply, error) {
	s := scopeOf(request.CustomerID)
	span, err := r.span(ctx, s, request)
	if err != nil || span.after+1 >= span.before {
		return query.AuditEventsReply{}, err
	}
	// One row more than asked for tells whether there is another page.
	wanted := request.Limit + 1
	var asked statement
	var passed *statement
	switch filters := filtersOf(request); {
	case request.ResourceID != "":
		asked = resourceRows(s, span, request.ResourceID, filters, wanted)
	case len(filters) == 0:
		asked = rows(s, span, kindOf(request), wanted)
	default:
		asked = filteredRows(s, span, kindOf(request), filters, r.walk, wanted)
		end := lastWalked(s, span, kindOf(request), r.walk)
		passed = &end
	}
	found, err := r.read(ctx, s, asked)
	if err != nil {
		return query.AuditEventsReply{}, err
	}
	reply := query.AuditEventsReply{}
	switch {
	case len(found) > request.Limit:
		found = found[:request.Limit]
		reply.Next = found[request.Limit-1].Sequence
	case passed != nil:
		if reply.Next, err = r.sequence(ctx, s, *passed); err != nil {
			return query.AuditEventsReply{}, err
		}
	}
	if err := r.complete(ctx, s, found); err != nil {
		return query.AuditEventsReply{}, err
	}
	if n := fitting(found); n < len(found) {
		found = found[:n]
		reply.Next = found[n-1].Sequence
	}
	reply.Events = found
	return reply, nil
}

func check(request *query.AuditEventsRequest) error {
	if err := refusal.Customer(request.CustomerID, audit.Everyone, query.AuditNobody); err != nil {
		return err
	}
	for _, text := range []struct{ name, value string }{
		{"action_type", request.ActionType},
		{"resource_type", request.ResourceType},
		{"resource_id", request.ResourceID},
		{"actor_type", request.ActorType},
		{"actor_id", request.ActorID},
		{"outcome", request.Outcome},
	} {
		if err := refusal.Text(text.name, text.value); err != nil {
			return err
		}
	}
	switch {
	case request.Limit < 1 || request.Limit > maxLimit:
		return refusal.Of("limit must be 1 to %d", maxLimit)
	case request.Before < 0:
		return refusal.Of("before must not be negative")
	case request.From != nil && request.To != nil && !request.From.Before(*request.To):
		return refusal.Of("from must be before to")
	}
	return nil
}

// span is a part of the log: the rows between two sequences, neither included.
type span struct{ after, before int64 }

// span finds what part of the log is asked for. It is fixed for a page, which may ask twice.
func (r *Reader) span(ctx context.Context, s scope, request *query.AuditEventsRequest) (span, error) {
	found := span{before: request.Before}
	if found.before == 0 {
		found.before = math.MaxInt64
		if len(filtersOf(request)) > 0 {
			end, err := r.sequence(ctx, s, statement{text: `SELECT sequence FROM audit.head`})
			if err != nil {
				return span{}, err
			}
			found.before = end + 1
		}
	}
	for _, limit := range []struct {
		at    *time.Time
		apply func(rows int64)
	}{
		{request.From, func(rows int64) { found.after = rows }},
		{request.To, func(rows int64) { found.before = min(found.before, rows+1) }},
	} {
		if limit.at == nil {
			continue
		}
		rows, err := r.sequence(ctx, s, recordedBefore(s, *limit.at))
		if err != nil {
			return span{}, err
		}
		limit.apply(rows)
	}
	return found, nil
}

// sequence gives the one sequence that the statement finds, 0 when it finds none.
func (r *Reader) sequence(ctx context.Context, s scope, asked statement) (found int64, err error) {
	err = postgres.Query(ctx, r.pool, s.setting, func(batch *pgx.Batch) {
		batch.Queue(asked.text, asked.arguments...).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				if err := rows.Scan(&found); err != nil {
					return err
				}
			}
			return rows.Err()
		})
	})
	return found, err
}

func (r *Reader) read(ctx context.Context, s scope, asked statement) (found []query.AuditEvent, err error) {
	err = postgres.Query(ctx, r.pool, s.setting, func(batch *pgx.Batch) {
		batch.Queue(asked.text, asked.arguments...).Query(func(rows pgx.Rows) (err error) {
			found, err = pgx.CollectRows(rows, scan)
			return err
		})
	})
	return found, err
}

func scan(row pgx.CollectableRow) (query.AuditEvent, error) {
	var e query.AuditEvent
	var own *int64
	err := row.Scan(&e.Sequence, &e.EventID, &e.CustomerID, &own, &e.ActionType, &e.ResourceType, &e.ResourceID, &e.ActorType, &e.ActorID,
		&e.Outcome, &e.TraceID, &e.OccurredAt, &e.RecordedAt, (*[]byte)(&e.Leaf))
	e.OccurredAt, e.RecordedAt = e.OccurredAt.UTC(), e.RecordedAt.UTC()
	if own != nil {
		e.CustomerSequence = *own
	}
	return e, err
}
