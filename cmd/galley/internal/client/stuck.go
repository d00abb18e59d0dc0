package client

import (
	"context"
	"net/http"
	"net/url"
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
	var all []Stuck
	query := url.Values{}
	for {
		found, err := call[page[Stuck]](ctx, c, request{method: http.MethodGet, path: api + "/executions/stuck", query: query})
		if err != nil {
			return nil, err
		}
		all = append(all, found.Items...)
		if found.Next == "" {
			return all, nil
		}
		query.Set("cursor", found.Next)
	}
}
