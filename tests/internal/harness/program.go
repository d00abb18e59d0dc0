package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	pollPeriod = 20 * time.Millisecond
	// patience bounds every wait for a program. It is long because test machines are busy; it is not a delay.
	patience = 90 * time.Second
	// stopPatience is how long a program may take to drain.
	stopPatience = 30 * time.Second
)

// program is a process that can be killed and started again with the same settings.
type program struct {
	name string
	path string
	args []string
	env  []string
	// ready is a URL that answers 200 while the program can do its work.
	ready string
	log   string

	keeper  *keeper
	command *exec.Cmd
	done    chan struct{}
	err     error // how it ended, set before done is closed
}

func (p *program) running() bool {
	if p.command == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *program) start() error {
	if p.running() {
		return nil
	}
	log, err := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	defer log.Close()                          //nolint:errcheck // the program writes to its own copy
	command := exec.Command(p.path, p.args...) //nolint:noctx // it ends by kill and stop only
	command.Env = append(cleanEnvironment(), p.env...)
	command.Stdout, command.Stderr = log, log
	command.Dir = filepath.Dir(p.log)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches the harness, which stops it in order
	if err := command.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	done := make(chan struct{})
	p.command, p.done = command, done
	go func() {
		p.err = command.Wait()
		close(done)
	}()
	return p.keeper.watch(command.Process.Pid)
}

// kill ends the process with SIGKILL and waits until it is gone.
func (p *program) kill() error { return p.end(syscall.SIGKILL) }

// stop asks the process to end, and waits. It is an error when it does not end well, or not in time.
func (p *program) stop() error {
	if !p.running() {
		return nil
	}
	if err := p.end(syscall.SIGTERM); err != nil {
		return err
	}
	if p.err != nil {
		return fmt.Errorf("%s did not end well: %w", p.name, p.err)
	}
	return nil
}

func (p *program) end(signal syscall.Signal) error {
	if !p.running() {
		return nil
	}
	pid := p.command.Process.Pid
	if err := p.command.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to %s: %w", signal, p.name, err)
	}
	timer := time.NewTimer(stopPatience)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.keeper.forget(pid)
	case <-timer.C:
	}
	_ = p.command.Process.Kill() // it may have ended after all
	<-p.done
	return errors.Join(fmt.Errorf("%s did not end within %v of %s", p.name, stopPatience, signal), p.keeper.forget(pid))
}

// awaitReady waits until the program says that it can do its work, and fails at once when it has ended.
func (p *program) awaitReady(ctx context.Context) error {
	if p.ready == "" {
		return nil
	}
	last := "no answer"
	err := poll(ctx, patience, func(ctx context.Context) (bool, error) {
		if !p.running() {
			return false, fmt.Errorf("%s ended: %w\n%s", p.name, p.err, tail(p.log))
		}
		var ok bool
		ok, last = probe(ctx, p.ready, last)
		return ok, nil
	})
	if err != nil {
		return fmt.Errorf("wait for %s (%s): %w", p.name, last, err)
	}
	return nil
}

func probe(ctx context.Context, url, last string) (ready bool, state string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false, err.Error()
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, last
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written
	text := make([]byte, 4096)
	n, _ := response.Body.Read(text)
	return response.StatusCode == http.StatusOK, strings.TrimSpace(string(text[:n]))
}

// poll calls try until it is true or fails, or until it took too long.
func poll(ctx context.Context, limit time.Duration, try func(ctx context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(pollPeriod)
	defer ticker.Stop()
	for {
		done, err := try(ctx)
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// tail is the end of a log, for error messages.
func tail(path string) string {
	const size = 4 << 10
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-size):])
}

// cleanEnvironment keeps settings of the developer's own galley, and keys that cost money, away from the one under test.
func cleanEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return strings.HasPrefix(name, "GALLEY_") || strings.HasPrefix(name, "OTEL_") || strings.HasSuffix(name, "_API_KEY")
	})
}

// The ports that this process gives to programs: a hundred of its own, below those that the kernel gives to outgoing connections, so that
// neither another test process nor a connection takes one between the look and the start, or while a killed program is down.
const (
	lowestPort   = 12_000
	portsEach    = 100
	portSections = 200
)

//nolint:gochecknoglobals // the ports of the process are one resource
var nextPort atomic.Int64

// freeAddress finds a port of 127.0.0.1 that nobody uses and that this process has not given away lately.
func freeAddress() (string, error) {
	section := lowestPort + os.Getpid()%portSections*portsEach
	var last error
	for range portsEach {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(section+int(nextPort.Add(1)%portsEach)))
		listener, err := net.Listen("tcp", address) //nolint:noctx // it does not wait
		if err == nil {
			return address, listener.Close()
		}
		last = err
	}
	return "", fmt.Errorf("find a free port: %w", last)
}
