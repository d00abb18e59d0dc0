// Package erase deletes what the audit log holds beside its leaves, for good: the salt and the data of rows that one customer names. The leaves,
// and so the tree and every proof, stay as they are.
package erase

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/refusal"
)

const (
	// Limits of one transaction: how many rows of a resource it erases, and how many rows it looks through for those of an actor.
	rowsOfResource = 5_000
	rowsForActor   = 20_000
)

// Eraser erases.
type Eraser struct {
	pool   *pgxpool.Pool
	events *outbox.Outbox
	clock  clock.Clock
	// resourceRows and actorRows are the limits of one transaction.
	resourceRows, actorRows int
}

// New makes an Eraser. The pool acts as the role that may erase.
func New(pool *pgxpool.Pool, events *outbox.Outbox, now clock.Clock) *Eraser {
	return &Eraser{pool: pool, events: events, clock: now, resourceRows: rowsOfResource, actorRows: rowsForActor}
}

// page is a part of what is to be erased.
type page struct {
	sequences []int64
	// next is where the next part begins, 0 when there is none.
	next int64
}

// Erase erases one batch, and stores in the same transaction an activity that says so: nothing is ever missing without a row that tells who
// wanted that. When it finds nothing at all, there is a row, too. The error is a *problem.Error when the request is at fault.
func (e *Eraser) Erase(ctx context.Context, request query.AuditErasureRequest) (query.AuditErasureReply, error) {
	if err := check(&request); err != nil {
		return query.AuditErasureReply{}, err
	}
	var reply query.AuditErasureReply
	err := postgres.Transact(ctx, e.pool, request.CustomerID, func(tx pgx.Tx) error {
		found, err := e.find(ctx, tx, &request)
		if err != nil {
			return err
		}
		const statement = `DELETE FROM audit.payloads WHERE customer_id = $1 AND sequence = ANY($2)`
		tag, err := tx.Exec(ctx, statement, request.CustomerID, found.sequences)
		if err != nil {
			return fmt.Errorf("delete payloads: %w", err)
		}
		reply = query.AuditErasureReply{Erased: tag.RowsAffected(), Next: found.next}
		if reply.Erased == 0 && (request.After > 0 || reply.Next > 0) {
			return nil
		}
		return e.record(ctx, tx, &request, reply.Erased)
	})
	if err != nil {
		return query.AuditErasureReply{}, fmt.Errorf("erase for %s: %w", request.CustomerID, err)
	}
	e.events.Wake()
	return reply, nil
}

// record tells what was asked for and what came of it, in data that can be erased in turn.
func (e *Eraser) record(ctx context.Context, tx pgx.Tx, request *query.AuditErasureRequest, erased int64) error {
	changes, err := event.Changes(nil, struct {
		EventIDs     []string `json:"event_ids,omitempty"`
		ResourceType string   `json:"resource_type,omitempty"`
		ResourceID   string   `json:"resource_id,omitempty"`
		ActorID      string   `json:"actor_id,omitempty"`
		Erased       int64    `json:"erased"`
	}{request.EventIDs, request.ResourceType, request.ResourceID, request.ActorID, erased})
	if err != nil {
		return err
	}
	return e.events.Activity(ctx, tx, event.Activity{
		CustomerID: request.CustomerID, ActionType: event.ActionAuditErased, ResourceType: event.ResourceAudit, ResourceID: request.CustomerID,
		Actor: request.Actor, Changes: changes, Outcome: string(event.StatusSuccess), OccurredAt: e.clock().UTC().Truncate(time.Microsecond),
	}, "")
}

func (e *Eraser) find(ctx context.Context, tx pgx.Tx, request *query.AuditErasureRequest) (page, error) {
	switch {
	case len(request.EventIDs) > 0:
		return ofEvents(ctx, tx, request)
	case request.ResourceID != "":
		return e.ofResource(ctx, tx, request)
	}
	return e.ofActor(ctx, tx, request)
}

