package cli

import (
	"context"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
)

type deadLettersGroup struct {
	List    deadLettersListCommand    `cmd:"" default:"withargs" help:"List the dead letters, the newest first."`
	Show    deadLettersShowCommand    `cmd:"" help:"Print a dead letter."`
	Redrive deadLettersRedriveCommand `cmd:"" help:"Have a dead letter processed again by the consumer that gave it up."`
	Discard deadLettersDiscardCommand `cmd:"" help:"Remove a dead letter for good."`
}

type deadLettersListCommand struct{ connection }

// Run lists the dead letters.
func (c *deadLettersListCommand) Run(app *app) error {
	api, err := c.operator()
	if err != nil {
		return err
	}
	defer api.Close()
	letters, more, err := api.DeadLetters(app.ctx, maxListed)
	if err != nil {
		return err
	}
	app.report.DeadLetters(letters, more)
	return nil
}

// oneDeadLetter is what the commands have that are about one dead letter.
type oneDeadLetter struct {
	connection
	Sequence uint64 `arg:"" help:"The number of the dead letter."`
}

// do does something to the dead letter and says so.
func (c *oneDeadLetter) do(app *app, do func(api *client.Client, ctx context.Context, sequence uint64) error, done string) error {
	return app.do(c.operator, func(api *client.Client) error { return do(api, app.ctx, c.Sequence) }, "%d is %s", c.Sequence, done)
}

type deadLettersShowCommand struct{ oneDeadLetter }

// Run prints a dead letter.
func (c *deadLettersShowCommand) Run(app *app) error {
	return show(c.operator, app.report.DeadLetter, func(api *client.Client) (client.DeadLetter, error) { return api.DeadLetter(app.ctx, c.Sequence) })
}

type deadLettersRedriveCommand struct{ oneDeadLetter }

// Run redrives a dead letter.
func (c *deadLettersRedriveCommand) Run(app *app) error {
	return c.do(app, (*client.Client).Redrive, "redriven")
}

type deadLettersDiscardCommand struct{ oneDeadLetter }

// Run discards a dead letter.
func (c *deadLettersDiscardCommand) Run(app *app) error {
	return c.do(app, (*client.Client).Discard, "discarded")
}
