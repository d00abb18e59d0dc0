package testkit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TempDir returns a new directory that is removed after the test. Unlike that of t.TempDir, the user that Postgres runs as
// under root can enter it, and its path is short enough for a socket.
func TempDir(tb testing.TB) string {
	tb.Helper()
	dir, err := newDir()
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, os.RemoveAll(dir)) })
	return dir
}

func newDir() (string, error) {
	dir, err := os.MkdirTemp("", "galley-test-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711) //nolint:gosec // see TempDir
}

// caretaker is a small shell process that outlives the test process, however that ends, to clean up after a Postgres server:
// a panic, a time-out of go test, Ctrl-C and kill -9 all skip the cleanup of tests. It waits for the end of a pipe whose other
// end only the test process holds, so the kernel tells it. The alternative, PR_SET_PDEATHSIG, exists on Linux only, is lost
// with the change of user, and fires when the operating-system thread that forked ends, which Go does not control.
type caretaker struct {
	cmd  *exec.Cmd
	pipe io.Closer
}

// caretakerScript ends the server in the directory $1, if it still runs, and removes the directory and what it was relocated to.
const caretakerScript = `
cat >/dev/null
home=$(readlink "$1/relocated") || home=$1
file=$home/data/postmaster.pid
if [ -e "$file" ]; then
	kill -QUIT "$(head -n 1 "$file")"
	tries=25
	while [ -e "$file" ] && [ $((tries -= 1)) -gt 0 ]; do sleep 0.2; done
fi
rm -rf "$home" "$1"
`

func newCaretaker(dir string) (*caretaker, error) {
	//nolint:gosec,noctx // a constant script; it has to outlive every context
	cmd := exec.Command("/bin/sh", "-c", caretakerScript, "caretaker", dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C in the terminal must not end it
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the caretaker: %w", err)
	}
	return &caretaker{cmd: cmd, pipe: pipe}, nil
}

// dismiss lets the caretaker do its work now and waits for it.
func (c *caretaker) dismiss() error {
	return errors.Join(c.pipe.Close(), c.cmd.Wait())
}
