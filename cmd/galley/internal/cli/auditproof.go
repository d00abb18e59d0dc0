package cli

import (
	"fmt"
	"os"
	"strconv"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	schema "github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/services/audit/verify"
)

// proved is a proof with what it has shown.
type proved[Proof, Found any] struct {
	Proof    *Proof `json:"proof"`
	Verified Found  `json:"verified"`
}

// blame says with which public key a proof is wrong, and where that is from.
func blame(err error, key, from string) error {
	return fmt.Errorf("with the public key %s (%s): %w", key, from, err)
}

type auditProofCommand struct {
	owner
	trust
	output
	Event string `arg:"" help:"The id of the event; of an execution <execution>/accepted, /funded and /completed."`
}

// Run gets a proof and checks it.
func (c *auditProofCommand) Run(app *app) error {
	return use(c.client, func(api *client.Client) error {
		key, from, err := c.key(app, c.dataDir, api)
		if err != nil {
			return err
		}
		proof, err := api.AuditProof(app.ctx, c.Customer, c.Event)
		if err != nil {
			return err
		}
		found, err := verify.Inclusion(&proof, verify.Options{Key: key})
		if err == nil && found.EventID != c.Event {
			err = fmt.Errorf("%w: it is of event %.200q", verify.ErrProof, found.EventID)
		}
		if err != nil {
			return blame(err, key, from)
		}
		return c.print(app, proved[schema.Inclusion, verify.Included]{&proof, found}, func() { app.report.Inclusion(&proof, &found, from) })
	})
}

type auditConsistencyCommand struct {
	connection
	trust
	output
	Older string `arg:"" name:"size|file" help:"The size of an older tree head, or better a file that holds one."`
}

// Run checks that an older head is the beginning of the log. A head that was kept says more than one that the server has.
func (c *auditConsistencyCommand) Run(app *app) error {
	return use(c.customer, func(api *client.Client) error {
		key, from, err := c.key(app, c.dataDir, api)
		if err != nil {
			return err
		}
		older, size, err := c.older(app, api, key)
		if err != nil {
			return err
		}
		newest, err := api.TreeHead(app.ctx)
		if err != nil {
			return err
		}
		if newest.Size < size {
			return fmt.Errorf("the log was cut off or put back: it had %d rows, and its newest tree head has %d", size, newest.Size)
		}
		proof, err := api.AuditConsistency(app.ctx, size, 0)
		if err != nil {
			return err
		}
		found, err := verify.Consistency(older, &proof, verify.Options{Key: key, Former: c.FormerKeys})
		if err != nil {
			return blame(err, key, from)
		}
		return c.print(app, proved[schema.Consistency, verify.Consistent]{&proof, found}, func() { app.report.Consistency(&found, from) })
	})
}

// older is the signed head that was named, and its size.
func (c *auditConsistencyCommand) older(app *app, api *client.Client, key string) (note string, size int64, err error) {
	if size, err = strconv.ParseInt(c.Older, 10, 64); err == nil {
		app.warn("the older tree head is the server's, too: one that was kept elsewhere proves more")
		proof, err := api.AuditConsistency(app.ctx, 1, size)
		return proof.Note, size, err
	}
	text, err := os.ReadFile(c.Older)
	if err != nil {
		return "", 0, fmt.Errorf("read the older tree head: %w", err)
	}
	head, err := verify.OpenHead(string(text), verify.Options{Key: key, Former: c.FormerKeys})
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", c.Older, err)
	}
	return string(text), head.Size, nil
}
