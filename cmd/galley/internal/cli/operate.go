package cli

import (
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/cmd/galley/internal/datadir"
	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/services/ingest"
)

// database says which Postgres a command of the operator works on.
type database struct {
	dataDir
	DatabaseURL string `name:"database-url" env:"GALLEY_DATABASE_URL" help:"The database; without it, that of the galley that runs on the data directory." placeholder:"URL"`
}

func (d *database) url() (string, error) {
	if d.DatabaseURL != "" {
		return d.DatabaseURL, nil
	}
	dir, err := datadir.New(d.DataDir)
	if err != nil {
		return "", err
	}
	url, err := datadir.Read(dir.DatabaseURL())
	if err != nil {
		return "", fmt.Errorf("find the database: %w", err)
	}
	if url == "" {
		return "", lifecycle.Usage(fmt.Errorf("no galley runs on %s: start it, or set GALLEY_DATABASE_URL", dir))
	}
	return url, nil
}

type rebuildCommand struct {
	database
	NATSURL string `name:"nats-url" default:"nats://127.0.0.1:4222" env:"GALLEY_NATS_URL" help:"The NATS server that holds the journal."`
}

// Run has the executions projected anew by the running galley.
func (c *rebuildCommand) Run(app *app) error {
	url, err := c.url()
	if err != nil {
		return err
	}
	messages, err := connect(c.NATSURL, "galley-rebuild")
	if err != nil {
		return err
	}
	defer messages.Conn.Close()
	rows, err := ingest.RebuildProjection(app.ctx, url, messages)
	if err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	app.report.Line("%d executions are being read again from the journal", rows)
	return nil
}

// connect opens a connection for one command, which its caller closes.
func connect(url, name string) (*bus.Bus, error) {
	conn, err := bus.Connect(url, name, nats.RetryOnFailedConnect(false))
	if err != nil {
		return nil, fmt.Errorf("GALLEY_NATS_URL is %s: %w", url, err)
	}
	messages, err := bus.New(conn, bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	if err != nil {
		conn.Close()
	}
	return messages, err
}
