package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The entries of a cluster's directory; the package documentation says what they are for.
const (
	dataName      = "data"
	confName      = "postgresql.conf"
	hbaName       = "pg_hba.conf"
	logName       = "postgres.log"
	socketName    = "socket"
	lockName      = "lock"
	relocatedName = "relocated"
)

// spareRoot is where root's clusters go when the Postgres user cannot reach the directory asked for. It is not the directory
// for temporary files, because the data has to outlive a reboot.
const spareRoot = "/var/lib/galley"

// lockPatience is how long a start waits for the process before it to let go of the directory.
const lockPatience = 2 * time.Second

// cluster is a directory made ready: it is known where the data is, who runs the server and with which binaries.
type cluster struct {
	cfg  Config
	home string
	bins Binaries
	as   *account
}

func (c *cluster) path(name string) string { return filepath.Join(c.home, name) }

// openCluster finds or makes the directory of the cluster, in a place that the user who runs Postgres can reach.
func openCluster(ctx context.Context, cfg Config, spare string) (*cluster, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711 // the server's user has to pass through; data and socket stay private
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return nil, err
	}
	home, err := followRelocation(dir)
	if err != nil {
		return nil, err
	}
	c := &cluster{cfg: cfg, home: home}
	major, err := clusterVersion(c.path(dataName))
	if err != nil {
		return nil, err
	}
	search := searchPath()
	if cfg.BinDir != "" {
		search = []string{cfg.BinDir}
	}
	if c.bins, err = findBinaries(ctx, search, major); err != nil {
		return nil, err
	}
	if c.as, err = chooseAccount(c.path(dataName)); err != nil {
		return nil, err
	}
	if c.as == nil {
		return c, nil
	}
	err = c.checkReach(ctx)
	if errors.Is(err, ErrUnreachable) && major == 0 {
		return c, c.relocate(ctx, spare, err)
	}
	return c, err
}

// followRelocation returns the real directory of the cluster, free of symbolic links.
func followRelocation(dir string) (string, error) {
	link := filepath.Join(dir, relocatedName)
	home, err := filepath.EvalSymlinks(link)
	if err == nil {
		return home, nil
	}
	if _, lstatErr := os.Lstat(link); lstatErr == nil {
		return "", fmt.Errorf("the data of this directory is gone; to start afresh, delete the link that leads to it: %w", err)
	}
	return filepath.EvalSymlinks(dir)
}

// relocate makes a directory for a new cluster below spare and leaves a link to it in the one that is out of reach. Its name
// is a new one each time: a deleted and recreated directory must not find the data of the deleted one.
func (c *cluster) relocate(ctx context.Context, spare string, reason error) (err error) {
	if err := os.MkdirAll(spare, 0o711); err != nil { //nolint:gosec // the postgres user has to pass through
		return errors.Join(reason, err)
	}
	if err := os.Chmod(spare, 0o711); err != nil { //nolint:gosec // whatever the umask made of it
		return errors.Join(reason, err)
	}
	origin, link := c.home, c.path(relocatedName)
	if c.home, err = os.MkdirTemp(spare, "postgres-"); err != nil {
		return errors.Join(reason, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(c.home))
		}
	}()
	if err := os.WriteFile(c.path("origin"), []byte(origin+"\n"), 0o600); err != nil {
		return err
	}
	if err := c.checkReach(ctx); err != nil {
		return errors.Join(reason, err)
	}
	return os.Symlink(c.home, link)
}

// checkReach tries, as the user who runs Postgres, to enter the directory and to run the server program. Trying it also covers
// what permission bits do not show: access lists, security modules, user namespaces.
func (c *cluster) checkReach(ctx context.Context) error {
	if err := c.tryIn(ctx, "/"); err != nil {
		return fmt.Errorf("%w: user %s cannot run %s: %w", ErrUnreachable, c.as, c.bins.path("postgres"), err)
	}
	if c.tryIn(ctx, c.home) == nil {
		return nil
	}
	var parents []string
	for dir := c.home; dir != "/"; dir = filepath.Dir(dir) {
		parents = append(parents, dir)
	}
	for _, dir := range slices.Backward(parents) {
		err := c.tryIn(ctx, dir)
		if err != nil && dir == c.home {
			if err = os.Chmod(dir, 0o711); err == nil { //nolint:gosec // as where it is made
				err = c.tryIn(ctx, dir)
			}
		}
		if err != nil {
			return fmt.Errorf("%w: user %s cannot enter %s: allow it with chmod o+x, choose another data directory, or run galley "+
				"as a user other than root: %w", ErrUnreachable, c.as, dir, err)
		}
	}
	return nil
}