func ofEvents(ctx context.Context, tx pgx.Tx, request *query.AuditErasureRequest) (page, error) {
	const statement = `SELECT sequence FROM audit.events WHERE customer_id = $1 AND event_id = ANY($2)`
	sequences, err := collect(ctx, tx, statement, request.CustomerID, request.EventIDs)
	return page{sequences: sequences}, err
}

// ofResource asks two indexes, as the reader does: an execution's own events are found by their ids, which begin with its id and "/" ("0" is the
// character after "/"); everything else is in the index of resources.
func (e *Eraser) ofResource(ctx context.Context, tx pgx.Tx, request *query.AuditErasureRequest) (page, error) {
	const statement = `
		SELECT sequence FROM audit.events
		WHERE customer_id = $1 AND resource_type = $2 AND resource_id = $3 AND sequence > $4
			AND action_type NOT IN ('execution.accepted', 'execution.debited', 'execution.completed')
		UNION ALL
		SELECT sequence FROM audit.events
		WHERE customer_id = $1 AND $2 = 'execution' AND event_id >= $3 || '/' AND event_id < $3 || '0' AND sequence > $4
			AND action_type IN ('execution.accepted', 'execution.debited', 'execution.completed')
		ORDER BY sequence LIMIT $5`
	sequences, err := collect(ctx, tx, statement,
		request.CustomerID, request.ResourceType, request.ResourceID, request.After, e.resourceRows)
	if err != nil || len(sequences) < e.resourceRows {
		return page{sequences: sequences}, err
	}
	return page{sequences: sequences, next: sequences[len(sequences)-1]}, nil
}

// ofActor walks through the customer's rows: there is no index of actors, and erasures are rare.
func (e *Eraser) ofActor(ctx context.Context, tx pgx.Tx, request *query.AuditErasureRequest) (page, error) {
	const statement = `
		WITH seen AS MATERIALIZED (
			SELECT sequence, actor_id FROM audit.events
			WHERE (customer_id, sequence) > ($1, $3) AND customer_id <= $1
			ORDER BY customer_id, sequence LIMIT $4
		)
		SELECT coalesce(array_agg(sequence) FILTER (WHERE actor_id = $2), '{}'), coalesce(max(sequence), 0), count(*) FROM seen`
	var found page
	var last int64
	var seen int
	err := tx.QueryRow(ctx, statement, request.CustomerID, request.ActorID, request.After, e.actorRows).Scan(&found.sequences, &last, &seen)
	if err != nil {
		return page{}, fmt.Errorf("look for the actor's rows: %w", err)
	}
	if seen == e.actorRows {
		found.next = last
	}
	return found, nil
}

func collect(ctx context.Context, tx pgx.Tx, statement string, arguments ...any) ([]int64, error) {
	rows, err := tx.Query(ctx, statement, arguments...)
	if err != nil {
		return nil, fmt.Errorf("look for rows: %w", err)
	}
	sequences, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("look for rows: %w", err)
	}
	return sequences, nil
}

func check(request *query.AuditErasureRequest) error {
	if err := refusal.Customer(request.CustomerID); err != nil {
		return err
	}
	ways := 0
	for _, named := range []bool{len(request.EventIDs) > 0, request.ResourceType != "" || request.ResourceID != "", request.ActorID != ""} {
		if named {
			ways++
		}
	}
	switch {
	case ways != 1:
		return refusal.Of("name one of event_ids, resource_type with resource_id, or actor_id")
	case (request.ResourceType == "") != (request.ResourceID == ""):
		return refusal.Of("resource_type and resource_id go together")
	case len(request.EventIDs) > query.MaxErasedEvents:
		return refusal.Of("event_ids must be at most %d", query.MaxErasedEvents)
	case request.After < 0:
		return refusal.Of("after must not be negative")
	}
	for _, id := range append([]string{request.ResourceType, request.ResourceID, request.ActorID}, request.EventIDs...) {
		if err := refusal.Text("each id", id); err != nil {
			return err
		}
	}
	return nil
}
