package cli

import "errors"

type executionsStuckCommand struct{ connection }

// Run lists executions that are stuck. Any of them makes the command fail.
func (c *executionsStuckCommand) Run(app *app) error {
	api, err := c.operator()
	if err != nil {
		return err
	}
	defer api.Close()
	stuck, err := api.Stuck(app.ctx)
	if err != nil {
		return err
	}
	app.report.Stuck(stuck)
	if len(stuck) > 0 {
		return errors.New("executions are stuck")
	}
	return nil
}
