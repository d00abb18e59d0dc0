package writer

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/services/audit/internal/leaf"
)

// advanceHead takes the next count sequences and gives the one before them. It locks the head until the transaction ends.
func advanceHead(ctx context.Context, tx pgx.Tx, count int) (int64, error) {
	const statement = `UPDATE audit.head SET sequence = sequence + $1 RETURNING sequence - $1`
	var head int64
	if err := tx.QueryRow(ctx, statement, int64(count)).Scan(&head); err != nil {
		return 0, fmt.Errorf("advance the head of the log: %w", err)
	}
	return head, nil
}

// insert stores the leaves with the sequences that follow head. It is no COPY because Postgres allows none into a table with
// row-level security; this costs the server the same.
func insert(ctx context.Context, tx pgx.Tx, head int64, recorded time.Time, leaves []leaf.Leaf) error {
	const statement = `
		INSERT INTO audit.events (sequence, recorded_at, occurred_at, event_id, customer_id, action_type, resource_type, resource_id,
			actor_type, actor_id, outcome, trace_id, leaf)
		SELECT $1 + place, $2, occurred_at, event_id, customer_id, action_type, resource_type, resource_id,
			actor_type, actor_id, outcome, trace_id, leaf
		FROM unnest($3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
				$9::text[], $10::text[], $11::text[], $12::text[], $13::bytea[])
			WITH ORDINALITY AS new (occurred_at, event_id, customer_id, action_type, resource_type, resource_id,
				actor_type, actor_id, outcome, trace_id, leaf, place)`
	rows := newColumns(leaves)
	_, err := tx.Exec(ctx, statement, head, recorded, rows.occurred, rows.event, rows.customer, rows.action, rows.resourceType,
		rows.resource, rows.actorType, rows.actor, rows.outcome, rows.trace, rows.leaf)
	if err != nil {
		return fmt.Errorf("insert %d rows after %d: %w", len(leaves), head, err)
	}
	return nil
}

// columns holds rows as the arrays that a statement over unnest takes.
type columns struct {
	occurred                                                                          []time.Time
	event, customer, action, resourceType, resource, actorType, actor, outcome, trace []string
	leaf                                                                              [][]byte
}

// leafSize is what a leaf usually takes, in bytes.
const leafSize = 512

func newColumns(leaves []leaf.Leaf) columns {
	n := len(leaves)
	c := columns{
		occurred: make([]time.Time, n), event: make([]string, n), customer: make([]string, n), action: make([]string, n),
		resourceType: make([]string, n), resource: make([]string, n), actorType: make([]string, n), actor: make([]string, n),
		outcome: make([]string, n), trace: make([]string, n), leaf: make([][]byte, n),
	}
	encoded := make([]byte, 0, n*leafSize)
	for i := range leaves {
		l := &leaves[i]
		c.occurred[i], c.event[i], c.customer[i], c.action[i] = l.Time, l.EventID, l.CustomerID, l.Action
		c.resourceType[i], c.resource[i] = l.ResourceType, l.ResourceID
		c.actorType[i], c.actor[i], c.outcome[i], c.trace[i] = l.Actor.Type, l.Actor.ID, l.Outcome, l.TraceID
		start := len(encoded)
		encoded = l.AppendJSON(encoded)
		c.leaf[i] = encoded[start:]
	}
	return c
}

// knownIDs gives the ids of the leaves' events that are in the log.
func knownIDs(ctx context.Context, pool *pgxpool.Pool, leaves []leaf.Leaf) (map[string]struct{}, error) {
	ids := make([]string, len(leaves))
	for i := range leaves {
		ids[i] = leaves[i].EventID
	}
	rows, err := pool.Query(ctx, `SELECT event_id FROM audit.events WHERE event_id = ANY($1)`, ids)
	if err != nil {
		return nil, fmt.Errorf("look up known events: %w", err)
	}
	known := make(map[string]struct{}, len(ids))
	var id string
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		known[id] = struct{}{}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look up known events: %w", err)
	}
	return known, nil
}
