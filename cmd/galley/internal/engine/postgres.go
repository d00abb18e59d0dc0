package engine

import (
	"context"
	"sync/atomic"
	"syscall"

	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/pgserver"
)

// database is the private Postgres. Its URL stays the same when the server dies and is started again.
type database struct {
	config pgserver.Config
	log    zerolog.Logger
	server atomic.Pointer[pgserver.Server]
}

func (d *database) start(ctx context.Context) error {
	server, err := pgserver.Start(ctx, d.config)
	if err != nil {
		return err
	}
	d.server.Store(server)
	return nil
}

// keep starts the server again whenever it dies, until ctx ends. The services wait for it by themselves.
func (d *database) keep(ctx context.Context) error {
	for {
		server := d.server.Load()
		select {
		case <-ctx.Done():
			return nil
		case <-server.Done():
		}
		d.log.Error().Err(server.Err()).Str("log", server.LogFile()).Msg("Postgres ended, starting it again")
		report := func(err error) { d.log.Error().Err(err).Msg("Postgres does not start, trying again") }
		if lifecycle.Retry(ctx, report, d.start) != nil {
			return nil //nolint:nilerr // ctx has ended, so there is no server to keep
		}
		d.log.Warn().Msg("Postgres is back")
	}
}

func (d *database) stop() error {
	if server := d.server.Load(); server != nil {
		return server.Stop()
	}
	return nil
}

// abort has the server end without a checkpoint, and does not wait for it.
func (d *database) abort() {
	if server := d.server.Load(); server != nil {
		_ = syscall.Kill(server.PID(), syscall.SIGQUIT) // it may have ended
	}
}
