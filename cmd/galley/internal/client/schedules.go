package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// Schedule starts a recipe at certain times.
type Schedule struct {
	ScheduleID      string          `json:"schedule_id"`
	CustomerID      string          `json:"customer_id"`
	AgentID         string          `json:"agent_id"`
	RecipeID        string          `json:"recipe_id"`
	Version         int             `json:"version"`
	Input           json.RawMessage `json:"input_data"`
	Cron            string          `json:"cron"`
	At              *time.Time      `json:"at"`
	TimeZone        string          `json:"time_zone"`
	Overlap         string          `json:"overlap"`
	Missed          string          `json:"missed"`
	Paused          bool            `json:"paused"`
	LastFiredAt     *time.Time      `json:"last_fired_at"`
	LastExecutionID string          `json:"last_execution_id"`
	NextAt          *time.Time      `json:"next_at"`
}

// NewSchedule is a schedule to make. What is zero is left to the server.
type NewSchedule struct {
	ScheduleID string          `json:"schedule_id"`
	AgentID    string          `json:"agent_id"`
	RecipeID   string          `json:"recipe_id"`
	Version    int             `json:"version,omitempty"`
	Input      json.RawMessage `json:"input_data,omitempty"`
	Cron       string          `json:"cron,omitempty"`
	At         *time.Time      `json:"at,omitempty"`
	TimeZone   string          `json:"time_zone,omitempty"`
	Overlap    string          `json:"overlap,omitempty"`
	Missed     string          `json:"missed,omitempty"`
}

// Schedules lists the customer's schedules by id, without their inputs.
func (c *Client) Schedules(ctx context.Context) ([]Schedule, error) {
	found, err := call[page[Schedule]](ctx, c, request{method: http.MethodGet, path: api + "/schedules"})
	return found.Items, err
}

// Schedule gets a schedule.
func (c *Client) Schedule(ctx context.Context, id string) (Schedule, error) {
	return call[Schedule](ctx, c, request{method: http.MethodGet, path: schedulePath(id)})
}

// CreateSchedule makes a schedule.
func (c *Client) CreateSchedule(ctx context.Context, wanted NewSchedule) (Schedule, error) {
	return call[Schedule](ctx, c, request{method: http.MethodPost, path: api + "/schedules", body: wanted})
}

// DeleteSchedule deletes a schedule.
func (c *Client) DeleteSchedule(ctx context.Context, id string) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: schedulePath(id)})
	return err
}

// PauseSchedule pauses a schedule.
func (c *Client) PauseSchedule(ctx context.Context, id string) (Schedule, error) {
	return call[Schedule](ctx, c, request{method: http.MethodPost, path: schedulePath(id) + "/pause"})
}

// ResumeSchedule resumes a schedule.
func (c *Client) ResumeSchedule(ctx context.Context, id string) (Schedule, error) {
	return call[Schedule](ctx, c, request{method: http.MethodPost, path: schedulePath(id) + "/resume"})
}

func schedulePath(id string) string { return api + "/schedules/" + url.PathEscape(id) }
