package cli

import (
	"errors"
	"time"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/pkg/lifecycle"
)

// ofOne says whose a command's matter is: that of one customer.
type ofOne struct {
	connection
	Customer string `help:"Whose (operator); that of the API key's customer unless given." placeholder:"ID"`
}

func (o *ofOne) client() (*client.Client, error) {
	if o.Customer != "" {
		return o.operator()
	}
	return o.customer()
}

type auditEraseCommand struct {
	ofOne
	Events       []string `arg:"" optional:"" help:"Ids of events."`
	ResourceType string   `help:"All of this resource, with --resource." placeholder:"TYPE"`
	Resource     string   `help:"All of this resource, with --resource-type." placeholder:"ID"`
	Actor        string   `help:"All that this actor did." placeholder:"ID"`
	Yes          bool     `help:"Erase: there is no way back."`
}

var errNotConfirmed = lifecycle.Usage(errors.New("erasing is for ever: say --yes"))

// Run erases what events of the audit log say.
func (c *auditEraseCommand) Run(app *app) error {
	if !c.Yes {
		return errNotConfirmed
	}
	return show(c.client, func(erased int64) {
		app.report.Line("events of which something was erased: %d; the rows themselves stay", erased)
	}, func(api *client.Client) (int64, error) {
		return api.EraseAudit(app.ctx, c.Customer, &client.Erasure{
			EventIDs: c.Events, ResourceType: c.ResourceType, ResourceID: c.Resource, ActorID: c.Actor,
		})
	})
}

type auditWebhookGroup struct {
	Show   auditWebhookShowCommand   `cmd:"" default:"withargs" help:"Show where tree heads are delivered, and how that went."`
	Set    auditWebhookSetCommand    `cmd:"" help:"Have tree heads delivered; prints the secret that they are signed with when it is new."`
	Delete auditWebhookDeleteCommand `cmd:"" help:"Have no more tree heads delivered."`
}

type auditWebhookShowCommand struct{ ofOne }

// Run shows the webhook.
func (c *auditWebhookShowCommand) Run(app *app) error {
	return show(c.client, app.report.Webhook, func(api *client.Client) (client.Webhook, error) {
		return api.AuditWebhook(app.ctx, c.Customer)
	})
}

type auditWebhookSetCommand struct {
	ofOne
	URL       string        `arg:"" name:"url" help:"Where to."`
	Interval  time.Duration `default:"1h" help:"How often at most, from 1m."`
	NewSecret bool          `help:"Make a new secret in place of the one there is."`
}

// Run sets the webhook.
func (c *auditWebhookSetCommand) Run(app *app) error {
	return show(c.client, app.report.Webhook, func(api *client.Client) (client.Webhook, error) {
		return api.SetAuditWebhook(app.ctx, c.Customer, &client.WebhookSettings{
			URL: c.URL, IntervalSeconds: int64(c.Interval / time.Second), NewSecret: c.NewSecret,
		})
	})
}

type auditWebhookDeleteCommand struct{ ofOne }

// Run deletes the webhook.
func (c *auditWebhookDeleteCommand) Run(app *app) error {
	return app.do(c.client, func(api *client.Client) error {
		return api.DeleteAuditWebhook(app.ctx, c.Customer)
	}, "no more tree heads are delivered")
}
