package cli

import (
	"encoding/json"
	"strconv"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/schemas/event"
)

type executionsWatchCommand struct {
	connection
	ID string `arg:"" help:"The execution."`
}

// Run follows an execution until it ends.
func (c *executionsWatchCommand) Run(app *app) error {
	return app.execute(c.customer, func(api *client.Client) (event.Response, error) {
		return api.Watch(app.ctx, c.ID, app.progress)
	})
}

// progress prints what a step tells.
func (a *app) progress(data []byte) {
	var told struct {
		Step string `json:"step"`
		Item *int   `json:"item"`
		Text string `json:"text"`
	}
	if json.Unmarshal(data, &told) != nil || told.Text == "" {
		return
	}
	if told.Item != nil {
		told.Step += "." + strconv.Itoa(*told.Item)
	}
	a.report.Progress(told.Step, told.Text)
}
