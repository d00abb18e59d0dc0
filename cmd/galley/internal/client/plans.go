package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/galley-engine/galley/schemas/query"
)

// PublishPlan publishes a plan, a JSON document (operator).
func (c *Client) PublishPlan(ctx context.Context, document []byte) (query.Plan, error) {
	return call[query.Plan](ctx, c, request{method: http.MethodPost, path: api + "/plans", body: document})
}

// Plans lists the plans in their newest versions.
func (c *Client) Plans(ctx context.Context) ([]query.Plan, error) {
	return all[query.Plan](ctx, c, api+"/plans")
}

// Plan gets a version of a plan, the newest when version is 0.
func (c *Client) Plan(ctx context.Context, id string, version int) (query.Plan, error) {
	wanted := url.Values{}
	if version != 0 {
		wanted.Set("version", strconv.Itoa(version))
	}
	return call[query.Plan](ctx, c, request{method: http.MethodGet, path: planPath(id), query: wanted})
}

// RetirePlan closes a plan to new subscriptions (operator).
func (c *Client) RetirePlan(ctx context.Context, id string) (query.Plan, error) {
	return call[query.Plan](ctx, c, request{method: http.MethodPost, path: planPath(id) + "/retire"})
}

func planPath(id string) string { return api + "/plans/" + url.PathEscape(id) }
