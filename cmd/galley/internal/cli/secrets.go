package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/secret"
)

type secretsListCommand struct{ connection }

// Run lists the names of the secrets.
func (c *secretsListCommand) Run(app *app) error {
	return show(c.customer, app.report.Secrets, func(api *client.Client) ([]client.Secret, error) { return api.Secrets(app.ctx) })
}

// secretsSetCommand has no argument for the value: other users of the machine can see arguments, and shells remember them.
type secretsSetCommand struct {
	connection
	Name      string `arg:"" help:"What recipes call it."`
	ValueFile string `type:"existingfile" help:"File that holds the value, without it stdin. A line end at the end is left out." placeholder:"FILE"`
}

// Run sets a secret.
func (c *secretsSetCommand) Run(app *app) error {
	value, err := c.value(app)
	if err != nil {
		return err
	}
	return app.do(c.customer, func(api *client.Client) error { return api.SetSecret(app.ctx, c.Name, value) }, "%s is set", c.Name)
}

func (c *secretsSetCommand) value(app *app) (string, error) {
	in := app.In
	if c.ValueFile != "" {
		file, err := os.Open(c.ValueFile)
		if err != nil {
			return "", fmt.Errorf("open the value: %w", err)
		}
		defer file.Close() //nolint:errcheck // it is only read
		in = file
	} else if info, err := in.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintf(app.Err, "Type the value of %s, then Enter and Ctrl-D. It can be seen meanwhile; --value-file avoids that.\n", c.Name)
	}
	// More than there may be is not read to its end: it is refused.
	text, err := io.ReadAll(io.LimitReader(in, secret.MaxValue+int64(len("\r\n"))+1))
	if err != nil {
		return "", fmt.Errorf("read the value: %w", err)
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if !secret.ValidValue(value) {
		return "", lifecycle.Usage(fmt.Errorf("the value %w", secret.ErrInvalidValue))
	}
	return value, nil
}

type secretsDeleteCommand struct {
	connection
	Name string `arg:"" help:"The secret."`
}

// Run deletes a secret.
func (c *secretsDeleteCommand) Run(app *app) error {
	return app.do(c.customer, func(api *client.Client) error { return api.DeleteSecret(app.ctx, c.Name) }, "%s is deleted", c.Name)
}
