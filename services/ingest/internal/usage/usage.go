// Package usage reports what customers have used: executions, steps, credits and what was measured, by customer, day, recipe and kind of
// step. It adds up the responses in the table of executions when it is asked, so that executions pay nothing for it.
package usage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/credit"
)

const (
	// maxAtOnce is how many reports are made at the same time: each keeps a processor busy, for about 3 s for 100,000 executions.
	maxAtOnce = 1
	// maxRows is the longest report.
	maxRows = 20_000
)

var (
	// ErrBusy says that the time was over while other reports were being made.
	ErrBusy = errors.New("too many reports are being made at the moment")
	// ErrTooLong says that the report has too many rows.
	ErrTooLong = fmt.Errorf("the report has more than %d rows: ask for fewer days, or group by less", maxRows)
)

// Request says what is asked for.
type Request struct {
	// Customer is empty for all customers.
	Customer string
	// From and To bound when the executions were accepted; To is the first moment after the period. Days are those of From's time zone.
	From, To time.Time
	By       Grouping
}

// Grouping says what each row of a report is about.
type Grouping struct{ Customer, Day, Recipe, Kind bool }

// Key is what a row is about; what the report is not grouped by is empty.
type Key struct {
	Customer string `json:"customer_id,omitempty"`
	Day      string `json:"day,omitempty" format:"date"`
	Agent    string `json:"agent_id,omitempty"`
	Recipe   string `json:"recipe_id,omitempty"`
	// Kind is also empty for what belongs to no step.
	Kind string `json:"kind,omitempty" doc:"The kind of the steps; absent for what belongs to no step"`
}

// Figures are sums.
type Figures struct {
	// Executions are those that have ended. Grouped by kind, one with several kinds of steps counts for each.
	Executions int64        `json:"executions"`
	Steps      int64        `json:"steps"`
	Credits    credit.Micro `json:"credits"`
	// InputTokens and OutputTokens are those of language models, Units whatever recipes and workers count.
	InputTokens  int64 `json:"input_tokens"`
	OutputTokens int64 `json:"output_tokens"`
	Units        int64 `json:"units"`
}

// Row is a row of a report.
type Row struct {
	Key
	Figures
}

// Report is what was used. Rows are in the order of their keys.
type Report struct {
	Rows  []Row
	Total Figures
	// UnderWay counts the executions of the period that have not ended: they are in no figure yet.
	UnderWay int64
}

// Reader makes reports.
type Reader struct {
	pool   *pgxpool.Pool
	places chan struct{}
}

// NewReader makes a Reader over a pool that acts as the role galley_ingest_reader.
func NewReader(pool *pgxpool.Pool) *Reader {
	return &Reader{pool: pool, places: make(chan struct{}, maxAtOnce)}
}

// Report adds up what was used, in its turn. It is ErrBusy or ErrTooLong, or the database failed.
func (r *Reader) Report(ctx context.Context, request Request) (Report, error) {
	select {
	case r.places <- struct{}{}:
		defer func() { <-r.places }()
	case <-ctx.Done():
		return Report{}, ErrBusy
	}
	customers := []string{request.Customer}
	if request.Customer == "" {
		var err error
		if customers, err = r.customers(ctx); err != nil {
			return Report{}, err
		}
	}
	sums := newTally(request)
	for _, customer := range customers {
		if err := r.add(ctx, sums, customer); err != nil {
			return Report{}, fmt.Errorf("usage of %s: %w", customer, err)
		}
	}
	return sums.report(), nil
}

func (r *Reader) customers(ctx context.Context) (ids []string, err error) {
	err = postgres.Query(ctx, r.pool, postgres.EveryCustomer, func(batch *pgx.Batch) {
		batch.Queue(`SELECT customer_id FROM ingest.customers ORDER BY customer_id`).Query(func(rows pgx.Rows) (err error) {
			ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list customers: %w", err)
	}
	return ids, nil
}

// add adds the executions of a customer, all as they were at one moment. They come in no order, so that whatever way the database finds
// them, it reads each once; and one by one, for a response may be large.
func (r *Reader) add(ctx context.Context, sums *tally, customer string) error {
	kinds := make(kindsOf)
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, r.pool, snapshot, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue(`SELECT set_config('app.customer', $1, true)`, customer)
		if sums.By.Kind {
			batch.Queue(`SELECT agent_id, recipe_id, version, document FROM ingest.recipe_versions
				 WHERE customer_id = $1 AND (agent_id, recipe_id, version) IN (
				       SELECT agent_id, recipe_id, recipe_version FROM ingest.executions
				        WHERE customer_id = $1 AND accepted_at >= $2 AND accepted_at < $3)`,
				customer, sums.From, sums.To).Query(kinds.scan)
		}
		batch.Queue(`SELECT accepted_at, agent_id, recipe_id, recipe_version, completed_at IS NOT NULL, charged, response
			  FROM ingest.executions WHERE customer_id = $1 AND accepted_at >= $2 AND accepted_at < $3`,
			customer, sums.From, sums.To).Query(func(rows pgx.Rows) error { return sums.scan(rows, customer, kinds) })
		return tx.SendBatch(ctx, batch).Close()
	})
}
