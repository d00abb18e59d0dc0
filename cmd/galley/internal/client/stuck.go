package client

import (
	"context"
	"time"
)

// Stuck is an execution that is stuck.
type Stuck struct {
	ExecutionID string    `json:"execution_id"`
	CustomerID  string    `json:"customer_id"`
	Kind        string    `json:"kind"`
	LastEvent   string    `json:"last_event"`
	Since       time.Time `json:"since"`
}

// Stuck looks at all executions that are under way and gives those that are stuck (operator).
func (c *Client) Stuck(ctx context.Context) ([]Stuck, error) {
	return all[Stuck](ctx, c, api+"/executions/stuck")
}
