package catalogue

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

// tellLimited says that a limit of a customer, or of one of its recipes, may have changed. It is said after the change can be read. When it is
// lost, because this process dies or NATS is away, executions that wait ask when they come back by themselves.
func (c *Catalogue) tellLimited(customer string) {
	_ = c.conn.Publish(subject.Limited(customer), nil)
}

// AnswerLimits serves the query by which the executor learns what limits there are now, until ctx ends.
func (c *Catalogue) AnswerLimits(ctx context.Context, messages *bus.Bus) error {
	return bus.Answer(ctx, messages, query.ServiceIngest, query.Limits, c.currentLimits)
}

// currentLimits reads the database: what this process remembers may be older than what was just told.
func (c *Catalogue) currentLimits(ctx context.Context, request query.LimitsRequest) (query.LimitsReply, error) {
	if len(request.Recipes) > query.MaxLimited {
		return query.LimitsReply{}, &problem.Error{
			Code: problem.InvalidRequest, Message: fmt.Sprintf("recipes must be at most %d", query.MaxLimited),
		}
	}
	reply := query.LimitsReply{AsOf: c.clock()}
	found, err := c.readSettings(ctx, request.CustomerID)
	if err != nil {
		return query.LimitsReply{}, err
	}
	if most := found.limits.Effective.MaxConcurrency; most != nil {
		reply.MaxConcurrency = *most
	}
	if len(request.Recipes) == 0 {
		return reply, nil
	}
	latest, err := c.latestOf(ctx, request)
	if err != nil {
		return query.LimitsReply{}, err
	}
	for _, of := range latest {
		compiled, err := c.compiled(ctx, request.CustomerID, of.AgentID, of.RecipeID, of.Version)
		if definite(err) {
			continue // what does not compile any more says nothing about a limit
		}
		if err != nil {
			return query.LimitsReply{}, err
		}
		of.Concurrency = compiled.Concurrency
		reply.Recipes = append(reply.Recipes, of)
	}
	return reply, nil
}

func (c *Catalogue) latestOf(ctx context.Context, request query.LimitsRequest) (latest []query.RecipeLimit, err error) {
	agents, recipes := make([]string, len(request.Recipes)), make([]string, len(request.Recipes))
	for i, of := range request.Recipes {
		agents[i], recipes[i] = of.AgentID, of.RecipeID
	}
	err = postgres.Query(ctx, c.pool, request.CustomerID, func(batch *pgx.Batch) {
		batch.Queue(`SELECT agent_id, recipe_id, latest
			 FROM ingest.recipes JOIN unnest($2::text[], $3::text[]) AS asked (agent_id, recipe_id) USING (agent_id, recipe_id)
			 WHERE customer_id = $1`, request.CustomerID, agents, recipes).Query(func(rows pgx.Rows) (err error) {
			latest, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (of query.RecipeLimit, err error) {
				return of, row.Scan(&of.AgentID, &of.RecipeID, &of.Version)
			})
			return err
		})
	})
	if err != nil {
		return nil, failure("read latest versions", err)
	}
	return latest, nil
}
