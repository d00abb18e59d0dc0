package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/cmd/galley/internal/datadir"
	"github.com/galley-engine/galley/pkg/lifecycle"
	schema "github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit"
	"github.com/galley-engine/galley/services/audit/verify"
)

type auditGroup struct {
	List auditListCommand `cmd:"" default:"withargs" help:"List the newest rows."`

	Head        auditHeadCommand        `cmd:"" help:"Print the newest signed tree head; exit 1 when nothing is signed any more."`
	Proof       auditProofCommand       `cmd:"" help:"Print the proof that an event is in the log, and check it."`
	Consistency auditConsistencyCommand `cmd:"" help:"Check that the log still begins with what an older tree head says."`

	Export auditExportCommand `cmd:"" help:"Write an export, which can be verified without a connection."`
	Verify auditVerifyCommand `cmd:"" help:"Verify the log: an export, the database or what the API gives; exit 1 and say what is wrong."`

	Erase   auditEraseCommand `cmd:"" help:"Erase what rows say, for good; the rows stay."`
	Webhook auditWebhookGroup `cmd:"" help:"Where signed tree heads are delivered."`

	Key    auditKeyCommand    `cmd:"" help:"Print the public key."`
	NewKey auditNewKeyCommand `cmd:"" help:"Print the key of a new log, for GALLEY_AUDIT_KEY: it is secret."`
}

// output is how a command prints.
type output struct {
	Output string `short:"o" default:"text" enum:"text,json" help:"How to print: ${enum}."`
}

func (o *output) json() bool { return o.Output == "json" }

// print prints a value as JSON, or has it written, as was asked for.
func (o *output) print(app *app, value any, write func()) error {
	if o.json() {
		return app.printJSON(value)
	}
	write()
	return nil
}

// printJSON prints a value on one line.
func (a *app) printJSON(value any) error {
	encoded, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return a.print(append(encoded, '\n'))
}

// owner says whose part of the log a command is about.
type owner struct {
	connection
	Customer string `xor:"customer" help:"Whose (operator); that of the API key's customer unless given." placeholder:"ID"`
	All      bool   `xor:"customer" help:"Of everybody (operator)."`
}

func (o *owner) client() (*client.Client, error) {
	if o.Customer != "" || o.All {
		return o.operator()
	}
	return o.customer()
}

type auditListCommand struct {
	owner
	output
	Nobody       bool   `xor:"customer" help:"Only what belongs to no customer (operator)."`
	Execution    string `help:"Only the rows of this execution." placeholder:"ID"`
	Action       string `help:"Only this action, such as recipe.published." placeholder:"ACTION"`
	ResourceType string `help:"Only this type of resource, such as recipe." placeholder:"TYPE"`
	Resource     string `help:"Only this resource." placeholder:"ID"`
	ActorType    string `help:"Only what this type of actor did, such as api_key." placeholder:"TYPE"`
	Actor        string `help:"Only what this actor did." placeholder:"ID"`
	Outcome      string `help:"Only what ended so, such as failed." placeholder:"OUTCOME"`
	From         string `help:"Only what was recorded since this time, as in RFC 3339." placeholder:"TIME"`
	To           string `help:"Only what was recorded before this time." placeholder:"TIME"`
}

// Run prints rows of the audit log.
func (c *auditListCommand) Run(app *app) error {
	open := c.client
	if c.Nobody {
		open = c.operator
	}
	api, err := open()
	if err != nil {
		return err
	}
	defer api.Close()
	events, more, err := api.AuditEvents(app.ctx, client.AuditFilter{
		Customer: c.Customer, Nobody: c.Nobody, Execution: c.Execution, Action: c.Action, ResourceType: c.ResourceType, Resource: c.Resource,
		ActorType: c.ActorType, Actor: c.Actor, Outcome: c.Outcome, From: c.From, To: c.To,
	}, maxListed)
	if err != nil {
		return err
	}
	if !c.json() {
		app.report.AuditPage(events, more)
		return nil
	}
	for i := range events {
		if err := app.printJSON(&events[i]); err != nil {
			return err
		}
	}
	return nil
}

