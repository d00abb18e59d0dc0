package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/services/ingest/internal/watch"
)

// registerStuck comes before the operations on one execution, whose paths match this one too.
func (a *API) registerStuck(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "list-stuck-executions", Method: http.MethodGet, Path: prefix + "/executions/stuck", Tags: []string{"executions"},
		Summary: "List executions that are stuck (operator)",
		Description: "Looks at executions of all customers that are under way since more than a minute, the oldest first: those that can " +
			"be expected to go on are left out, so that a page may be empty and not the last one. limit is how many are looked at. " +
			"galley looks by itself twice a minute; it ends what is overdue and wakes what is asleep.",
	}, nil, a.listStuck)
}

type listStuckInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"500" doc:"How many executions are looked at"`
	Cursor string `query:"cursor" maxLength:"500" doc:"The next_cursor of the page before"`
}

func (a *API) listStuck(ctx context.Context, caller *caller, input *listStuckInput) (*listOutput[watch.Finding], error) {
	if err := caller.requireOperator(); err != nil {
		return nil, err
	}
	from, err := cursor[watch.Place](&Paging{Cursor: input.Cursor})
	if err != nil {
		return nil, err
	}
	items, next, err := a.watch.Look(ctx, from, input.Limit)
	if err != nil {
		return nil, unavailable(executionsAway, err)
	}
	return page(items, next)
}
