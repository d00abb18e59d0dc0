// Package statement sums up what happened to a customer's credits in a period.
package statement

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
)

// Reader makes statements, limited to one customer's rows by row-level security.
type Reader struct{ pool *pgxpool.Pool }

// NewReader makes a Reader over a pool that acts as the reader's role.
func NewReader(pool *pgxpool.Pool) *Reader {
	return &Reader{pool: pool}
}

// period is one statement, so that everything is of one moment. Rows of a customer take effect in the order of their ids; when they
// were written only says where the period begins and ends. It gives at least one row, without a kind where nothing happened.
const period = `
WITH closing AS (SELECT id, balance_after FROM billing.credit_transactions
        WHERE customer_id = $1 AND created_at < $3 ORDER BY id DESC LIMIT 1),
    opening AS (SELECT id, balance_after FROM billing.credit_transactions
        WHERE customer_id = $1 AND created_at < $2 AND id <= (SELECT id FROM closing) ORDER BY id DESC LIMIT 1),
    movement AS (SELECT kind, CASE WHEN kind = 'grant' THEN (SELECT kind FROM billing.grants
                WHERE grants.customer_id = $1 AND grants.transaction_id = posted.id) ELSE '' END AS grant_kind,
            count(*) AS rows, sum(amount)::bigint AS amount, min(id) AS first
        FROM billing.credit_transactions AS posted
        WHERE customer_id = $1 AND id > COALESCE((SELECT id FROM opening), 0) AND id <= (SELECT id FROM closing)
        GROUP BY 1, 2)
SELECT COALESCE((SELECT balance_after FROM opening), 0), COALESCE((SELECT balance_after FROM closing), 0),
        COALESCE(kind, ''), COALESCE(grant_kind, ''), COALESCE(rows, 0), COALESCE(amount, 0)
    FROM (SELECT) AS always LEFT JOIN movement ON true
    ORDER BY array_position(ARRAY['grant', 'debit', 'refund', 'expire', 'adjust'], kind), first`

// Statement reads the statement of a customer. From must be before To.
func (r *Reader) Statement(ctx context.Context, request query.StatementRequest) (query.StatementReply, error) {
	reply := query.StatementReply{Movements: []query.Movement{}}
	var sum credit.Micro
	err := postgres.Query(ctx, r.pool, request.CustomerID, func(batch *pgx.Batch) {
		// There are many rows and few kinds, which the statistics do not know: sorting them would take most of the time.
		batch.Queue(`SELECT set_config('enable_sort', 'off', true)`)
		batch.Queue(period, request.CustomerID, request.From, request.To).Query(func(rows pgx.Rows) error {
			var found query.Movement
			into := []any{&reply.Opening, &reply.Closing, &found.Kind, &found.GrantKind, &found.Rows, &found.Credits}
			_, err := pgx.ForEachRow(rows, into, func() error {
				if found.Kind == "" {
					return nil
				}
				reply.Movements = append(reply.Movements, found)
				sum += found.Credits
				if found.Kind == "debit" || found.Kind == "refund" {
					reply.Charged -= found.Credits
				}
				return nil
			})
			return err
		})
	})
	if err != nil {
		return query.StatementReply{}, fmt.Errorf("read statement of %s: %w", request.CustomerID, err)
	}
	reply.AddsUp = reply.Opening+sum == reply.Closing
	return reply, nil
}
