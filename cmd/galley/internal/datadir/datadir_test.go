package datadir_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/cmd/galley/internal/datadir"
)

func TestLock(t *testing.T) {
	t.Parallel()
	dir, err := datadir.New(filepath.Join(t.TempDir(), "new", "data"))
	require.NoError(t, err)
	release, err := dir.Lock()
	require.NoError(t, err)
	_, err = dir.Lock()
	require.ErrorIs(t, err, datadir.ErrInUse)
	require.ErrorContains(t, err, string(dir)+": stop process "+strconv.Itoa(os.Getpid()))
	require.NoError(t, release())
	release, err = dir.Lock()
	require.NoError(t, err)
	require.NoError(t, release())
}

func TestWriteAndRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "some.key")
	text, err := datadir.Read(path)
	require.NoError(t, err)
	assert.Empty(t, text, "there is no such file")
	for _, line := range []string{"first", "second"} {
		require.NoError(t, datadir.Write(path, line))
		text, err = datadir.Read(path)
		require.NoError(t, err)
		assert.Equal(t, line, text)
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode())
	}
	files, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, files, 1, "nothing temporary is left")
	require.Error(t, datadir.Write(filepath.Join(path, "x"), "a file is no directory"))
}
