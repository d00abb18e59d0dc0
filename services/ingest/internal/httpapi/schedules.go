package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
	"github.com/galley-engine/galley/services/ingest/internal/schedule"
)

func (a *API) registerSchedules(routes huma.API) {
	const path = prefix + "/schedules"
	tags := []string{"schedules"}
	register(a, routes, huma.Operation{
		OperationID: "create-schedule", Method: http.MethodPost, Path: path, Tags: tags,
		Summary: "Create a schedule", DefaultStatus: http.StatusCreated,
		Description: "Starts a recipe at the times of a cron expression, or once. The recipe must exist and the input must fit it.",
	}, documented[ScheduleRequest](routes, "application/json"), a.createSchedule)
	register(a, routes, huma.Operation{
		OperationID: "list-schedules", Method: http.MethodGet, Path: path, Tags: tags,
		Summary: "List schedules", Description: "All of them, by id; a customer has at most 1000. Their inputs are left out.",
	}, nil, a.listSchedules)
	register(a, routes, huma.Operation{
		OperationID: "get-schedule", Method: http.MethodGet, Path: path + "/{schedule_id}", Tags: tags, Summary: "Get a schedule",
	}, nil, a.getSchedule)
	register(a, routes, huma.Operation{
		OperationID: "change-schedule", Method: http.MethodPut, Path: path + "/{schedule_id}", Tags: tags,
		Summary: "Replace what a schedule does, and when",
	}, documented[ScheduleChange](routes, "application/json"), a.changeSchedule)
	register(a, routes, huma.Operation{
		OperationID: "delete-schedule", Method: http.MethodDelete, Path: path + "/{schedule_id}", Tags: tags,
		Summary: "Delete a schedule", DefaultStatus: http.StatusNoContent, Description: "Executions that it started go on.",
	}, nil, a.deleteSchedule)
	register(a, routes, huma.Operation{
		OperationID: "pause-schedule", Method: http.MethodPost, Path: path + "/{schedule_id}/pause", Tags: tags,
		Summary: "Pause a schedule",
	}, nil, a.pauseSchedule)
	register(a, routes, huma.Operation{
		OperationID: "resume-schedule", Method: http.MethodPost, Path: path + "/{schedule_id}/resume", Tags: tags,
		Summary: "Resume a paused schedule", Description: "It goes on with the next time from now.",
	}, nil, a.resumeSchedule)
}

// ScheduleChange documents the body.
type ScheduleChange struct {
	AgentID   id              `json:"agent_id"`
	RecipeID  id              `json:"recipe_id"`
	Version   int             `json:"version,omitempty" minimum:"1" doc:"The newest at each start when absent"`
	InputData json.RawMessage `json:"input_data,omitempty" doc:"What the recipe's input schema asks for; {} when absent; at most 64 KiB"`
	Cron      string          `json:"cron,omitempty" doc:"Minute, hour, day of month, month, day of week; or @hourly, @daily, @weekly, @monthly, @yearly" example:"30 4 * * mon-fri"`
	At        time.Time       `json:"at,omitzero" doc:"The one time, instead of cron"`
	TimeZone  string          `json:"time_zone,omitempty" default:"UTC" doc:"The time zone of cron, by its IANA name" example:"Europe/Berlin"`
	Overlap   string          `json:"overlap,omitempty" enum:"skip,allow" default:"skip" doc:"skip leaves a start out while the previous execution goes on"`
	Missed    string          `json:"missed,omitempty" enum:"latest,skip,all" default:"latest" doc:"What is started after a downtime: the last missed time, none more than a minute late, or each of the last 100 (needs overlap allow)"`
}

// ScheduleRequest documents the body.
type ScheduleRequest struct {
	ScheduleID id `json:"schedule_id"`
	CustomerID id `json:"customer_id,omitempty" doc:"Needed by the operator only"`
	ScheduleChange
}

// planFields fill a plan.
func planFields(plan *schedule.Plan) []field {
	return []field{
		identifier("agent_id", &plan.AgentID), identifier("recipe_id", &plan.RecipeID),
		{name: "version", into: &plan.Version, must: "a whole number"},
		{name: "input_data", into: &plan.Input},
		text("cron", &plan.Cron),
		{name: "at", into: &plan.At, must: "a time as in RFC 3339"},
		text("time_zone", &plan.TimeZone),
		text("overlap", (*string)(&plan.Overlap)), text("missed", (*string)(&plan.Missed)),
	}
}

type scheduleOutput struct{ Body schedule.Schedule }

func (a *API) createSchedule(ctx context.Context, caller *caller, input *JSONBody) (*scheduleOutput, error) {
	var plan schedule.Plan
	var scheduleID, customer string
	err := input.decode(append(planFields(&plan), identifier("schedule_id", &scheduleID), text("customer_id", &customer))...)
	if err != nil {
		return nil, err
	}
	if customer, err = caller.actFor(customer, Place{Path: "/customer_id"}); err != nil {
		return nil, err
	}
	made, err := a.schedules.Create(ctx, customer, scheduleID, plan, requestOf(ctx).author())
	if err != nil {
		return nil, err
	}
	return &scheduleOutput{Body: made}, nil
}

type listSchedulesInput struct{ Scope }

func (a *API) listSchedules(ctx context.Context, caller *caller, input *listSchedulesInput) (*listOutput[schedule.Schedule], error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	found, err := a.schedules.List(ctx, customer)
	if err != nil {
		return nil, err
	}
	return page[schedule.Schedule, struct{}](found, nil)
}

type scheduleInput struct {
	Scope
	ScheduleID id `path:"schedule_id"`
}

func (a *API) getSchedule(ctx context.Context, caller *caller, input *scheduleInput) (*scheduleOutput, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	found, err := a.schedules.Get(ctx, customer, string(input.ScheduleID))
	if err != nil {
		return nil, err
	}
	return &scheduleOutput{Body: found}, nil
}

type changeScheduleInput struct {
	Scope
	ScheduleID id `path:"schedule_id"`
	JSONBody
}

func (a *API) changeSchedule(ctx context.Context, caller *caller, input *changeScheduleInput) (*scheduleOutput, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	var plan schedule.Plan
	if err := input.decode(planFields(&plan)...); err != nil {
		return nil, err
	}
	changed, err := a.schedules.Change(ctx, customer, string(input.ScheduleID), plan, requestOf(ctx).author())
	if err != nil {
		return nil, err
	}
	return &scheduleOutput{Body: changed}, nil
}

func (a *API) deleteSchedule(ctx context.Context, caller *caller, input *scheduleInput) (*struct{}, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	return nil, a.schedules.Delete(ctx, customer, string(input.ScheduleID), requestOf(ctx).author())
}

func (a *API) pauseSchedule(ctx context.Context, caller *caller, input *scheduleInput) (*scheduleOutput, error) {
	return switchSchedule(ctx, caller, input, a.schedules.Pause)
}

func (a *API) resumeSchedule(ctx context.Context, caller *caller, input *scheduleInput) (*scheduleOutput, error) {
	return switchSchedule(ctx, caller, input, a.schedules.Resume)
}

func switchSchedule(
	ctx context.Context, caller *caller, input *scheduleInput,
	turn func(ctx context.Context, customer, id string, author catalogue.Author) (schedule.Schedule, error),
) (*scheduleOutput, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	turned, err := turn(ctx, customer, string(input.ScheduleID), requestOf(ctx).author())
	if err != nil {
		return nil, err
	}
	return &scheduleOutput{Body: turned}, nil
}
