package testkit_test

import (
	"bufio"
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
)

func TestPostgresGivesEmptyDatabases(t *testing.T) {
	t.Parallel()
	for range 5 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			conn := open(t, testkit.Postgres(t))
			_, err := conn.Exec(t.Context(), "CREATE TABLE same_name (id int)")
			require.NoError(t, err)
		})
	}
}

func TestPostgresDropsDatabases(t *testing.T) { //nolint:tparallel // the end of the subtest is awaited
	t.Parallel()
	var address string
	t.Run("user", func(t *testing.T) {
		address = testkit.Postgres(t)
		open(t, address)
	})
	_, err := pgx.Connect(t.Context(), address)
	require.ErrorContains(t, err, "does not exist")
}

func TestPostgresServerLosesNothing(t *testing.T) {
	t.Parallel()
	srv := testkit.PostgresServer(t)
	_, err := open(t, srv.URL()).Exec(t.Context(), "CREATE TABLE kept (id int)")
	require.NoError(t, err)
	_, err = open(t, srv.URL()).Exec(t.Context(), "INSERT INTO kept VALUES (1)")
	require.NoError(t, err)

	srv.Kill(t)
	srv.Start(t)
	_, err = open(t, srv.URL()).Exec(t.Context(), "INSERT INTO kept VALUES (2)")
	require.NoError(t, err)

	srv.Stop(t)
	srv.Start(t)
	var count int
	require.NoError(t, open(t, srv.URL()).QueryRow(t.Context(), "SELECT count(*) FROM kept").Scan(&count))
	require.Equal(t, 2, count)
}

// The environment variable makes the test binary the process that is killed.
const victimEnv = "TESTKIT_VICTIM"

func TestVictim(t *testing.T) {
	t.Parallel()
	if os.Getenv(victimEnv) == "" {
		t.Skip("runs as a child of TestKilledProcessLeavesNothing")
	}
	address, err := url.Parse(testkit.Postgres(t))
	require.NoError(t, err)
	_, err = os.Stdout.WriteString(address.Query().Get("host") + "\n")
	require.NoError(t, err)
	<-t.Context().Done()
}

func TestKilledProcessLeavesNothing(t *testing.T) {
	t.Parallel()
	temp := testkit.TempDir(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestVictim$") //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), victimEnv+"=1", "TMPDIR="+temp)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	socketDir, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	socketDir = strings.TrimSpace(socketDir)
	require.FileExists(t, filepath.Join(socketDir, ".s.PGSQL.5432.lock"))

	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())

	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Dir(socketDir))
		left, globErr := filepath.Glob(filepath.Join(temp, "galley-test-*"))
		return errors.Is(err, os.ErrNotExist) && globErr == nil && len(left) == 0
	}, 30*time.Second, 10*time.Millisecond)
}

func open(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the test may have killed its server
	return conn
}
