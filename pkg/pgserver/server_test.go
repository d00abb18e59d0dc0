package pgserver

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStartsAndKeepsData(t *testing.T) {
	t.Parallel()
	cfg := Config{Dir: filepath.Join(tempDir(t), "new", "pg"), Settings: map[string]string{"work_mem": "5MB"}}
	first := mustStart(t, cfg)
	assert.False(t, first.Adopted())
	assert.Equal(t, cfg.Dir, first.Dir())
	assert.Equal(t, "galley", query(t, first, "SELECT current_database()"))
	assert.Equal(t, "5MB", query(t, first, "SHOW work_mem"))
	assert.Empty(t, query(t, first, "SHOW listen_addresses"))
	createTable(t, first)
	require.NoError(t, first.Stop())
	require.NoError(t, first.Stop())
	require.NoError(t, first.Err())
	require.ErrorIs(t, syscall.Kill(first.PID(), 0), syscall.ESRCH)

	second := mustStart(t, cfg)
	assert.Equal(t, first.URL(), second.URL())
	requireTable(t, second)
}

func TestSyncsToDiskByDefault(t *testing.T) {
	t.Parallel()
	server, err := Start(t.Context(), Config{Dir: filepath.Join(tempDir(t), "pg")})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Stop()) })
	for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes", "data_checksums"} {
		assert.Equal(t, "on", query(t, server, "SHOW "+name), name)
	}
}

func TestOnlyItsUserReachesIt(t *testing.T) {
	t.Parallel()
	server := mustStart(t, Config{Dir: clusterDir(t)})
	for _, name := range []string{dataName, socketName} {
		info, err := os.Stat(filepath.Join(server.Dir(), name))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o700), info.Mode().Perm(), name)
	}
}

func TestAdoptsTheServerOfAKilledProcess(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	pid := orphan(t, dir)
	server := mustStart(t, Config{Dir: dir})
	assert.True(t, server.Adopted())
	assert.Equal(t, pid, server.PID())
	createTable(t, server)

	kill(t, server)
	require.ErrorContains(t, server.Err(), "no longer answers")
	again := mustStart(t, Config{Dir: dir})
	assert.False(t, again.Adopted())
	requireTable(t, again)
}

func TestStopsAnAdoptedServer(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	orphan(t, dir)
	server := mustStart(t, Config{Dir: dir})
	require.NoError(t, server.Stop())
	require.NoError(t, server.Err())
	require.ErrorIs(t, greet(t.Context(), filepath.Join(dir, socketName)), errDead)
}

func TestReplacesAnOrphanWithOtherSettings(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	pid := orphan(t, dir)
	server := mustStart(t, Config{Dir: dir, Settings: map[string]string{"work_mem": "6MB"}})
	assert.False(t, server.Adopted())
	assert.NotEqual(t, pid, server.PID())
	assert.Equal(t, "6MB", query(t, server, "SHOW work_mem"))
}

func TestWaitsForADyingOrphan(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	pid := orphan(t, dir)
	require.NoError(t, syscall.Kill(pid, syscall.SIGINT))
	server := mustStart(t, Config{Dir: dir})
	require.Equal(t, "1", query(t, server, "SELECT '1'"))
	require.NoError(t, server.Stop())
}

func TestRecoversAfterTheServerWasKilled(t *testing.T) {
	t.Parallel()
	cfg := Config{Dir: clusterDir(t)}
	server := mustStart(t, cfg)
	createTable(t, server)
	// A busy backend outlives the postmaster, attached to its shared memory, and has to be waited for.
	busy, ended := open(t, server), make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = busy.Exec(context.Background(), "SELECT sum(i) FROM generate_series(1, 10000000) i")
	}()
	observer := open(t, server)
	require.Eventually(t, func() bool {
		var active bool
		err := observer.QueryRow(t.Context(), "SELECT count(*) = 2 FROM pg_stat_activity "+
			"WHERE state = 'active' AND backend_type = 'client backend'").Scan(&active)
		return err == nil && active
	}, time.Minute, 5*time.Millisecond)
	kill(t, server)
	require.ErrorContains(t, server.Err(), "killed")
	require.NoError(t, server.Stop())

	again := mustStart(t, cfg)
	assert.Equal(t, server.URL(), again.URL())
	requireTable(t, again)
	<-ended
}

func TestNoticesAShutdownByOthers(t *testing.T) {
	t.Parallel()
	server := mustStart(t, Config{Dir: clusterDir(t)})
	require.NoError(t, syscall.Kill(server.PID(), syscall.SIGTERM))
	<-server.Done()
	require.ErrorContains(t, server.Err(), "somebody shut it down")
}

