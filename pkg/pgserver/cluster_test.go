package pgserver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPathTooLongForASocket(t *testing.T) {
	t.Parallel()
	cfg := Config{Dir: filepath.Join(tempDir(t), strings.Repeat("long/", 20), "pg")}
	require.NoError(t, os.MkdirAll(cfg.Dir, 0o711)) //nolint:gosec // as tempDir
	copyCluster(t, cfg.Dir)
	server := mustStart(t, cfg)
	socketDir := query(t, server, "SHOW unix_socket_directories")
	t.Cleanup(func() { assert.NoError(t, os.Remove(socketDir)) })
	require.NotContains(t, socketDir, server.Dir())
	info, err := os.Stat(socketDir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	require.NoError(t, server.Stop())

	again := mustStart(t, cfg)
	require.Equal(t, server.URL(), again.URL())
	require.NoError(t, again.Stop())

	// Somebody else's directory in its place.
	require.NoError(t, os.Chmod(socketDir, 0o755)) //nolint:gosec // that is the point
	_, err = Start(t.Context(), cfg)
	require.ErrorContains(t, err, socketDir+" is not a directory that only")
}

func TestRelocatesWhenTheServersUserCannotEnter(t *testing.T) {
	t.Parallel()
	asRoot(t)
	closed := filepath.Join(tempDir(t), "closed")
	require.NoError(t, os.Mkdir(closed, 0o700))
	cfg := Config{Dir: filepath.Join(closed, "pg"), NoSync: true}
	spare := filepath.Join(tempDir(t), "spare")

	server, err := start(t.Context(), cfg, spare)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Stop()) })
	require.Equal(t, spare, filepath.Dir(server.Dir()))
	createTable(t, server)
	require.NoError(t, server.Stop())

	again := mustStart(t, cfg)
	require.Equal(t, server.Dir(), again.Dir())
	requireTable(t, again)
	require.NoError(t, again.Stop())

	// A directory that was deleted to start afresh does not find the old data.
	require.NoError(t, os.RemoveAll(cfg.Dir))
	fresh, err := start(t.Context(), cfg, spare)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, fresh.Stop()) })
	require.NotEqual(t, server.Dir(), fresh.Dir())
	require.NoError(t, fresh.Stop())

	// Data that is gone is not silently replaced by an empty cluster.
	require.NoError(t, os.RemoveAll(fresh.Dir()))
	_, err = start(t.Context(), cfg, spare)
	require.ErrorContains(t, err, "the data of this directory is gone")
}

func TestNamesTheDirectoryThatCannotBeEntered(t *testing.T) {
	t.Parallel()
	asRoot(t)
	closed := filepath.Join(tempDir(t), "closed")
	require.NoError(t, os.Mkdir(closed, 0o755)) //nolint:gosec // for now
	cfg := Config{Dir: filepath.Join(closed, "below", "pg"), NoSync: true}
	server := mustStart(t, cfg)
	require.NoError(t, server.Stop())

	require.NoError(t, os.Chmod(closed, 0o700)) //nolint:gosec // a directory
	_, err := Start(t.Context(), cfg)
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorContains(t, err, "cannot enter "+closed+": allow it with chmod o+x")

	// There is no other place either.
	cfg.Dir = filepath.Join(closed, "new")
	_, err = start(t.Context(), cfg, filepath.Join(closed, "spare"))
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorContains(t, err, "cannot enter "+closed)
	left, err := os.ReadDir(filepath.Join(closed, "spare"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestOpensItsOwnDirectoryToTheServersUser(t *testing.T) {
	t.Parallel()
	asRoot(t)
	dir := filepath.Join(tempDir(t), "pg")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.Equal(t, dir, mustStart(t, Config{Dir: dir}).Dir())
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		config Config
		want   string
	}{
		"no directory":           {Config{}, "dir is empty"},
		"not a setting":          {Config{Dir: "d", Settings: map[string]string{"a b": ""}}, `"a b" is not the name`},
		"an injected setting":    {Config{Dir: "d", Settings: map[string]string{"a": "1'\nfsync = off"}}, "line break"},
		"everything is in order": {Config{Dir: "d", Settings: map[string]string{"auto_explain.log": "it's"}}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.config.Validate()
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestReadPIDFile(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		content string
		want    pidFile
	}{
		"empty":    {"", pidFile{}},
		"begun":    {"12\n/data\n", pidFile{pid: 12}},
		"starting": {"12\n/data\n1700000000\n5432\n/sock\n\n  1  2\nstarting\n", pidFile{pid: 12, socketDir: "/sock"}},
		"ready":    {"12\n/data\n1700000000\n5432\n/sock\n\n  1  2\nready   \n", pidFile{pid: 12, socketDir: "/sock", ready: true}},
		"single":   {"-12\n/data\n", pidFile{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte(test.content), 0o600))
			got, err := readPIDFile(dir)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
	got, err := readPIDFile(t.TempDir())
	require.NoError(t, err)
	require.Zero(t, got)
}
