package client

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
)

// Quote is what an execution may cost.
type Quote struct {
	CustomerID string       `json:"customer_id"`
	AgentID    string       `json:"agent_id"`
	RecipeID   string       `json:"recipe_id"`
	Version    int          `json:"recipe_version"`
	Quoted     credit.Micro `json:"quoted_credits"`
	Available  credit.Micro `json:"available_credits"`
	// Covered tells that what is available is enough.
	Covered bool `json:"covered"`
	// Waits tells that it waits for credits when it is short of them, Waiting how many do.
	Waits   bool         `json:"waits_for_credits"`
	Waiting int          `json:"waiting"`
	Steps   []QuotedStep `json:"steps"`
}

// QuotedStep is what a step may cost.
type QuotedStep struct {
	ID    string       `json:"id"`
	Kind  string       `json:"kind"`
	Max   credit.Micro `json:"max_credits"`
	Price Price        `json:"price"`
}

// Price is what a step costs, or each of its items: a fixed amount or, where there are Rates, what is measured, up to Max.
type Price struct {
	Fixed credit.Micro `json:"fixed"`
	Rates []Rate       `json:"rates"`
	Max   credit.Micro `json:"max"`
	// MaxItems is 0 for a step that runs once.
	MaxItems int `json:"max_items"`
}

// Rate is the price of so many of what a meter counts.
type Rate struct {
	Meter   string       `json:"meter"`
	Credits credit.Micro `json:"credits"`
	Per     int64        `json:"per"`
}

// Quote asks what an execution would be debited.
func (c *Client) Quote(ctx context.Context, run event.RunRequest) (Quote, error) {
	return call[Quote](ctx, c, request{method: http.MethodPost, path: api + "/recipes/quote", body: run})
}

// Receipt is what an execution costs, and for what.
type Receipt struct {
	ExecutionID string       `json:"execution_id"`
	AgentID     string       `json:"agent_id"`
	RecipeID    string       `json:"recipe_id"`
	Version     int          `json:"recipe_version"`
	Status      event.Status `json:"status"`
	event.Receipt
	Consumed credit.Micro `json:"credits_consumed"`
	Capped   credit.Micro `json:"capped_credits"`
	// Settled tells that the execution has ended and that the ledger has everything.
	Settled bool          `json:"settled"`
	Steps   []ReceiptStep `json:"steps"`
	// Transactions are the rows of the ledger, the oldest first.
	Transactions []query.Transaction `json:"transactions"`
}

// ReceiptStep is what a step is charged for. Kind and Price may be missing.
type ReceiptStep struct {
	ID      string           `json:"id"`
	Kind    string           `json:"kind"`
	Status  event.StepStatus `json:"status"`
	Credits credit.Micro     `json:"credits"`
	Usage   *event.Usage     `json:"usage"`
	Items   *event.ItemCount `json:"items"`
	Price   *Price           `json:"price"`
}

// Receipt gets the receipt of an execution.
func (c *Client) Receipt(ctx context.Context, id string) (Receipt, error) {
	return call[Receipt](ctx, c, request{method: http.MethodGet, path: api + "/executions/" + url.PathEscape(id) + "/receipt"})
}

// Period is what a report is about. The days are the first one and the last one; Customer and TimeZone may be empty.
type Period struct {
	Customer, From, To, TimeZone string
}

func (p *Period) query() url.Values {
	values := url.Values{"from": {p.From}, "to": {p.To}}
	for name, value := range map[string]string{"customer_id": p.Customer, "time_zone": p.TimeZone} {
		if value != "" {
			values.Set(name, value)
		}
	}
	return values
}

// Usage is what was used.
type Usage struct {
	UnderWay int64      `json:"executions_under_way"`
	Items    []UsageRow `json:"items"`
	Total    Figures    `json:"total"`
}

// UsageRow is what was used by what its names say. Those that the report is not grouped by are empty.
type UsageRow struct {
	CustomerID string `json:"customer_id"`
	Day        string `json:"day"`
	AgentID    string `json:"agent_id"`
	RecipeID   string `json:"recipe_id"`
	Kind       string `json:"kind"`
	Figures
}

// Figures are sums.
type Figures struct {
	Executions   int64        `json:"executions"`
	Steps        int64        `json:"steps"`
	Credits      credit.Micro `json:"credits"`
	InputTokens  int64        `json:"input_tokens"`
	OutputTokens int64        `json:"output_tokens"`
	Units        int64        `json:"units"`
}

// Usage reports what was used, grouped by some of customer, day, recipe and kind.
func (c *Client) Usage(ctx context.Context, period Period, by []string) (Usage, error) {
	return call[Usage](ctx, c, usageRequest(&period, by))
}

// UsageCSV is Usage as CSV.
func (c *Client) UsageCSV(ctx context.Context, period Period, by []string) ([]byte, error) {
	return c.csv(ctx, usageRequest(&period, by))
}

func usageRequest(period *Period, by []string) request {
	values := period.query()
	values.Set("group_by", strings.Join(by, ","))
	return request{method: http.MethodGet, path: api + "/usage", query: values}
}

// Statement is what happened to a customer's credits in a period.
type Statement struct {
	CustomerID string `json:"customer_id"`
	From       string `json:"from"`
	To         string `json:"to"`
	TimeZone   string `json:"time_zone"`
	query.StatementReply
}

// Statement gets the statement of a period.
func (c *Client) Statement(ctx context.Context, period Period) (Statement, error) {
	return call[Statement](ctx, c, statementRequest(&period))
}

// StatementCSV is Statement as CSV.
func (c *Client) StatementCSV(ctx context.Context, period Period) ([]byte, error) {
	return c.csv(ctx, statementRequest(&period))
}

func statementRequest(period *Period) request {
	return request{method: http.MethodGet, path: api + "/statement", query: period.query()}
}

func (c *Client) csv(ctx context.Context, r request) ([]byte, error) {
	r.query.Set("format", "csv")
	return c.do(ctx, r)
}
