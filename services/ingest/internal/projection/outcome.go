package projection

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

// AnswerOutcomes serves the query by which billing learns how executions ended that the journal has forgotten, until ctx ends.
func (r *Reader) AnswerOutcomes(ctx context.Context, messages *bus.Bus) error {
	return bus.Answer(ctx, messages, query.ServiceIngest, query.Outcomes, r.outcomes)
}

const selectOutcomes = `SELECT customer_id, execution_id::text, status, charged FROM ingest.executions
	JOIN unnest($1::text[], $2::uuid[]) AS asked (customer_id, execution_id) USING (customer_id, execution_id)`

// outcomes reads the projection alone.
func (r *Reader) outcomes(ctx context.Context, request query.OutcomesRequest) (query.OutcomesReply, error) {
	if len(request.Executions) > query.MaxOutcomes {
		return query.OutcomesReply{}, invalidOutcomes("executions must be at most %d", query.MaxOutcomes)
	}
	customers, executions := make([]string, len(request.Executions)), make([]uuid.UUID, len(request.Executions))
	for i, asked := range request.Executions {
		id, err := uuid.Parse(asked.ExecutionID)
		if err != nil || !subject.ValidID(asked.CustomerID) {
			return query.OutcomesReply{}, invalidOutcomes("each of the executions must have a valid customer_id and a UUID as its execution_id")
		}
		customers[i], executions[i] = asked.CustomerID, id
	}
	reply := query.OutcomesReply{Outcomes: []query.Outcome{}}
	err := postgres.Query(ctx, r.pool, postgres.EveryCustomer, func(batch *pgx.Batch) {
		batch.Queue(selectOutcomes, customers, executions).Query(func(rows pgx.Rows) (err error) {
			reply.Outcomes, err = pgx.AppendRows(reply.Outcomes, rows, func(row pgx.CollectableRow) (found query.Outcome, err error) {
				return found, row.Scan(&found.CustomerID, &found.ExecutionID, &found.Status, &found.Charged)
			})
			return err
		})
	})
	if err != nil {
		return query.OutcomesReply{}, fmt.Errorf("read outcomes: %w", err)
	}
	return reply, nil
}

func invalidOutcomes(format string, arguments ...any) error {
	return &problem.Error{Code: problem.InvalidRequest, Message: fmt.Sprintf(format, arguments...)}
}
