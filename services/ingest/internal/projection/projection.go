// Package projection keeps the status of every execution in the table ingest.executions: a read model of the journal that can be
// made again from it at any time.
package projection

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	schema = "ingest"
	name   = "executions"
	lockID = 7311
	batch  = 2000
	// linger lets most executions be born and end in the same batch, which then writes one row instead of two versions of it. A query
	// by id that comes earlier reads the journal.
	linger = 200 * time.Millisecond
)

// Projection writes the table.
type Projection struct {
	bus     *bus.Bus
	pool    *pgxpool.Pool
	log     zerolog.Logger
	metrics *metrics
}

// New makes a Projection over a pool that acts as the role galley_ingest.
func New(messages *bus.Bus, pool *pgxpool.Pool, log zerolog.Logger) *Projection {
	return &Projection{bus: messages, pool: pool, log: log, metrics: newMetrics()}
}

// Run follows the journal until ctx ends, in one process at a time.
func (p *Projection) Run(ctx context.Context) error {
	report := func(err error) { p.log.Warn().Err(err).Msg("projection interrupted") }
	return postgres.Lead(ctx, p.pool, lockID, report, func(ctx context.Context) error {
		return p.bus.Follow(ctx, bus.Tail{
			Stream: subject.StreamExecutions, Name: name, Batch: batch, Linger: linger,
			Filter: subject.ExecutionMilestones,
			Position: func(ctx context.Context, key string) (uint64, error) {
				return postgres.Position(ctx, p.pool, schema, key)
			},
			Apply: p.apply,
		})
	})
}

func (p *Projection) apply(ctx context.Context, after bus.Place, messages []bus.Message) error {
	changes := newChanges(len(messages))
	for _, message := range messages {
		record, _, err := journal.Decode(message)
		if err == nil && record.Kind != event.Funded {
			err = changes.add(&record)
		}
		if err != nil {
			// A malformed event cannot be projected by trying again; the audit log has it.
			p.log.Error().Err(err).Uint64("sequence", message.Sequence).Msg("event not projected")
		}
	}
	var rows []written
	err := pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		if err := postgres.Advance(ctx, tx, schema, after.Key, after.Sequence, messages[len(messages)-1].Sequence); err != nil {
			return err
		}
		var err error
		rows, err = changes.write(ctx, tx)
		return err
	})
	if err == nil {
		p.metrics.count(after, messages, rows)
	}
	return err
}

// changes are the rows of one batch, as columns: at most one row for each execution.
type changes struct {
	rows      map[string]int
	ids       []uuid.UUID
	customers []string
	agents    []string
	recipes   []string
	versions  []int
	statuses  []string
	accepted  []time.Time
	completed []*time.Time
	durations []*int64
	charged   []int64
	codes     []string
	responses [][]byte
}

func newChanges(size int) *changes {
	return &changes{rows: make(map[string]int, size)}
}

var errKind = errors.New("neither accepted nor completed")

func (c *changes) add(record *journal.Record) error {
	occurred, err := time.Parse(time.RFC3339Nano, record.Header.Get(event.HeaderTime))
	if err != nil {
		return fmt.Errorf("event %s: time: %w", record.ID(), err)
	}
	switch record.Kind {
	case event.Accepted:
		_, err := c.row(record, occurred)
		return err
	case event.Completed:
		return c.complete(record, occurred)
	case event.Funded, event.Started, event.Step, event.Waiting:
	}
	return fmt.Errorf("event %s: %w", record.ID(), errKind)
}

func (c *changes) complete(record *journal.Record, occurred time.Time) error {
	charged, err := record.Credits()
	if err != nil {
		return err
	}
	duration, err := strconv.ParseInt(record.Header.Get(event.HeaderDuration), 10, 64)
	if err != nil {
		return fmt.Errorf("event %s: duration: %w", record.ID(), err)
	}
	status := event.Status(record.Header.Get(event.HeaderStatus))
	if !status.Terminal() {
		return fmt.Errorf("event %s: status %q", record.ID(), status)
	}
	// When the accepted event is not at hand, its time is taken to be the beginning of the work; its row normally exists already.
	i, err := c.row(record, occurred.Add(-time.Duration(duration)*time.Millisecond))
	if err != nil {
		return err
	}
	c.statuses[i], c.completed[i], c.durations[i] = string(status), &occurred, &duration
	c.charged[i], c.codes[i], c.responses[i] = charged, record.Header.Get(event.HeaderCode), record.Data
	return nil
}

