package pgserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// minMajor is the oldest major version of Postgres that galley runs on.
const minMajor = 15

// Binaries is an installation of the Postgres server.
type Binaries struct {
	Dir   string // the directory of postgres and initdb
	Major int    // the major version, for example 15
}

func (b Binaries) path(program string) string { return filepath.Join(b.Dir, program) }

// FindBinaries looks for the Postgres server binaries: in the directory named by the environment variable PG_BIN and nowhere
// else when that is set, else in PATH, then in /usr/lib/postgresql/*/bin with the newest first, then where Homebrew keeps
// them. It returns [ErrNotInstalled], with what to install, when there are none or all are older than version 15.
func FindBinaries(ctx context.Context) (Binaries, error) {
	return findBinaries(ctx, searchPath(), 0)
}

// findBinaries returns the first usable installation in dirs. A major other than 0 asks for that version only: a cluster
// can be run by no other than the one that made it.
func findBinaries(ctx context.Context, dirs []string, major int) (Binaries, error) {
	var found []string
	for _, dir := range dirs {
		b := Binaries{Dir: dir}
		if !isProgram(b.path("postgres")) || !isProgram(b.path("initdb")) {
			continue
		}
		var err error
		if b.Major, err = majorVersion(ctx, b.path("postgres")); err != nil {
			return Binaries{}, err
		}
		if b.Major == major || major == 0 && b.Major >= minMajor {
			return b, nil
		}
		found = append(found, fmt.Sprintf("version %d in %s", b.Major, dir))
	}
	wanted := fmt.Sprintf("%d or newer", minMajor)
	if major != 0 {
		wanted = fmt.Sprintf("%d, which made the data directory,", major)
	}
	only := "none was found"
	if len(found) > 0 {
		only = "there is only " + strings.Join(found, " and ")
	}
	return Binaries{}, fmt.Errorf("%w: install the Postgres server %s (apt install postgresql, brew install postgresql@17, "+
		"or set PG_BIN to the directory of its programs): %s", ErrNotInstalled, wanted, only)
}

func searchPath() []string {
	if dir := os.Getenv("PG_BIN"); dir != "" {
		return []string{dir}
	}
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		// A link in PATH leads to the directory where initdb and the libraries are.
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin",
	} {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			continue // the patterns are constants and well-formed
		}
		slices.SortFunc(matches, func(a, b string) int { return cmp.Compare(versionInPath(b), versionInPath(a)) })
		dirs = append(dirs, matches...)
	}
	return dirs
}

// versionInPath returns the number in a path such as /usr/lib/postgresql/15/bin, and 0 when there is none.
func versionInPath(path string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(path)), "postgresql@"))
	if err != nil {
		return 0
	}
	return n
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

func majorVersion(ctx context.Context, postgres string) (int, error) {
	out, err := exec.CommandContext(ctx, postgres, "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("ask %s for its version: %w", postgres, err)
	}
	match := regexp.MustCompile(`\(PostgreSQL\) (\d+)`).FindSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("ask %s for its version: it answered %q", postgres, out)
	}
	return strconv.Atoi(string(match[1]))
}

// clusterVersion returns the major version that made the cluster in dataDir, or 0 when there is none yet.
func clusterVersion(dataDir string) (int, error) {
	text, err := os.ReadFile(filepath.Join(dataDir, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the version of the cluster: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("read the version of the cluster: %w", err)
	}
	return major, nil
}
