package catalogue

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
)

// Agent owns recipes.
type Agent struct {
	CustomerID  string    `json:"customer_id"`
	AgentID     string    `json:"agent_id"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	CreatedAt   time.Time `json:"created_at"`
}

func (a *Agent) validate() error {
	var found rules
	found.id("/customer_id", a.CustomerID)
	found.id("/agent_id", a.AgentID)
	found.text("/name", a.Name, maxName)
	found.text("/description", a.Description, maxDescription)
	return found.err()
}

// CreateAgent makes an agent. One that exists is a CONFLICT.
func (c *Catalogue) CreateAgent(ctx context.Context, agent Agent, author Author) (Agent, error) {
	if err := agent.validate(); err != nil {
		return Agent{}, err
	}
	agent.CreatedAt = c.clock()
	err := postgres.Transact(ctx, c.pool, agent.CustomerID, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO ingest.agents (customer_id, agent_id, name, description, created_at)
			VALUES ($1, $2, $3, $4, $5)`, agent.CustomerID, agent.AgentID, agent.Name, agent.Description, agent.CreatedAt)
		switch sqlState(err) {
		case stateUnique:
			return conflict("agent %q exists already", agent.AgentID)
		case stateForeignKey:
			return notFound("there is no customer %q", agent.CustomerID)
		}
		if err != nil {
			return err
		}
		return c.record(ctx, tx, activity.Entry{
			Customer: agent.CustomerID, Action: event.ActionAgentCreated, ResourceID: agent.AgentID, Author: author,
			After: map[string]any{"name": agent.Name, "description": agent.Description},
		})
	})
	if err != nil {
		return Agent{}, failure("create agent", err)
	}
	c.outbox.Wake()
	return agent, nil
}

// Agents lists a customer's agents by id, from the one after the given id.
func (c *Catalogue) Agents(ctx context.Context, customer, after string, limit int) (page []Agent, more bool, err error) {
	err = postgres.Query(ctx, c.pool, customer, func(batch *pgx.Batch) {
		batch.Queue(`SELECT customer_id, agent_id, name, description, created_at FROM ingest.agents
			 WHERE customer_id = $1 AND agent_id > $2 ORDER BY agent_id LIMIT $3`,
			customer, after, limit+1).Query(func(rows pgx.Rows) (err error) {
			page, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Agent])
			return err
		})
	})
	if err != nil {
		return nil, false, failure("list agents", err)
	}
	if len(page) > limit {
		return page[:limit], true, nil
	}
	return page, false, nil
}