func (c *cluster) tryIn(ctx context.Context, dir string) error {
	cmd := c.command(ctx, "postgres", "--version")
	cmd.Dir = dir
	return cmd.Run()
}

// command prepares one of Postgres' programs to run as the right user.
func (c *cluster) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.bins.path(program), args...) //nolint:gosec // found or configured
	// Not the directory of this process, which the user may be unable to enter.
	cmd.Dir = c.home
	cmd.Env = cleanEnvironment()
	cmd.SysProcAttr = c.as.attributes()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// cleanEnvironment drops what would change how Postgres behaves or in which language it logs.
func cleanEnvironment() []string {
	env := slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, "PG") || strings.HasPrefix(entry, "LC_") || strings.HasPrefix(entry, "LANG")
	})
	return append(env, "LC_ALL=C")
}

// acquireLock makes this process the only one to manage the cluster. The kernel lets the lock go when the process ends,
// whichever way it ends.
func (c *cluster) acquireLock(ctx context.Context) (*os.File, error) {
	file, err := os.OpenFile(c.path(lockName), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	err = poll(waiting, 20*time.Millisecond, func() (bool, error) {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
			return false, nil
		}
		return err == nil, err
	})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		holder, readErr := os.ReadFile(file.Name())
		return nil, errors.Join(fmt.Errorf("%w: process %s runs on %s", ErrInUse, bytes.TrimSpace(holder), c.home),
			readErr, file.Close())
	}
	if err == nil {
		if err = file.Truncate(0); err == nil {
			_, err = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// create makes the cluster unless there is one. It is made under another name and renamed when it is complete, so that a
// start that was killed half-way leaves nothing that looks like a cluster.
func (c *cluster) create(ctx context.Context) error {
	if _, err := os.Stat(c.path(dataName)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	const unfinished = "initdb-"
	leftovers, err := filepath.Glob(c.path(unfinished) + "*")
	if err != nil {
		return err
	}
	for _, leftover := range leftovers {
		if err := os.RemoveAll(leftover); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp(c.home, unfinished)
	if err != nil {
		return err
	}
	if err := c.as.own(dir); err != nil {
		return err
	}
	if err := c.fill(ctx, dir); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	if err := os.Rename(dir, c.path(dataName)); err != nil {
		return err
	}
	if c.cfg.NoSync {
		return nil
	}
	return syncDir(c.home)
}

// fill makes a cluster in dir, with the database.
func (c *cluster) fill(ctx context.Context, dir string) error {
	initdb := []string{
		"--pgdata=" + dir,
		"--username=" + Superuser,
		"--encoding=UTF8",
		"--no-locale",   // the C locale: an upgrade of the operating system cannot change the order of an index
		"--auth=reject", // whoever starts the cluster by hand, without our pg_hba.conf, opens it to nobody
		"--data-checksums",
		"--no-instructions",
	}
	// A single-user server makes the database before anybody can connect; it needs no client program.
	single := []string{"--single", "-D", dir, "-c", "exit_on_error=on", "-c", "log_checkpoints=off"}
	if c.cfg.NoSync {
		initdb = append(initdb, "--no-sync")
		single = append(single, "-F")
	}
	if out, err := c.command(ctx, "initdb", initdb...).CombinedOutput(); err != nil {
		return fmt.Errorf("run initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	cmd := c.command(ctx, "postgres", append(single, "postgres")...)
	cmd.Stdin = strings.NewReader("CREATE DATABASE " + Database + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("create database %s: %w: %s", Database, err, bytes.TrimSpace(out))
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// poll calls try at once and then once per period until it reports true, fails, or ctx ends.
func poll(ctx context.Context, period time.Duration, try func() (bool, error)) error {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		if done, err := try(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
