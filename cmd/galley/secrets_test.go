package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// feed runs a client command with a text on its standard input.
func (i *installation) feed(t *testing.T, text string, args ...string) (out string, code int) {
	t.Helper()
	cmd := command(t.Context(), i.environment(), args...)
	cmd.Stdin = strings.NewReader(text)
	output, err := cmd.CombinedOutput()
	require.NotNil(t, cmd.ProcessState, "%v", err)
	return string(output), cmd.ProcessState.ExitCode()
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	i := install(t)
	first := i.start(t)
	path := filepath.Join(i.dir, "secrets.key")
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	key, err := os.ReadFile(path)
	require.NoError(t, err)

	assert.Contains(t, i.succeed(t, "secrets", "list"), "there are no secrets")
	out, code := i.feed(t, "hunter2-hunter2\n", "secrets", "set", "token")
	require.Zero(t, code, out)
	assert.Equal(t, "  token is set\n", out)
	file := filepath.Join(t.TempDir(), "value")
	require.NoError(t, os.WriteFile(file, []byte("hunter2-hunter2"), 0o600))
	i.succeed(t, "secrets", "set", "pin", "--value-file", file)
	out = i.succeed(t, "secrets")
	assert.Regexp(t, `(?s)pin +\d{4}-\d\d-\d\d .*token +\d{4}`, out)
	assert.NotContains(t, out, "hunter2")
	assert.Contains(t, i.succeed(t, "secrets", "delete", "pin"), "pin is deleted")
	assert.Contains(t, i.succeed(t, "audit"), "secret.deleted")

	for want, run := range map[string]func() (string, int){
		"1 to 16384 bytes":           func() (string, int) { return i.feed(t, "\n", "secrets", "set", "token") },
		"must be a text of 1":        func() (string, int) { return i.feed(t, strings.Repeat("hunter2", 4096), "secrets", "set", "token") },
		"Type the value of token":    func() (string, int) { return i.run(t, "secrets", "set", "token") }, // the null device looks like a terminal
		"/name":                      func() (string, int) { return i.feed(t, "hunter2", "secrets", "set", "a.b") },
		`the secret "pin" is not`:    func() (string, int) { return i.run(t, "secrets", "delete", "pin") },
		"unexpected argument hunter": func() (string, int) { return i.run(t, "secrets", "set", "token", "hunter") },
	} {
		out, code := run()
		assert.NotZero(t, code)
		assert.Contains(t, out, want)
		assert.NotContains(t, out, "hunter2")
	}

	assert.Zero(t, first.end(t, syscall.SIGTERM))
	assert.NotContains(t, first.out.String(), "hunter2")
	second := i.start(t)
	again, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, key, again)
	assert.Contains(t, i.succeed(t, "secrets", "list"), "token")
	assert.Zero(t, second.end(t, syscall.SIGTERM))

	require.NoError(t, os.WriteFile(path, []byte("nonsense\n"), 0o600))
	broken := i.launch(t)
	<-broken.done
	assert.Equal(t, 2, broken.ProcessState.ExitCode())
	assert.Contains(t, broken.out.String(), "secrets.key: GALLEY_SECRETS_KEY must hold keys of 32 bytes in base64")
}