func TestIgnoresALeftOverPIDThatIsSomebodyElse(t *testing.T) {
	t.Parallel()
	cfg := Config{Dir: clusterDir(t)}
	server := mustStart(t, cfg)
	kill(t, server)
	path := filepath.Join(server.Dir(), dataName, "postmaster.pid")
	text, err := os.ReadFile(path)
	require.NoError(t, err)

	account, err := chooseAccount(filepath.Join(server.Dir(), dataName))
	require.NoError(t, err)
	stranger := exec.CommandContext(t.Context(), "sleep", "600")
	stranger.Dir = "/"
	stranger.SysProcAttr = account.attributes()
	require.NoError(t, stranger.Start())
	t.Cleanup(func() {
		_ = stranger.Process.Kill()
		_ = stranger.Wait()
	})
	_, rest, _ := strings.Cut(string(text), "\n")
	require.NoError(t, os.WriteFile(path, []byte(strconv.Itoa(stranger.Process.Pid)+"\n"+rest), 0o600))

	again := mustStart(t, cfg)
	require.Equal(t, "1", query(t, again, "SELECT '1'"))
	require.NoError(t, stranger.Process.Signal(syscall.Signal(0)), "the stranger was left alone")
}

// After the death of a postmaster its socket is still connected to for as long as a child of it holds it.
func TestASocketIsNotYetAServer(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	listener, err := net.Listen("unix", socketFile(dir)) //nolint:noctx // it does not wait
	require.NoError(t, err)
	greeted := make(chan error)
	go func() { greeted <- greet(t.Context(), dir) }()
	conn, err := listener.Accept()
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.ErrorIs(t, <-greeted, errDead)
	require.NoError(t, listener.Close())
	require.ErrorIs(t, greet(t.Context(), dir), errDead)
}

func TestNeverRunsTwoServersOnOneCluster(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	pid := orphan(t, dir)
	path := socketFile(filepath.Join(dir, socketName))
	require.NoError(t, os.Rename(path, path+".hidden"))
	// Time enough for a busy machine to start a server that says why it does not run.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := Start(ctx, Config{Dir: dir, NoSync: true})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "is still in use")

	require.NoError(t, os.Rename(path+".hidden", path))
	server := mustStart(t, Config{Dir: dir})
	require.Equal(t, pid, server.PID())
	require.Equal(t, "1", query(t, server, "SELECT '1'"))
}

func TestRefusesASecondManager(t *testing.T) {
	t.Parallel()
	cfg := Config{Dir: clusterDir(t)}
	server := mustStart(t, cfg)
	_, err := Start(t.Context(), cfg)
	require.ErrorIs(t, err, ErrInUse)
	require.ErrorContains(t, err, "process "+strconv.Itoa(os.Getpid()))
	require.Equal(t, "1", query(t, server, "SELECT '1'"))
}

func TestSaysWhyTheServerDoesNotStart(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	_, err := Start(t.Context(), Config{Dir: dir, NoSync: true, Settings: map[string]string{"no_such_setting": "1"}})
	require.ErrorContains(t, err, `unrecognized configuration parameter "no_such_setting"`)
	mustStart(t, Config{Dir: dir})
}

func TestCancelledStartLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), "pg")
	for _, after := range []time.Duration{0, 100 * time.Millisecond, 300 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		server, err := Start(ctx, Config{Dir: dir, NoSync: true})
		cancel()
		if err == nil {
			require.NoError(t, server.Stop())
			continue
		}
		require.True(t, errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "killed"), err)
	}
	mustStart(t, Config{Dir: dir})
	unfinished, err := filepath.Glob(filepath.Join(dir, "initdb-*"))
	require.NoError(t, err)
	require.Empty(t, unfinished)
}

func TestClearsAnUnfinishedFirstStart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), "pg")
	unfinished := filepath.Join(dir, "initdb-123")
	require.NoError(t, os.MkdirAll(unfinished, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(unfinished, "PG_VERSION"), []byte("15\n"), 0o600))
	mustStart(t, Config{Dir: dir})
	require.NoDirExists(t, unfinished)
}

func TestSetsALongLogAside(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, logName), nil, 0o600))
	require.NoError(t, os.Truncate(filepath.Join(dir, logName), maxLog+1))
	server := mustStart(t, Config{Dir: dir})
	require.FileExists(t, server.LogFile()+".1")
	info, err := os.Stat(server.LogFile())
	require.NoError(t, err)
	require.Less(t, info.Size(), int64(maxLog))
}