// row gives the index of the execution's row, which is made where there is none.
func (c *changes) row(record *journal.Record, accepted time.Time) (int, error) {
	if i, found := c.rows[record.Execution.ID]; found {
		return i, nil
	}
	id, err := uuid.Parse(record.Execution.ID)
	if err != nil {
		return 0, fmt.Errorf("event %s: execution id: %w", record.ID(), err)
	}
	recipe, err := record.Recipe()
	if err != nil {
		return 0, err
	}
	i := len(c.ids)
	c.rows[record.Execution.ID] = i
	c.ids = append(c.ids, id)
	c.customers = append(c.customers, record.Execution.Customer)
	c.agents = append(c.agents, recipe.AgentID)
	c.recipes = append(c.recipes, recipe.RecipeID)
	c.versions = append(c.versions, recipe.Version)
	c.statuses = append(c.statuses, string(event.StatusAccepted))
	c.accepted = append(c.accepted, accepted)
	c.completed = append(c.completed, nil)
	c.durations = append(c.durations, nil)
	c.charged = append(c.charged, 0)
	c.codes = append(c.codes, "")
	c.responses = append(c.responses, nil)
	return i, nil
}

// upsert is monotonic: a row that has ended never changes again, and an accepted event never changes a row.
const upsert = `
INSERT INTO ingest.executions AS stored (execution_id, customer_id, agent_id, recipe_id, recipe_version, status, accepted_at,
       completed_at, duration_ms, charged, error_code, response)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::timestamptz[],
       $8::timestamptz[], $9::bigint[], $10::bigint[], $11::text[], $12::bytea[])
ON CONFLICT (execution_id) DO UPDATE
   SET status = excluded.status, completed_at = excluded.completed_at, duration_ms = excluded.duration_ms,
       charged = excluded.charged, error_code = excluded.error_code, response = excluded.response
 WHERE stored.completed_at IS NULL AND excluded.completed_at IS NOT NULL
RETURNING stored.xmax = 0, stored.status, extract(epoch FROM stored.completed_at - stored.accepted_at)::float8`

// write gives what became of the rows that changed.
func (c *changes) write(ctx context.Context, tx pgx.Tx) ([]written, error) {
	if len(c.ids) == 0 {
		return nil, nil
	}
	result, err := tx.Query(ctx, upsert, c.ids, c.customers, c.agents, c.recipes, c.versions, c.statuses, c.accepted,
		c.completed, c.durations, c.charged, c.codes, c.responses)
	if err != nil {
		return nil, fmt.Errorf("write %d executions: %w", len(c.ids), err)
	}
	rows := make([]written, 0, len(c.ids))
	var row written
	_, err = pgx.ForEachRow(result, []any{&row.isNew, &row.status, &row.seconds}, func() error {
		rows = append(rows, row)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("write %d executions: %w", len(c.ids), err)
	}
	return rows, nil
}

// Rebuild forgets what the journal can tell again and has the projection read the journal from its beginning. Executions that are
// older than the journal are kept. It may run while the service does.
func Rebuild(ctx context.Context, pool *pgxpool.Pool, messages *bus.Bus) (forgotten int64, err error) {
	oldest, found, err := oldestAccepted(ctx, messages)
	if err != nil || !found {
		return 0, err
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		// The position is locked first, as every writer does: what runs at the moment ends before, or is fenced.
		if _, err := tx.Exec(ctx, `UPDATE ingest.positions SET sequence = 0`); err != nil {
			return fmt.Errorf("reset position: %w", err)
		}
		tag, err := tx.Exec(ctx, `DELETE FROM ingest.executions WHERE accepted_at >= $1`, oldest)
		if err != nil {
			return fmt.Errorf("forget executions: %w", err)
		}
		forgotten = tag.RowsAffected()
		return nil
	})
	return forgotten, err
}

// oldestAccepted is when the first execution that the journal still holds was accepted, as precisely as its row has it.
func oldestAccepted(ctx context.Context, messages *bus.Bus) (oldest time.Time, found bool, err error) {
	stream, err := messages.JS.Stream(ctx, subject.StreamExecutions)
	if err != nil {
		return time.Time{}, false, fmt.Errorf("look up the journal: %w", err)
	}
	first, err := stream.GetMsg(ctx, stream.CachedInfo().State.FirstSeq,
		jetstream.WithGetMsgSubject(subject.ExecutionMilestone(string(event.Accepted))))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return time.Time{}, false, nil
	}
	if err != nil {
		return time.Time{}, false, fmt.Errorf("read the oldest event: %w", err)
	}
	oldest, err = time.Parse(time.RFC3339Nano, first.Header.Get(event.HeaderTime))
	if err != nil {
		return time.Time{}, false, fmt.Errorf("read the oldest event's time: %w", err)
	}
	return oldest.Truncate(time.Microsecond), true, nil
}
