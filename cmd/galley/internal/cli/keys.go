package cli

import "github.com/galley-engine/galley/cmd/galley/internal/client"

type keysGroup struct {
	List   keysListCommand   `cmd:"" default:"withargs" help:"List the API keys of a customer, those that were revoked too (operator)."`
	Create keysCreateCommand `cmd:"" help:"Create a further API key of a customer and print it, this once (operator)."`
	Revoke keysRevokeCommand `cmd:"" help:"Revoke an API key, for good (operator)."`
}

// ofCustomer is what the commands have in common that the operator uses on a customer.
type ofCustomer struct {
	connection
	Customer string `arg:"" help:"Whose."`
}

type keysListCommand struct{ ofCustomer }

// Run lists the API keys.
func (c *keysListCommand) Run(app *app) error {
	return show(c.operator, app.report.Keys, func(api *client.Client) ([]client.Key, error) { return api.Keys(app.ctx, c.Customer) })
}

type keysCreateCommand struct {
	ofCustomer
	Name string `arg:"" help:"What the key is for."`
}

// Run creates an API key.
func (c *keysCreateCommand) Run(app *app) error {
	return show(c.operator, app.report.NewKey, func(api *client.Client) (client.NewKey, error) {
		return api.CreateKey(app.ctx, c.Customer, c.Name)
	})
}

type keysRevokeCommand struct {
	ofCustomer
	ID string `arg:"" help:"The id of the key, as galley keys list prints it: not the key itself."`
}

// Run revokes an API key.
func (c *keysRevokeCommand) Run(app *app) error {
	return app.do(c.operator, func(api *client.Client) error { return api.RevokeKey(app.ctx, c.Customer, c.ID) }, "%s is revoked", c.ID)
}
