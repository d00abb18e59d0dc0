// Package reader answers questions about the audit log, limited to the rows of one customer.
package reader

import (
	"context"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	maxLimit    = 200
	maxResource = 256
)

// Reader reads the log.
type Reader struct{ pool *pgxpool.Pool }

// New makes a Reader. The pool acts as the role that row-level security holds to one customer.
func New(pool *pgxpool.Pool) *Reader {
	return &Reader{pool: pool}
}

// Events gives a page of the customer's rows, newest first. The error is a *problem.Error when the request is at fault.
func (r *Reader) Events(ctx context.Context, request query.AuditEventsRequest) (query.AuditEventsReply, error) {
	if err := check(request); err != nil {
		return query.AuditEventsReply{}, err
	}
	before := request.Before
	if before == 0 {
		before = math.MaxInt64
	}
	// One row more than asked for tells whether there is another page.
	statement, arguments := listEvents, []any{request.CustomerID, before, request.Limit + 1}
	if request.ResourceID != "" {
		statement, arguments = listResourceEvents, append(arguments, request.ResourceID)
	}
	var events []query.AuditEvent
	err := postgres.Query(ctx, r.pool, request.CustomerID, func(batch *pgx.Batch) {
		batch.Queue(statement, arguments...).Query(func(rows pgx.Rows) (err error) {
			events, err = pgx.CollectRows(rows, scan)
			return err
		})
	})
	if err != nil {
		return query.AuditEventsReply{}, fmt.Errorf("list audit events of %s: %w", request.CustomerID, err)
	}
	reply := query.AuditEventsReply{Events: events}
	if len(events) > request.Limit {
		reply.Events = events[:request.Limit]
		reply.Next = events[request.Limit-1].Sequence
	}
	return reply, nil
}

func check(request query.AuditEventsRequest) error {
	refuse := func(message string) error {
		return &problem.Error{Code: problem.InvalidRequest, Message: message}
	}
	switch {
	case !subject.ValidID(request.CustomerID):
		return refuse("customer_id " + subject.ErrInvalidID.Error())
	case len(request.ResourceID) > maxResource || !utf8.ValidString(request.ResourceID) || strings.Contains(request.ResourceID, "\x00"):
		return refuse(fmt.Sprintf("resource_id must be text of at most %d bytes", maxResource))
	case request.Limit < 1 || request.Limit > maxLimit:
		return refuse(fmt.Sprintf("limit must be 1 to %d", maxLimit))
	case request.Before < 0:
		return refuse("before must not be negative")
	}
	return nil
}

const (
	columns = `sequence, event_id, action_type, resource_type, resource_id, actor_type, actor_id, outcome, occurred_at, leaf`

	// listEvents says "of the customer, before the sequence" as a range of the index (customer_id, sequence). Said with
	// customer_id = $1, Postgres may walk the primary key through everybody's rows, or sort all rows of the customer: it cannot tell
	// how few the policy leaves out. With half a million rows of one customer that took 2.4 s instead of 0.1 ms.
	listEvents = `
		SELECT ` + columns + ` FROM audit.events
		WHERE (customer_id, sequence) < ($1, $2) AND customer_id >= $1
		ORDER BY customer_id DESC, sequence DESC LIMIT $3`

	// listResourceEvents asks two indexes: an execution's event ids all start with its id and "/", and "0" is the character after
	// "/"; everything else is in the index of resources.
	listResourceEvents = `
		SELECT ` + columns + ` FROM audit.events
		WHERE customer_id = $1 AND sequence < $2 AND resource_type = 'execution' AND event_id >= $4 || '/' AND event_id < $4 || '0'
		UNION ALL
		SELECT ` + columns + ` FROM audit.events
		WHERE customer_id = $1 AND sequence < $2 AND resource_type <> 'execution' AND resource_id = $4
		ORDER BY sequence DESC LIMIT $3`
)

func scan(row pgx.CollectableRow) (query.AuditEvent, error) {
	var e query.AuditEvent
	err := row.Scan(&e.Sequence, &e.EventID, &e.ActionType, &e.ResourceType, &e.ResourceID, &e.ActorType, &e.ActorID, &e.Outcome,
		&e.OccurredAt, (*[]byte)(&e.Leaf))
	e.OccurredAt = e.OccurredAt.UTC()
	return e, err
}
