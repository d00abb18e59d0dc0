package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/ingest/internal/usage"
)

// reportTimeout is how long a report may take, with the wait for its turn.
const reportTimeout = time.Minute

func (a *API) registerUsage(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "get-usage", Method: http.MethodGet, Path: prefix + "/usage", Tags: []string{"credits"},
		Summary: "Report what was used",
		Description: "Adds up the executions that were accepted in a period of at most 92 days and have ended. The operator gets all customers, " +
			"unless one is named.",
		Responses: reported(documented[UsageReport](routes, "application/json")),
	}, nil, a.getUsage)
}

// reported documents a report.
func reported(content map[string]*huma.MediaType) map[string]*huma.Response {
	content["text/csv"] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Description: "With a line of titles (RFC 4180)"}}
	return response(http.StatusOK, "The report", content)
}

// UsageReport is what was used.
type UsageReport struct {
	CustomerID string `json:"customer_id,omitempty" doc:"Absent for all customers"`
	From       string `json:"from" format:"date"`
	To         string `json:"to" format:"date"`
	TimeZone   string `json:"time_zone"`
	// UnderWay executions may still change the report.
	UnderWay int64         `json:"executions_under_way" doc:"Executions of the period that have not ended: they are in no figure yet"`
	Items    []usage.Row   `json:"items"`
	Total    usage.Figures `json:"total"`
}

type getUsageInput struct {
	Scope
	Period
	GroupBy []string `query:"group_by" enum:"customer,day,recipe,kind" default:"day" doc:"What each item is about, with commas between"`
}

// reportOutput is a report in one of its formats.
type reportOutput struct {
	ContentType string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"`
	Body        []byte
}

func (a *API) getUsage(ctx context.Context, caller *caller, input *getUsageInput) (*reportOutput, error) {
	var customer string
	var err error
	if !caller.operator || input.CustomerID != "" {
		if customer, err = input.customer(caller); err != nil {
			return nil, err
		}
	}
	period, err := input.read()
	if err != nil {
		return nil, err
	}
	by := usage.Grouping{
		Customer: slices.Contains(input.GroupBy, "customer"), Day: slices.Contains(input.GroupBy, "day"),
		Recipe: slices.Contains(input.GroupBy, "recipe"), Kind: slices.Contains(input.GroupBy, "kind"),
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	report, err := a.usage.Report(ctx, usage.Request{Customer: customer, From: period.from, To: period.to, By: by})
	switch {
	case errors.Is(err, usage.ErrBusy):
		return nil, newProblem(problem.Unavailable, err.Error())
	case errors.Is(err, usage.ErrTooLong):
		return nil, newProblem(problem.InvalidRequest, usage.ErrTooLong.Error())
	case err != nil:
		return nil, unavailable(executionsAway, err)
	}
	if input.Format == formatCSV {
		return input.sheet("usage", usageTable(by, report.Rows))
	}
	body, err := json.Marshal(UsageReport{
		CustomerID: customer, From: input.From, To: input.To, TimeZone: period.from.Location().String(), UnderWay: report.UnderWay,
		Items: report.Rows, Total: report.Total,
	})
	return &reportOutput{ContentType: "application/json", Body: body}, err
}

// usageTable has a column for everything that the report is grouped by.
func usageTable(by usage.Grouping, rows []usage.Row) [][]string {
	line := func(customer, day, agent, recipe, kind string, figures ...string) []string {
		var cells []string
		for _, column := range []struct {
			wanted bool
			cells  []string
		}{{by.Customer, []string{customer}}, {by.Day, []string{day}}, {by.Recipe, []string{agent, recipe}}, {by.Kind, []string{kind}}} {
			if column.wanted {
				cells = append(cells, column.cells...)
			}
		}
		return append(cells, figures...)
	}
	table := [][]string{line("customer_id", "day", "agent_id", "recipe_id", "kind",
		"executions", "steps", "credits", "input_tokens", "output_tokens", "units")}
	count := func(n int64) string { return strconv.FormatInt(n, 10) }
	for i := range rows {
		r := &rows[i]
		table = append(table, line(r.Customer, r.Day, r.Agent, r.Recipe, r.Kind,
			count(r.Executions), count(r.Steps), r.Credits.String(), count(r.InputTokens), count(r.OutputTokens), count(r.Units)))
	}
	return table
}
