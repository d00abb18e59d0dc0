package client

import (
	"context"
	"net/http"
	"net/url"
)

// Limits are what a customer may do; nil for no limit.
type Limits struct {
	MaxConcurrency *int `json:"max_concurrency"`
}

// CustomerLimits are a customer's own limits, those of the plan, and those that hold.
type CustomerLimits struct {
	Limits
	Plan      Limits `json:"plan"`
	Effective struct {
		Limits
		// Source is customer, plan or none.
		Source string `json:"source"`
	} `json:"effective"`
}

// Limits gets what limits a customer.
func (c *Client) Limits(ctx context.Context, customer string) (CustomerLimits, error) {
	return call[CustomerLimits](ctx, c, request{method: http.MethodGet, path: limitsPath(customer)})
}

// SetLimits replaces a customer's own limits (operator).
func (c *Client) SetLimits(ctx context.Context, customer string, limits Limits) (CustomerLimits, error) {
	return call[CustomerLimits](ctx, c, request{method: http.MethodPut, path: limitsPath(customer), body: limits})
}

func limitsPath(customer string) string {
	return api + "/customers/" + url.PathEscape(customer) + "/limits"
}
