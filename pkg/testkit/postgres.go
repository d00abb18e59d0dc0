package testkit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/pgserver"
)

// patience bounds every wait for a server. It is long, because test machines are busy; it is not a delay.
const patience = 60 * time.Second

// Postgres returns the URL of a new, empty database, as superuser. The database is dropped after the test, with whatever is
// still connected to it. Its server is shared by the tests of the process and does not sync to disk.
func Postgres(tb testing.TB) string {
	tb.Helper()
	address, err := shared.createDatabase(tb.Context())
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, shared.dropDatabase(context.Background(), address)) })
	return address
}

// shared is the one server of the process. It has to be a global: tests have nothing else in common.
var shared sharedPostgres //nolint:gochecknoglobals // see above

// sharedPostgres starts its server at the first use.
type sharedPostgres struct {
	mu     sync.Mutex
	server *privateServer
	count  int
}

func (s *sharedPostgres) createDatabase(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		server, err := startPrivate(ctx, pgserver.Config{NoSync: true})
		if err != nil {
			return "", err
		}
		s.server = server
	}
	s.count++
	name := fmt.Sprintf("test_%d", s.count)
	if err := s.exec(ctx, "CREATE DATABASE "+name); err != nil {
		return "", fmt.Errorf("create test database: %w", err)
	}
	address, err := url.Parse(s.server.URL())
	if err != nil {
		return "", err
	}
	address.Path = "/" + name
	return address.String(), nil
}

func (s *sharedPostgres) dropDatabase(ctx context.Context, address string) error {
	parsed, err := url.Parse(address)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.exec(ctx, "DROP DATABASE "+parsed.Path[1:]+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop test database: %w", err)
	}
	return nil
}

func (s *sharedPostgres) exec(ctx context.Context, statement string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.server.URL())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, statement)
	return err
}

func (s *sharedPostgres) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return nil
	}
	err := s.server.close()
	s.server = nil
	return err
}

// privateServer is a Postgres server in a directory of its own, of which nothing is left after close or after the end of the
// process.
type privateServer struct {
	*pgserver.Server
	config    pgserver.Config
	caretaker *caretaker
}

func startPrivate(ctx context.Context, config pgserver.Config) (_ *privateServer, err error) {
	dir, err := newDir()
	if err != nil {
		return nil, err
	}
	p := &privateServer{config: config}
	if p.caretaker, err = newCaretaker(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.caretaker.dismiss())
		}
	}()
	p.config.Dir = dir
	p.config.Settings = map[string]string{"max_connections": "300"} // tests run in parallel, each with its pools
	maps.Copy(p.config.Settings, config.Settings)
	return p, p.start(ctx)
}

func (p *privateServer) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	server, err := pgserver.Start(ctx, p.config)
	if err != nil {
		return err
	}
	p.Server = server
	return nil
}

func (p *privateServer) close() error {
	return errors.Join(p.Stop(), p.caretaker.dismiss())
}

// DedicatedPostgres is a Postgres server for one test, which may stop, start and kill it. Its URL stays the same throughout.
type DedicatedPostgres struct {
	server *privateServer
	url    string
}

// PostgresServer starts a server of its own for the test, which is stopped after it. Options change its configuration; it
// syncs to disk unless one of them sets NoSync.
func PostgresServer(tb testing.TB, options ...func(*pgserver.Config)) *DedicatedPostgres {
	tb.Helper()
	var config pgserver.Config
	for _, option := range options {
		option(&config)
	}
	server, err := startPrivate(tb.Context(), config)
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, server.close()) })
	return &DedicatedPostgres{server: server, url: server.URL()}
}

// URL returns the address of the database pgserver.Database, as superuser.
func (p *DedicatedPostgres) URL() string { return p.url }

// Stop shuts the server down in good order.
func (p *DedicatedPostgres) Stop(tb testing.TB) {
	tb.Helper()
	require.NoError(tb, p.server.Stop())
}

// Kill ends the server as kill -9 of its main process does, and waits until it is gone.
func (p *DedicatedPostgres) Kill(tb testing.TB) {
	tb.Helper()
	require.NoError(tb, syscall.Kill(p.server.PID(), syscall.SIGKILL))
	select {
	case <-p.server.Done():
	case <-time.After(patience):
		require.Fail(tb, "the killed Postgres server does not end")
	}
}

// Start starts the stopped or killed server again on the same data.
func (p *DedicatedPostgres) Start(tb testing.TB) {
	tb.Helper()
	require.NoError(tb, p.server.start(tb.Context()))
}
