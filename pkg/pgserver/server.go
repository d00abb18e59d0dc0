package pgserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// The superuser and the database that every cluster has from its first start.
const (
	Superuser = "postgres"
	Database  = "galley"
)

// port is part of the socket's name only: the server listens on no network address.
const port = 5432

// How long Stop waits after each signal. A fast shutdown writes a checkpoint, which takes seconds on a slow disk.
const (
	fastPatience      = 60 * time.Second
	immediatePatience = 10 * time.Second
)

// Errors that [Start] returns, to be told apart with errors.Is.
var (
	// ErrNotInstalled is returned when no usable Postgres server binaries were found.
	ErrNotInstalled = errors.New("postgres is not installed")
	// ErrInUse is returned when another process manages the cluster in the same directory.
	ErrInUse = errors.New("the postgres directory is in use")
	// ErrUnreachable is returned when the user that Postgres runs as cannot reach the directory or the binaries.
	ErrUnreachable = errors.New("the postgres user cannot reach a path that it needs")
)

// Config says where a private server keeps its data and how it runs.
type Config struct {
	// Dir is the directory of the cluster. It is created when it does not exist. It should hold nothing else.
	Dir string
	// BinDir holds the programs postgres and initdb. Empty means to look for them, see [FindBinaries].
	BinDir string
	// Settings are added to the server's settings, and replace those of the same name.
	Settings map[string]string
	// NoSync turns fsync off, for tests: the data survives a kill -9 of any process but not a loss of power.
	NoSync bool
}

// Validate reports what is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("dir is empty"))
	}
	for name, value := range c.Settings {
		if !settingName.MatchString(name) {
			errs = append(errs, fmt.Errorf("setting %q is not the name of a setting", name))
		}
		if !isOneLine(value) {
			errs = append(errs, fmt.Errorf("setting %s has a value with a line break", name))
		}
	}
	return errors.Join(errs...)
}

// Server is a running private server.
type Server struct {
	home    string
	url     string
	adopted bool
	proc    *process
	lock    *os.File

	stopping atomic.Bool
	done     chan struct{}
	err      error // set before done is closed
}

// Start starts the server in cfg.Dir, or takes over the one that a killed process left running there. The first start also
// makes the cluster and the database [Database]. It returns when the server accepts connections; ctx bounds the start only.
//
// Start may be called again on the same directory as soon as [Server.Done] of the earlier server is closed.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	return start(ctx, cfg, spareRoot)
}

func start(ctx context.Context, cfg Config, spare string) (_ *Server, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("postgres configuration: %w", err)
	}
	cfg.Settings = maps.Clone(cfg.Settings)
	c, err := openCluster(ctx, cfg, spare)
	if err != nil {
		return nil, fmt.Errorf("open postgres directory: %w", err)
	}
	lock, err := c.acquireLock(ctx)
	if err != nil {
		return nil, fmt.Errorf("lock postgres directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	if err := c.create(ctx); err != nil {
		return nil, fmt.Errorf("create postgres cluster: %w", err)
	}
	socket, proc, err := c.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	s := &Server{
		home:    c.home,
		url:     connectionURL(socket),
		adopted: proc.adopted,
		proc:    proc,
		lock:    lock,
		done:    make(chan struct{}),
	}
	go s.watch()
	return s, nil
}

// watch gives the directory back as soon as the server is gone, so that the next Start finds it free.
func (s *Server) watch() {
	<-s.proc.done
	err := s.lock.Close()
	if !s.stopping.Load() {
		err = errors.Join(fmt.Errorf("postgres (process %d) ended: %w", s.proc.pid, s.proc.err), err)
	}
	s.err = err
	close(s.done)
}

// URL returns the connection URL of the superuser, over the Unix socket, to the database [Database].
func (s *Server) URL() string { return s.url }

// Dir returns the directory of the cluster: Config.Dir, or where it was relocated to.
func (s *Server) Dir() string { return s.home }

// LogFile returns the path of the server's log.
func (s *Server) LogFile() string { return filepath.Join(s.home, logName) }

// PID returns the process id of the postmaster.
func (s *Server) PID() int { return s.proc.pid }

// Adopted reports whether the server had been left running by an earlier process.
func (s *Server) Adopted() bool { return s.adopted }

// Done is closed when the server has ended, whoever ended it.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns nil while the server runs and after [Server.Stop], and else how the server ended.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Stop ends the server with a fast shutdown, which breaks off connections and writes a checkpoint, and waits until it is gone.
// A server that does not obey in time is stopped harder, which costs a recovery at the next start; the error says so. Stopping
// a server that has ended does nothing. Stop may be called from several goroutines.
func (s *Server) Stop() error {
	s.stopping.Store(true)
	if err := s.proc.stop(); err != nil {
		return fmt.Errorf("stop postgres: %w", err)
	}
	<-s.done
	return nil
}

func connectionURL(socketDir string) string {
	query := url.Values{}
	query.Set("host", socketDir)
	query.Set("port", strconv.Itoa(port)) // or PGPORT in the client's environment would decide
	u := url.URL{Scheme: "postgres", User: url.User(Superuser), Path: "/" + Database, RawQuery: query.Encode()}
	return u.String()
}

// process is a postmaster, started by this process or adopted by it.
type process struct {
	pid     int
	adopted bool
	done    chan struct{}
	err     error // how it ended, set before done is closed
}

func (p *process) stop() error {
	steps := []struct {
		signal   syscall.Signal
		patience time.Duration
	}{
		{syscall.SIGINT, fastPatience},       // fast shutdown
		{syscall.SIGQUIT, immediatePatience}, // immediate shutdown, no checkpoint
		{syscall.SIGKILL, immediatePatience}, // its children notice and end by themselves
	}
	for i, step := range steps {
		if p.ended(0) {
			return nil
		}
		if err := syscall.Kill(p.pid, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("send %s to process %d: %w", step.signal, p.pid, err)
		}
		if p.ended(step.patience) {
			if i > 0 {
				return fmt.Errorf("process %d ignored the fast shutdown and was ended by %s: the next start recovers", p.pid, step.signal)
			}
			return nil
		}
	}
	return fmt.Errorf("process %d does not end", p.pid)
}

// ended waits up to patience for the end of the process and reports whether it has come.
func (p *process) ended(patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	default:
	}
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}
