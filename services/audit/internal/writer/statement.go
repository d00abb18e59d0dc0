package writer

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// queueAppend moves the end of the log on, from size before to that of the edge. It is ErrFenced when the log does not end there any more.
// It locks the head until the transaction ends.
func queueAppend(batch *pgx.Batch, before int64, edge *tree.Edge) {
	queueHead(batch, `UPDATE audit.head SET sequence = $2, tree_size = $2, root = $3, edge = $4 WHERE sequence = $1 AND tree_size = $1`,
		before, edge)
}

// queueCatchUp moves the tree on among the rows that are there already, and is otherwise as queueAppend.
func queueCatchUp(batch *pgx.Batch, before int64, edge *tree.Edge) {
	queueHead(batch, `UPDATE audit.head SET tree_size = $2, root = $3, edge = $4 WHERE tree_size = $1 AND sequence >= $2`, before, edge)
}

func queueHead(batch *pgx.Batch, statement string, before int64, edge *tree.Edge) {
	root := edge.Root()
	batch.Queue(statement, before, edge.Size(), root[:], edge.AppendBinary(nil)).Exec(func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() != 1 {
			return fmt.Errorf("move the end of the log on from %d: %w", before, postgres.ErrFenced)
		}
		return nil
	})
}

// queueRows inserts the rows with the sequences that follow head. It is no COPY because Postgres allows none into a table with
// row-level security; this costs the server the same.
func queueRows(batch *pgx.Batch, head int64, recorded time.Time, rows *columns) {
	const events = `
		INSERT INTO audit.events (sequence, recorded_at, occurred_at, event_id, customer_id, customer_sequence, action_type, resource_type,
			resource_id, actor_type, actor_id, outcome, trace_id, leaf)
		SELECT $1 + place, $2, occurred_at, event_id, customer_id, customer_sequence, action_type, resource_type,
			resource_id, actor_type, actor_id, outcome, trace_id, leaf
		FROM unnest($3::timestamptz[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::text[],
				$10::text[], $11::text[], $12::text[], $13::text[], $14::bytea[])
			WITH ORDINALITY AS new (occurred_at, event_id, customer_id, customer_sequence, action_type, resource_type, resource_id,
				actor_type, actor_id, outcome, trace_id, leaf, place)`
	const payloads = `
		INSERT INTO audit.payloads (sequence, customer_id, salt, data)
		SELECT $1 + place, customer_id, salt, data
		FROM unnest($2::text[], $3::bytea[], $4::bytea[]) WITH ORDINALITY AS new (customer_id, salt, data, place)`
	batch.Queue(events, head, recorded, rows.occurred, rows.event, rows.customer, rows.customerSequence, rows.action, rows.resourceType,
		rows.resource, rows.actorType, rows.actor, rows.outcome, rows.trace, rows.leaf)
	batch.Queue(payloads, head, rows.customer, rows.salt, rows.data)
}

func queueTiles(batch *pgx.Batch, tiles []tree.Tile) {
	const statement = `INSERT INTO audit.tiles (level, index, hashes) VALUES ($1, $2, $3)`
	for _, tile := range tiles {
		batch.Queue(statement, tile.Level, tile.Index, tile.Hashes)
	}
}

// columns holds rows as the arrays that a statement over unnest takes.
type columns struct {
	occurred                                                                          []time.Time
	event, customer, action, resourceType, resource, actorType, actor, outcome, trace []string
	customerSequence                                                                  []int64
	leaf, salt, data                                                                  [][]byte
	encoded                                                                           []byte
}

// leafSize is what a leaf usually takes, in bytes.
const leafSize = 640

func newColumns(n int) columns {
	return columns{
		occurred: make([]time.Time, n), event: make([]string, n), customer: make([]string, n), action: make([]string, n),
		resourceType: make([]string, n), resource: make([]string, n), actorType: make([]string, n), actor: make([]string, n),
		outcome: make([]string, n), trace: make([]string, n), customerSequence: make([]int64, n),
		leaf: make([][]byte, n), salt: make([][]byte, n), data: make([][]byte, n), encoded: make([]byte, 0, n*leafSize),
	}
}

// set writes row i and gives the leaf's canonical form.
func (c *columns) set(i int, e *entry, salt []byte) []byte {
	l := &e.leaf
	c.occurred[i], c.event[i], c.customer[i], c.action[i] = l.Time, l.EventID, l.CustomerID, l.Action
	c.customerSequence[i] = l.CustomerSequence
	c.resourceType[i], c.resource[i] = l.ResourceType, l.ResourceID
	c.actorType[i], c.actor[i], c.outcome[i], c.trace[i] = l.Actor.Type, l.Actor.ID, l.Outcome, l.TraceID
	c.salt[i] = salt
	if e.payload.Kept {
		c.data[i] = e.payload.Data
	}
	start := len(c.encoded)
	c.encoded = l.AppendJSON(c.encoded)
	c.leaf[i] = c.encoded[start:len(c.encoded):len(c.encoded)]
	return c.leaf[i]
}

// places finds where the customers' chains end. Said with customer_id = …, Postgres may walk the primary key through everybody's rows;
// as a range of the index (customer_id, sequence) it reads one row for each.
func places(ctx context.Context, pool *pgxpool.Pool, customers []string) (map[string]place, error) {
	const statement = `
		SELECT wanted.customer_id, coalesce(last.customer_sequence, 0), last.leaf
		FROM unnest($1::text[]) AS wanted (customer_id),
			LATERAL (SELECT customer_sequence, leaf FROM audit.events
				WHERE (customer_id, sequence) <= (wanted.customer_id, 9223372036854775807) AND customer_id >= wanted.customer_id
				ORDER BY customer_id DESC, sequence DESC LIMIT 1) AS last`
	rows, err := pool.Query(ctx, statement, customers)
	if err != nil {
		return nil, fmt.Errorf("look up the customers' chains: %w", err)
	}
	found := make(map[string]place, len(customers))
	var customer string
	var end place
	var stored []byte
	_, err = pgx.ForEachRow(rows, []any{&customer, &end.sequence, &stored}, func() error {
		end.hash = tree.LeafHash(stored)
		found[customer] = end
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look up the customers' chains: %w", err)
	}
	return found, nil
}

// rowsAfter reads leaves in their order, for a tree that has not all of them.
func rowsAfter(ctx context.Context, pool *pgxpool.Pool, after int64, limit int) ([]tree.Hash, error) {
	rows, err := pool.Query(ctx, `SELECT leaf FROM audit.events WHERE sequence > $1 ORDER BY sequence LIMIT $2`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read leaves after %d: %w", after, err)
	}
	var hashes []tree.Hash
	var stored []byte
	_, err = pgx.ForEachRow(rows, []any{&stored}, func() error {
		hashes = append(hashes, tree.LeafHash(stored))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read leaves after %d: %w", after, err)
	}
	return hashes, nil
}

// knownIDs gives the ids of the entries' events that are in the log.
func knownIDs(ctx context.Context, pool *pgxpool.Pool, entries []entry) (map[string]struct{}, error) {
	ids := make([]string, len(entries))
	for i := range entries {
		ids[i] = entries[i].leaf.EventID
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
