package pgserver

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// parentEnv makes the test binary a process that starts a server in that directory and waits to be killed.
const parentEnv = "PGSERVER_PARENT_OF"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentEnv); dir != "" {
		server, err := Start(context.Background(), Config{Dir: dir, NoSync: true})
		if err != nil {
			fmt.Fprintln(os.Stdout, err)
			os.Exit(1)
		}
		fmt.Fprintln(os.Stdout, server.PID())
		select {}
	}
	goleak.VerifyTestMain(withTemplate{m})
}

// template is the directory of a cluster to copy, which is many times faster than to make one.
var template string //nolint:gochecknoglobals // made once for all tests

type withTemplate struct{ m *testing.M }

func (w withTemplate) Run() int {
	var err error
	if template, err = makeTemplate(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(template) //nolint:errcheck // in the directory for temporary files
	return w.m.Run()
}

func makeTemplate() (string, error) {
	dir, err := os.MkdirTemp("", "pgserver-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // as tempDir
		return "", err
	}
	server, err := Start(context.Background(), Config{Dir: dir, NoSync: true})
	if err != nil {
		return "", err
	}
	return dir, server.Stop()
}

// clusterDir returns the directory of a cluster that has been started before.
func clusterDir(t *testing.T) string {
	t.Helper()
	dir := tempDir(t)
	copyCluster(t, dir)
	return dir
}

func copyCluster(t *testing.T, dir string) {
	t.Helper()
	cp := exec.CommandContext(t.Context(), "cp", "-a", filepath.Join(template, dataName), dir) //nolint:gosec // our own paths
	out, err := cp.CombinedOutput()
	require.NoError(t, err, string(out))
}

// orphan starts a server from another process, kills that process and returns the server's process id.
func orphan(t *testing.T, dir string) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0]) //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), parentEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err, line)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	return pid
}

// tempDir is t.TempDir for the user that Postgres runs as, who cannot enter the one of root.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgserver-") //nolint:usetesting // see above
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711)) //nolint:gosec // for that user
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func mustStart(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg.NoSync = true
	server, err := Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Stop()) })
	return server
}

func open(t *testing.T, server *Server) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // its server may be dead
	return conn
}

func query(t *testing.T, server *Server, sql string) string {
	t.Helper()
	var text string
	require.NoError(t, open(t, server).QueryRow(t.Context(), sql).Scan(&text))
	return text
}

func createTable(t *testing.T, server *Server) {
	t.Helper()
	_, err := open(t, server).Exec(t.Context(), "CREATE TABLE kept (id int)")
	require.NoError(t, err)
}

func requireTable(t *testing.T, server *Server) {
	t.Helper()
	require.Equal(t, "0", query(t, server, "SELECT count(*)::text FROM kept"))
}

func kill(t *testing.T, server *Server) {
	t.Helper()
	require.NoError(t, syscall.Kill(server.PID(), syscall.SIGKILL))
	select {
	case <-server.Done():
	case <-time.After(time.Minute):
		require.Fail(t, "the death of the server goes unnoticed")
	}
}

func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// fakeBinaries makes programs that know no more than their version.
func fakeBinaries(t *testing.T, version string) string {
	t.Helper()
	dir := tempDir(t)
	script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n"
	for _, program := range []string{"postgres", "initdb"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755)) //nolint:gosec // a program
	}
	return dir
}