// trust says by which public key the log is believed.
type trust struct {
	Key        string   `env:"GALLEY_AUDIT_PUBLIC_KEY" help:"The log's public key, or a file that holds it; without it, audit.pub in the data directory and, where there is none, what the server itself says." placeholder:"KEY|FILE"`
	FormerKeys []string `name:"former-key" env:"GALLEY_AUDIT_FORMER_KEYS" help:"A public key that the log had before." placeholder:"KEY"`
}

var errNoKey = lifecycle.Usage(errors.New("the log's public key is needed: set --key or GALLEY_AUDIT_PUBLIC_KEY"))

// own finds the key on the side of whoever verifies: "" when it is not there. from says where it is from.
func (t *trust) own(dir dataDir) (key, from string, err error) {
	if t.Key != "" {
		text, err := os.ReadFile(t.Key)
		if errors.Is(err, os.ErrNotExist) {
			return t.Key, "as given", nil
		}
		if err != nil {
			return "", "", fmt.Errorf("read the public key: %w", err)
		}
		return strings.TrimSpace(string(text)), t.Key, nil
	}
	data, err := datadir.New(dir.DataDir)
	if err != nil {
		return "", "", err
	}
	if key, err = datadir.Read(data.AuditPublicKey()); err != nil {
		return "", "", fmt.Errorf("read the public key: %w", err)
	}
	return key, data.AuditPublicKey(), nil
}

// key is own, or else what the server says, which it tells plainly.
func (t *trust) key(app *app, dir dataDir, api *client.Client) (key, from string, err error) {
	if key, from, err = t.own(dir); err != nil || key != "" {
		return key, from, err
	}
	head, err := api.TreeHead(app.ctx)
	if err != nil {
		return "", "", fmt.Errorf("ask for the public key: %w", err)
	}
	app.warn("the public key is the server's own word: whoever can forge the log can forge it, too. Compare it with one that you have from " +
		"elsewhere, and set --key or GALLEY_AUDIT_PUBLIC_KEY")
	return head.PublicKey, "the server's own word", nil
}

// warn tells something that must not get lost among what is printed.
func (a *app) warn(text string) {
	fmt.Fprintln(a.Err, "galley: "+text)
}

type auditHeadCommand struct {
	connection
	trust
	output
	Save string `help:"Write the head to a file as well: it holds the operator to what is in the log now." placeholder:"FILE"`
}

// Run prints the newest head.
func (c *auditHeadCommand) Run(app *app) error {
	return use(c.customer, func(api *client.Client) error {
		head, err := api.TreeHead(app.ctx)
		if err != nil {
			return err
		}
		if err := c.check(app, api, &head); err != nil {
			return err
		}
		if c.Save != "" && head.Note != "" {
			if err := os.WriteFile(c.Save, []byte(head.Note), 0o600); err != nil {
				return fmt.Errorf("save the head: %w", err)
			}
		}
		err = c.print(app, &head, func() { app.report.TreeHead(&head) })
		if err == nil && head.Fault != "" {
			err = errors.New(head.Fault)
		}
		return err
	})
}

// check looks at the signature.
func (c *auditHeadCommand) check(app *app, api *client.Client, head *query.AuditTreeHeadReply) error {
	if head.Note == "" {
		return nil
	}
	key, _, err := c.key(app, c.dataDir, api)
	if err != nil {
		return err
	}
	// A log is the beginning of itself: what is left to check is the head.
	_, err = verify.Consistency(head.Note, &schema.Consistency{OlderSize: head.Size, Note: head.Note}, verify.Options{Key: key})
	return err
}

type auditKeyCommand struct {
	connection
	trust
}

// Run prints the public key.
func (c *auditKeyCommand) Run(app *app) error {
	key, _, err := c.own(c.dataDir)
	if err != nil {
		return err
	}
	if key == "" {
		api, err := c.customer()
		if err != nil {
			return err
		}
		defer api.Close()
		if key, _, err = c.key(app, c.dataDir, api); err != nil {
			return err
		}
	}
	return app.print([]byte(key + "\n"))
}

type auditNewKeyCommand struct{}

// Run prints the key of a new log, and what verifies it beside it.
func (c *auditNewKeyCommand) Run(app *app) error {
	key := audit.NewKey()
	public, err := audit.PublicKey(key)
	if err != nil {
		return err
	}
	app.warn("this key is secret, set GALLEY_AUDIT_KEY to it; what verifies its signatures is no secret: " + public)
	return app.print([]byte(key + "\n"))
}
