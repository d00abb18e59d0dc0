package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/galley-engine/galley/cmd/galley/internal/datadir"
	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/audit"
	"github.com/galley-engine/galley/services/audit/verify"
)

type auditExportCommand struct {
	owner
	File string `short:"f" help:"Where to; standard output unless given." placeholder:"FILE"`
}

// Run writes an export. A file that is not whole does not stay.
func (c *auditExportCommand) Run(app *app) (err error) {
	api, err := c.client()
	if err != nil {
		return err
	}
	defer api.Close()
	if c.File == "" || c.File == "-" {
		return api.AuditExport(app.ctx, c.Customer, func(lines io.Reader) error {
			_, err := io.Copy(app.Out, lines)
			return err
		})
	}
	temporary := c.File + ".part"
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	var size int64
	err = api.AuditExport(app.ctx, c.Customer, func(lines io.Reader) (err error) {
		size, err = io.Copy(file, lines)
		return err
	})
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := os.Rename(temporary, c.File); err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	app.report.Line("%s has the export, %d bytes; verify it with galley audit verify --file %s", c.File, size, c.File)
	return nil
}

type auditVerifyCommand struct {
	owner
	trust
	output
	File        string   `short:"f" help:"Verify this export, without a connection; - for standard input." placeholder:"FILE"`
	Database    bool     `help:"Verify the whole log, straight from the database (operator)."`
	DatabaseURL string   `name:"database-url" env:"GALLEY_DATABASE_URL" help:"The database for --database; without it, that of the galley that runs on the data directory." placeholder:"URL"`
	NATSURL     string   `name:"nats-url" env:"GALLEY_NATS_URL" help:"The NATS server that tree heads were published on, for --database; without it, that of the galley that runs on the data directory." placeholder:"URL"`
	Heads       []string `name:"head" type:"existingfile" help:"A tree head that was kept elsewhere: the log must still be the one that it is of." placeholder:"FILE"`
	MaxFindings int      `default:"100" help:"How many findings to list." placeholder:"N"`
}

// Run verifies. Anything that is wrong makes the command fail.
func (c *auditVerifyCommand) Run(app *app) error {
	options := verify.Options{Former: c.FormerKeys, MaxFindings: c.MaxFindings}
	for _, path := range c.Heads {
		head, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read a tree head: %w", err)
		}
		options.Published = append(options.Published, string(head))
	}
	run := c.online
	switch {
	case c.File != "" && c.Database:
		return lifecycle.Usage(errors.New("--file and --database are two ways to verify: choose one"))
	case c.File != "":
		run = c.offline
	case c.Database:
		run = c.database
	}
	found, from, err := run(app, options)
	if err != nil {
		return err
	}
	if found.Findings == nil {
		found.Findings = []verify.Finding{} // which JSON does not write as null
	}
	if c.json() {
		err = app.printJSON(found)
	} else {
		app.report.Verification(found, from)
	}
	if err == nil && !found.Whole() {
		err = errors.New("the audit log is not whole")
	}
	return err
}

// offline needs nothing but the file and the key, which must not be taken from the file.
func (c *auditVerifyCommand) offline(app *app, options verify.Options) (found *verify.Report, from string, err error) {
	if options.Key, from, err = c.own(c.dataDir); err != nil {
		return nil, "", err
	}
	if options.Key == "" {
		return nil, "", errNoKey
	}
	file := app.In
	if c.File != "-" {
		if file, err = os.Open(c.File); err != nil {
			return nil, "", fmt.Errorf("read the export: %w", err)
		}
		defer file.Close() //nolint:errcheck // it was only read
	}
	found, err = verify.Export(app.ctx, file, options)
	return found, from, err
}

// online verifies what the API gives, while it comes.
func (c *auditVerifyCommand) online(app *app, options verify.Options) (found *verify.Report, from string, err error) {
	api, err := c.client()
	if err != nil {
		return nil, "", err
	}
	defer api.Close()
	if options.Key, from, err = c.key(app, c.dataDir, api); err != nil {
		return nil, "", err
	}
	err = api.AuditExport(app.ctx, c.Customer, func(lines io.Reader) (err error) {
		found, err = verify.Export(app.ctx, lines, options)
		return err
	})
	return found, from, err
}

// database verifies all that is stored, against the heads that were published as well. The log gets a row about it, where NATS is there.
func (c *auditVerifyCommand) database(app *app, options verify.Options) (found *verify.Report, from string, err error) {
	if options.Key, from, err = c.own(c.dataDir); err != nil {
		return nil, "", err
	}
	if options.Key == "" {
		return nil, "", errNoKey
	}
	stored := database{dataDir: c.dataDir, DatabaseURL: c.DatabaseURL}
	url, err := stored.url()
	if err != nil {
		return nil, "", err
	}
	messages, err := c.published(app, &options)
	if err != nil {
		return nil, "", err
	}
	if messages != nil {
		defer messages.Conn.Close()
	}
	if found, err = audit.Verify(app.ctx, url, options); err != nil {
		return nil, "", err
	}
	if messages != nil {
		actor := event.Actor{Type: "operator", ID: "operator"}
		if err := audit.RecordVerification(app.ctx, messages, found, actor); err != nil {
			app.warn("the log gets no row about this verification: " + err.Error())
		}
	}
	return found, from, nil
}

// published adds the heads that are on NATS, and gives the connection, nil where there is none. A NATS that is named must be there.
func (c *auditVerifyCommand) published(app *app, options *verify.Options) (*bus.Bus, error) {
	url := c.NATSURL
	if url == "" && c.DatabaseURL == "" {
		dir, err := datadir.New(c.DataDir)
		if err != nil {
			return nil, err
		}
		if url, err = datadir.Read(dir.NATSURL()); err != nil {
			return nil, fmt.Errorf("find NATS: %w", err)
		}
	}
	if url == "" {
		app.warn("the log is not compared with the tree heads that were published, and gets no row about this verification: set GALLEY_NATS_URL")
		return nil, nil //nolint:nilnil // it is optional
	}
	messages, err := connect(url, "galley-audit-verify")
	if err != nil {
		return nil, err
	}
	heads, err := audit.PublishedHeads(app.ctx, messages)
	if err != nil {
		messages.Conn.Close()
		return nil, fmt.Errorf("read the published tree heads: %w", err)
	}
	options.Published = append(options.Published, heads...)
	return messages, nil
}
