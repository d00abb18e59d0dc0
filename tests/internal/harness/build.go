package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/galley-engine/galley/tests/internal/repository"
)

// Names of the programs. Services are named as in their settings and subjects.
const (
	Galley   = "galley"
	Ingest   = "ingest"
	Billing  = "billing"
	Executor = "executor"
	Audit    = "audit"
	NATS     = "nats"
	Postgres = "postgres"
	// Worker is an instance of worker.count, which only those installations have that add it.
	Worker = "worker"
)

// Services lists the four services.
func Services() []string { return []string{Ingest, Billing, Executor, Audit} }

// Needs lists the programs that an installation of a mode may run.
func Needs(mode Mode) []string {
	if mode == Single {
		return []string{Galley, Worker}
	}
	return append(Services(), NATS, Worker)
}

// Binaries is a temporary directory with freshly built programs.
type Binaries struct {
	dir    string
	keeper *keeper
}

// Build compiles the named programs, each module by itself.
func Build(ctx context.Context, names ...string) (_ *Binaries, err error) {
	root, err := repository.Root()
	if err != nil {
		return nil, err
	}
	b := &Binaries{}
	if b.dir, err = os.MkdirTemp("", "galley-bin-"); err != nil {
		return nil, fmt.Errorf("make directory for binaries: %w", err)
	}
	if b.keeper, err = newKeeper(b.dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.dir))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Remove())
		}
	}()
	sources := map[string][2]string{Galley: {"cmd/galley", "."}, NATS: {"tests", "./cmd/natsd"}, Worker: {"tests", "./cmd/worker"}}
	for _, service := range Services() {
		sources[service] = [2]string{"services/" + service, "./cmd/" + service}
	}
	for _, name := range names {
		source := sources[name]
		args := []string{"build"}
		if raceEnabled {
			args = append(args, "-race")
		}
		command := exec.CommandContext(ctx, "go", append(args, "-o", b.Path(name), source[1])...)
		command.Dir = filepath.Join(root, filepath.FromSlash(source[0]))
		command.Env = append(os.Environ(), "GOWORK=off")
		if output, err := command.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w\n%s", name, err, output)
		}
	}
	return b, nil
}

// Path is where the named program is.
func (b *Binaries) Path(name string) string { return filepath.Join(b.dir, name) }

// Remove deletes the programs.
func (b *Binaries) Remove() error { return b.keeper.dismiss() }
