package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	readyPeriod   = 5 * time.Millisecond   // how often a starting server is looked at
	adoptedPeriod = 200 * time.Millisecond // how often an adopted server, which is not our child, is looked at
	busyPeriod    = 50 * time.Millisecond
	// busyPatience bounds the wait for a server that is going down, or coming up, on its own.
	busyPatience = 30 * time.Second
	// maxLog is the size above which a start sets the log aside.
	maxLog = 16 << 20
)

// errBusy means that what is left of an earlier server is still in the way.
var errBusy = errors.New("an earlier server on the same data is still there")

// run adopts the server that runs on the cluster or starts one. It returns the directory of its socket.
func (c *cluster) run(ctx context.Context) (socketDir string, _ *process, err error) {
	if socketDir, err = c.prepareSocketDir(); err != nil {
		return "", nil, fmt.Errorf("prepare the directory of the socket: %w", err)
	}
	changed, err := c.writeSettings(ctx, socketDir)
	if err != nil {
		return "", nil, fmt.Errorf("write the settings: %w", err)
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), busyPatience)
	defer cancel()
	var proc *process
	var busy error
	err = poll(ctx, busyPeriod, func() (bool, error) {
		var err error
		if proc, err = c.attempt(ctx, socketDir, changed); errors.Is(err, errBusy) && patience.Err() == nil {
			busy = err
			return false, nil
		}
		return true, err
	})
	if err != nil && ctx.Err() != nil && busy != nil {
		err = fmt.Errorf("%w: %w", err, busy)
	}
	return socketDir, proc, err
}

// attempt tries once to come by a server; errBusy says that it is worth trying again.
func (c *cluster) attempt(ctx context.Context, socketDir string, changed bool) (*process, error) {
	old, err := readPIDFile(c.path(dataName))
	if err != nil {
		return nil, err
	}
	if old.pid == 0 || !alive(old.pid) {
		return c.launch(ctx, old.pid)
	}
	if old.socketDir == "" {
		return nil, fmt.Errorf("%w: process %d has only begun", errBusy, old.pid)
	}
	switch err := greet(ctx, old.socketDir); {
	case errors.Is(err, errDead):
		return c.launch(ctx, old.pid)
	case err != nil:
		return nil, fmt.Errorf("%w: greet process %d: %w", errBusy, old.pid, err)
	case !old.ready:
		return nil, fmt.Errorf("%w: process %d is starting or stopping", errBusy, old.pid)
	}
	proc := adopt(context.WithoutCancel(ctx), old)
	if changed || old.socketDir != socketDir {
		if err := proc.stop(); err != nil {
			return nil, fmt.Errorf("stop the server that has other settings: %w", err)
		}
		return c.launch(ctx, 0)
	}
	return proc, nil
}

// launch starts a server as a child process and waits until it accepts connections.
func (c *cluster) launch(ctx context.Context, stale int) (*process, error) {
	log, err := c.openLog()
	if err != nil {
		return nil, fmt.Errorf("open the server's log: %w", err)
	}
	defer log.Close() //nolint:errcheck // the server writes to its own copy
	begin, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	cmd := c.command(context.WithoutCancel(ctx), "postgres", "-D", c.path(dataName), "-c", "config_file="+c.path(confName))
	cmd.Stdout, cmd.Stderr = log, log
	if stale != 0 {
		// Postgres will not start while any process has the id in a left-over postmaster.pid, be it a zombie or, after the
		// restart of a container, a stranger. Named as the grandparent, as pg_ctl names itself, that process is not taken for a
		// postmaster. A postmaster that does live on is still noticed, by the shared memory that it is attached to.
		cmd.Env = append(cmd.Env, "PG_GRANDPARENT_PID="+strconv.Itoa(stale))
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	proc := &process{pid: cmd.Process.Pid, done: make(chan struct{})}
	go func() {
		if proc.err = cmd.Wait(); proc.err == nil {
			proc.err = errors.New("somebody shut it down")
		}
		close(proc.done)
	}()
	if err := c.awaitReady(ctx, proc); err != nil {
		if stopErr := proc.stop(); stopErr != nil {
			return nil, errors.Join(err, stopErr)
		}
		return nil, fmt.Errorf("%w; %w", err, diagnose(log.Name(), begin))
	}
	return proc, nil
}

// awaitReady takes as long as ctx allows: after a crash the server recovers first.
func (c *cluster) awaitReady(ctx context.Context, proc *process) error {
	return poll(ctx, readyPeriod, func() (bool, error) {
		select {
		case <-proc.done:
			return false, fmt.Errorf("the server ended: %w", proc.err)
		default:
		}
		file, err := readPIDFile(c.path(dataName))
		return err == nil && file.pid == proc.pid && file.ready, err
	})
}

// diagnose returns what a failed server wrote to its log from the offset begin on, and errBusy when that tells of another
// server. The messages are never translated: the server runs in the C locale.
func diagnose(path string, begin int64) error {
	log, err := os.Open(path)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.NewSectionReader(log, begin, 4<<10))
	if err := errors.Join(err, log.Close()); err != nil {
		return err
	}
	said := fmt.Errorf("the server said: %s (see %s)", bytes.TrimSpace(text), path)
	for _, busy := range []string{`" already exists`, "is still in use", "Address already in use"} {
		if bytes.Contains(text, []byte(busy)) {
			return fmt.Errorf("%w: %w", errBusy, said)
		}
	}
	return said
}

func (c *cluster) openLog() (*os.File, error) {
	path := c.path(logName)
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
}

// adopt watches over a server that is not a child of this process.
func adopt(ctx context.Context, file pidFile) *process {
	proc := &process{pid: file.pid, adopted: true, done: make(chan struct{})}
	go func() {
		defer close(proc.done)
		proc.err = poll(ctx, adoptedPeriod, func() (bool, error) {
			// A killed process that nobody waits for keeps its id, so the server is asked too.
			if alive(file.pid) && !errors.Is(greet(ctx, file.socketDir), errDead) {
				return false, nil
			}
			return true, errors.New("it no longer answers")
		})
	}()
	return proc
}

// alive reports whether a process of ours has the id.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// pidFile is what a server says about itself in postmaster.pid. The zero value says that there is none.
type pidFile struct {
	pid       int
	socketDir string
	ready     bool // it accepts connections, or did so when it was killed
}

// readPIDFile reads a file that the server writes line by line: a line that is missing is yet to come.
func readPIDFile(dataDir string) (pidFile, error) {
	text, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if errors.Is(err, os.ErrNotExist) {
		return pidFile{}, nil
	}
	if err != nil {
		return pidFile{}, err
	}
	const pidLine, socketLine, statusLine = 0, 4, 7
	lines := strings.Split(string(text), "\n")
	line := func(n int) string {
		if n >= len(lines) {
			return ""
		}
		return strings.TrimSpace(lines[n])
	}
	pid, err := strconv.Atoi(line(pidLine))
	if err != nil || pid <= 0 {
		return pidFile{}, nil //nolint:nilerr // half-written
	}
	return pidFile{pid: pid, socketDir: line(socketLine), ready: line(statusLine) == "ready"}, nil
}
