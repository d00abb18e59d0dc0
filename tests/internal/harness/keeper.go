package harness

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
)

// keeper is a small shell process that outlives its maker, however that ends, and then kills the programs that still run and
// removes the directory. It waits for the end of a pipe whose other end only its maker holds, so the kernel tells it: a panic,
// the time-out of go test and kill -9 all skip deferred calls.
type keeper struct {
	command *exec.Cmd
	pipe    io.WriteCloser
}

// keeperScript reads "+ <pid>" and "- <pid>". A Postgres that a killed galley left running is found by its pid file.
const keeperScript = `
pids=' '
while read -r sign pid; do
	case $sign in
	+) pids="$pids$pid " ;;
	-) pids="${pids%% $pid *} ${pids#* $pid }" ;;
	esac
done
[ "$pids" = ' ' ] || kill -KILL $pids 2>/dev/null
for file in $(find "$1" -name postmaster.pid 2>/dev/null); do
	pid=$(head -n 1 "$file") && kill -QUIT "$pid" 2>/dev/null
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		[ -e "$file" ] && kill -0 "$pid" 2>/dev/null || break
		sleep 0.1
	done
done
rm -rf "$1"
`

func newKeeper(dir string) (*keeper, error) {
	command := exec.Command("/bin/sh", "-c", keeperScript, "keeper", dir) //nolint:noctx // it has to outlive every context
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C in the terminal must not end it
	pipe, err := command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make the keeper's pipe: %w", err)
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	return &keeper{command: command, pipe: pipe}, nil
}

func (k *keeper) watch(pid int) error {
	_, err := fmt.Fprintf(k.pipe, "+ %d\n", pid)
	return err
}

func (k *keeper) forget(pid int) error {
	_, err := fmt.Fprintf(k.pipe, "- %d\n", pid)
	return err
}

// dismiss lets the keeper do its work now and waits for it.
func (k *keeper) dismiss() error {
	return errors.Join(k.pipe.Close(), k.command.Wait())
}
