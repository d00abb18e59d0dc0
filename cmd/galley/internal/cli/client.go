package cli

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/cmd/galley/internal/datadir"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/event"
)

// maxListed is how many rows the commands show.
const maxListed = 50

// connection says which galley a command talks to, and with which key.
type connection struct {
	dataDir
	URL     string `name:"url" default:"http://127.0.0.1:8000" env:"GALLEY_URL" help:"Address of the galley to talk to."`
	APIKey  string `name:"api-key" env:"GALLEY_API_KEY" help:"API key; better as a variable than on the command line." placeholder:"KEY"`
	KeyFile string `env:"GALLEY_KEY_FILE" help:"File that holds the API key. Without either: demo.key or, for what only the operator may do, admin.key in the data directory." placeholder:"FILE"`
}

// open makes a client with the key that was given, or with the one that keyOf finds in the data directory.
func (c *connection) open(keyOf func(datadir.Dir) string) (*client.Client, error) {
	key := c.APIKey
	if key == "" {
		file := c.KeyFile
		if file == "" {
			dir, err := datadir.New(c.DataDir)
			if err != nil {
				return nil, err
			}
			file = keyOf(dir)
		}
		var err error
		if key, err = datadir.Read(file); err != nil {
			return nil, fmt.Errorf("read the API key: %w", err)
		}
		if key == "" {
			return nil, lifecycle.Usage(fmt.Errorf("there is no API key in %s: set GALLEY_API_KEY, or GALLEY_DATA_DIR to that of a galley", file))
		}
	}
	return client.New(c.URL, key), nil
}

// customer opens a client for what a customer may do, operator for what only the operator may.
func (c *connection) customer() (*client.Client, error) { return c.open(datadir.Dir.DemoKey) }
func (c *connection) operator() (*client.Client, error) { return c.open(datadir.Dir.AdminKey) }

// use lets a client be used that open makes.
func use(open func() (*client.Client, error), with func(api *client.Client) error) error {
	api, err := open()
	if err != nil {
		return err
	}
	defer api.Close()
	return with(api)
}

// show asks something, and writes the answer.
func show[Answer any](open func() (*client.Client, error), write func(Answer), ask func(api *client.Client) (Answer, error)) error {
	return use(open, func(api *client.Client) error {
		answer, err := ask(api)
		if err == nil {
			write(answer)
		}
		return err
	})
}

// do does something that has no answer, and says that it is done.
func (a *app) do(open func() (*client.Client, error), act func(api *client.Client) error, done string, values ...any) error {
	err := use(open, act)
	if err == nil {
		a.report.Line(done, values...)
	}
	return err
}

// execute has something executed, and prints how that ended.
func (a *app) execute(open func() (*client.Client, error), ask func(api *client.Client) (event.Response, error)) error {
	return use(open, func(api *client.Client) error {
		response, err := ask(api)
		if err != nil {
			return err
		}
		return a.executed(response)
	})
}

type runCommand struct {
	connection
	Agent  string `arg:"" help:"The agent that owns the recipe."`
	Recipe string `arg:"" help:"The recipe."`
	Input  string `default:"{}" help:"Its input, as JSON."`
}

// Run runs a recipe.
func (c *runCommand) Run(app *app) error {
	if !json.Valid([]byte(c.Input)) {
		return lifecycle.Usage(errors.New("--input is not valid JSON"))
	}
	return app.execute(c.customer, func(api *client.Client) (event.Response, error) {
		return api.Execute(app.ctx, event.RunRequest{AgentID: c.Agent, RecipeID: c.Recipe, Input: json.RawMessage(c.Input)}, "")
	})
}

type executionsListCommand struct{ connection }

// Run lists executions.
func (c *executionsListCommand) Run(app *app) error {
	api, err := c.customer()
	if err != nil {
		return err
	}
	defer api.Close()
	executions, more, err := api.Executions(app.ctx, maxListed)
	if err != nil {
		return err
	}
	app.report.Executions(executions, more)
	return nil
}

type executionsGetCommand struct {
	connection
	ID string `arg:"" help:"The execution."`
}

// Run prints an execution.
func (c *executionsGetCommand) Run(app *app) error {
	api, err := c.customer()
	if err != nil {
		return err
	}
	defer api.Close()
	standing, err := api.Execution(app.ctx, c.ID)
	if err != nil {
		return err
	}
	app.report.Response(standing.Response)
	app.report.Waits(standing.Waits)
	return nil
}
