package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/query"
)

func (a *API) registerStatement(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "get-statement", Method: http.MethodGet, Path: prefix + "/statement", Tags: []string{"credits"},
		Summary: "Get the statement of a period",
		Description: "The balance before and after a period of at most 92 days and the sums of what the ledger has between. The opening balance " +
			"is the closing balance of the period before, whenever it is asked for.",
		Responses: reported(documented[Statement](routes, "application/json")),
	}, nil, a.getStatement)
}

// Statement is what happened to a customer's credits in a period.
type Statement struct {
	CustomerID string `json:"customer_id"`
	From       string `json:"from" format:"date"`
	To         string `json:"to" format:"date"`
	TimeZone   string `json:"time_zone"`
	query.StatementReply
}

type getStatementInput struct {
	Scope
	Period
}

func (a *API) getStatement(ctx context.Context, caller *caller, input *getStatementInput) (*reportOutput, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	period, err := input.read()
	if err != nil {
		return nil, err
	}
	reply, err := bus.Ask[query.StatementReply](ctx, a.bus, query.ServiceBilling, query.Statement, query.StatementRequest{
		CustomerID: customer, From: period.from, To: period.to,
	})
	if err != nil {
		return nil, err
	}
	if input.Format == formatCSV {
		return input.sheet("statement", statementTable(&reply))
	}
	body, err := json.Marshal(Statement{
		CustomerID: customer, From: input.From, To: input.To, TimeZone: period.from.Location().String(), StatementReply: reply,
	})
	return &reportOutput{ContentType: "application/json", Body: body}, err
}

// statementTable is to be read from top to bottom: its credits add up to those of the last line.
func statementTable(reply *query.StatementReply) [][]string {
	table := [][]string{
		{"line", "grant_kind", "rows", "credits"},
		{"opening_balance", "", "", reply.Opening.String()},
	}
	for _, movement := range reply.Movements {
		table = append(table, []string{movement.Kind, string(movement.GrantKind), strconv.FormatInt(movement.Rows, 10), movement.Credits.String()})
	}
	return append(table, []string{"closing_balance", "", "", reply.Closing.String()})
}
