package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/galley-engine/galley/pkg/pgserver"
)

// database is the Postgres of split mode, which keeps its URL when it is killed and started again.
type database struct {
	config pgserver.Config
	server *pgserver.Server
	url    string
}

func startDatabase(ctx context.Context, dir string) (*database, error) {
	// Everything but kill -9 is out of the question here, so nothing has to reach the disk.
	d := &database{config: pgserver.Config{Dir: dir, NoSync: true}}
	if err := d.start(ctx); err != nil {
		return nil, err
	}
	d.url = d.server.URL()
	return d, nil
}

func (d *database) start(ctx context.Context) error {
	if d.server != nil {
		select {
		case <-d.server.Done():
		default:
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	server, err := pgserver.Start(ctx, d.config)
	if err != nil {
		return fmt.Errorf("start Postgres: %w", err)
	}
	d.server = server
	return nil
}

func (d *database) kill() error {
	if err := kill(d.server.PID()); err != nil {
		return err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-d.server.Done():
		return nil
	case <-timer.C:
		return errors.New("the killed Postgres does not end")
	}
}

func (d *database) stop() error { return d.server.Stop() }

// signalAll sends a signal to the server and to all its children.
func signalAll(postmaster int, signal syscall.Signal) error {
	pids := []int{postmaster}
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", postmaster))
	if err != nil {
		return fmt.Errorf("list the processes of Postgres: %w", err)
	}
	for _, file := range children {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("list the processes of Postgres: %w", err)
		}
		for field := range bytes.FieldsSeq(text) {
			if pid, err := strconv.Atoi(string(field)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("send %s to Postgres: %w", signal, err)
		}
	}
	return nil
}

func kill(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill Postgres: %w", err)
	}
	return nil
}

// findPostmaster finds the process of the Postgres whose data is somewhere below dir.
func findPostmaster(dir string) (pid int, err error) {
	file := ""
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Base(path) == "postmaster.pid" {
			file = path
			return fs.SkipAll
		}
		return nil // files come and go in a directory that is in use
	})
	if err != nil {
		return 0, fmt.Errorf("find Postgres: %w", err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("find Postgres: %w", err)
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	pid, err = strconv.Atoi(string(bytes.TrimSpace(first)))
	if err != nil {
		return 0, fmt.Errorf("find Postgres: %w", err)
	}
	return pid, nil
}
