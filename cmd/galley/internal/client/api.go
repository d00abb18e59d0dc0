package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
)

const api = "/api/v1"

// Ready asks whether everything is there. There is an answer, too, when it is not.
func (c *Client) Ready(ctx context.Context) (query.Readiness, error) {
	readiness, err := call[query.Readiness](ctx, c, request{method: http.MethodGet, path: "/ready"})
	var refused *Error
	if errors.As(err, &refused) && refused.Status == http.StatusServiceUnavailable {
		err = json.Unmarshal(refused.body, &readiness)
	}
	return readiness, err
}

// CreateCustomer makes a customer with a first key (operator).
func (c *Client) CreateCustomer(ctx context.Context, id, name string, vars map[string]string) (NewKey, error) {
	body := map[string]any{"customer_id": id, "name": name, "vars": vars}
	return call[NewKey](ctx, c, request{method: http.MethodPost, path: api + "/customers", body: body})
}

// SetVars replaces the settings of a customer that recipes read (operator).
func (c *Client) SetVars(ctx context.Context, customer string, vars map[string]string) error {
	path := api + "/customers/" + url.PathEscape(customer) + "/vars"
	_, err := call[map[string]string](ctx, c, request{method: http.MethodPut, path: path, body: vars})
	return err
}

// CreateAgent makes an agent.
func (c *Client) CreateAgent(ctx context.Context, id, name, description string) error {
	body := map[string]string{"agent_id": id, "name": name, "description": description}
	_, err := call[struct{}](ctx, c, request{method: http.MethodPost, path: api + "/agents", body: body})
	return err
}

// RecipeVersion is a published recipe.
type RecipeVersion struct {
	AgentID  string `json:"agent_id"`
	RecipeID string `json:"recipe_id"`
	Version  int    `json:"version"`
}

// PublishRecipe publishes a document, YAML or JSON. The same content again is the same version.
func (c *Client) PublishRecipe(ctx context.Context, document []byte) (RecipeVersion, error) {
	return call[RecipeVersion](ctx, c, request{
		method: http.MethodPost, path: api + "/recipes", body: document, header: map[string]string{"Content-Type": "application/yaml"},
	})
}

// Execute runs a recipe and waits for its end, for a while: then the status of the response is not terminal. With a key, the same
// call again is the same execution; with "" it is another one.
func (c *Client) Execute(ctx context.Context, run event.RunRequest, key string) (event.Response, error) {
	return call[event.Response](ctx, c, request{
		method: http.MethodPost, path: api + "/recipes/execute", body: run, header: idempotent(key),
	})
}

func idempotent(key string) map[string]string {
	if key == "" {
		return nil
	}
	return map[string]string{"Idempotency-Key": key}
}

// Execution is how an execution stands.
type Execution struct {
	ExecutionID string       `json:"execution_id"`
	AgentID     string       `json:"agent_id"`
	RecipeID    string       `json:"recipe_id"`
	Version     int          `json:"recipe_version"`
	Status      event.Status `json:"status"`
	AcceptedAt  time.Time    `json:"accepted_at"`
	DurationMS  int64        `json:"duration_ms"`
	Charged     credit.Micro `json:"credits_consumed"`
}

// page is a page of a list.
type page[Item any] struct {
	Items []Item `json:"items"`
	// Next is empty at the end.
	Next string `json:"next_cursor"`
}

// list gets the first page of a list, the newest items first. execution limits it to one execution; "" for all.
func list[Item any](ctx context.Context, c *Client, path, execution string, limit int) (found page[Item], err error) {
	values := url.Values{"limit": {strconv.Itoa(limit)}}
	if execution != "" {
		values.Set("execution_id", execution)
	}
	return call[page[Item]](ctx, c, request{method: http.MethodGet, path: api + path, query: values})
}

// all gets every page of a list.
func all[Item any](ctx context.Context, c *Client, path string) (items []Item, err error) {
	values := url.Values{}
	for {
		found, err := call[page[Item]](ctx, c, request{method: http.MethodGet, path: path, query: values})
		if err != nil {
			return nil, err
		}
		items = append(items, found.Items...)
		if found.Next == "" {
			return items, nil
		}
		values.Set("cursor", found.Next)
	}
}

// Executions lists the newest executions and tells whether there are more.
func (c *Client) Executions(ctx context.Context, limit int) (items []Execution, more bool, err error) {
	found, err := list[Execution](ctx, c, "/executions", "", limit)
	return found.Items, found.Next != "", err
}

// Standing is how an execution stands: its response, also when it has not ended, and what it waits for.
type Standing struct {
	event.Response
	Waits []event.Wait `json:"waits"`
}

// Execution gets how an execution stands.
func (c *Client) Execution(ctx context.Context, id string) (Standing, error) {
	return call[Standing](ctx, c, request{method: http.MethodGet, path: api + "/executions/" + url.PathEscape(id)})
}
