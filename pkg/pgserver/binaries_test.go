package pgserver

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFindBinaries(t *testing.T) {
	t.Parallel()
	old, good, newer := fakeBinaries(t, "9.6.24"), fakeBinaries(t, "16.1"), fakeBinaries(t, "17beta1")
	none := t.TempDir()
	tests := map[string]struct {
		dirs  []string
		major int
		want  Binaries
		err   string
	}{
		"first":                  {[]string{none, good, newer}, 0, Binaries{good, 16}, ""},
		"too old is passed over": {[]string{old, newer, good}, 0, Binaries{newer, 17}, ""},
		"the cluster's version":  {[]string{newer, good}, 16, Binaries{good, 16}, ""},
		"none":                   {[]string{none}, 0, Binaries{}, "install the Postgres server 15 or newer"},
		"only too old":           {[]string{old}, 0, Binaries{}, "there is only version 9 in " + old},
		"not the cluster's":      {[]string{newer}, 16, Binaries{}, "install the Postgres server 16, which made the data directory"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := findBinaries(t.Context(), test.dirs, test.major)
			if test.err != "" {
				require.ErrorIs(t, err, ErrNotInstalled)
				require.ErrorContains(t, err, test.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestFindBinariesHonoursTheEnvironment(t *testing.T) {
	elsewhere := fakeBinaries(t, "16.1")
	inPath := filepath.Join(t.TempDir(), "postgres")
	require.NoError(t, os.Symlink(filepath.Join(elsewhere, "postgres"), inPath))
	t.Setenv("PG_BIN", "")
	t.Setenv("PATH", filepath.Dir(inPath)+":"+os.Getenv("PATH"))
	got, err := FindBinaries(t.Context())
	require.NoError(t, err)
	require.Equal(t, Binaries{elsewhere, 16}, got)

	chosen := fakeBinaries(t, "17.0")
	t.Setenv("PG_BIN", chosen)
	got, err = FindBinaries(t.Context())
	require.NoError(t, err)
	require.Equal(t, Binaries{chosen, 17}, got)

	t.Setenv("PG_BIN", t.TempDir())
	_, err = Start(t.Context(), Config{Dir: filepath.Join(tempDir(t), "pg")})
	require.ErrorIs(t, err, ErrNotInstalled)
}

func TestRefusesBinariesOfAnotherVersion(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	data := filepath.Join(dir, dataName)
	require.NoError(t, os.Mkdir(data, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("99\n"), 0o600))
	_, err := Start(t.Context(), Config{Dir: dir})
	require.ErrorIs(t, err, ErrNotInstalled)
	require.ErrorContains(t, err, "99, which made the data directory")
}

func TestVersionInPath(t *testing.T) {
	t.Parallel()
	require.Equal(t, 15, versionInPath("/usr/lib/postgresql/15/bin"))
	require.Equal(t, 17, versionInPath("/opt/homebrew/opt/postgresql@17/bin"))
	require.Equal(t, 0, versionInPath("/opt/homebrew/opt/postgresql/bin"))
}
