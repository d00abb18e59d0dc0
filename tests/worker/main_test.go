// Package worker_test holds workers to the protocol of docs/workers.md, as galley and a NATS client see it: the library for Go and the
// examples, in Go and in another language.
package worker_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/call"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/tests/internal/contract"
	"github.com/galley-engine/galley/tests/internal/harness/harnesstest"
	"github.com/galley-engine/galley/tests/internal/repository"
)

func TestMain(m *testing.M) { harnesstest.Main(m) }

const patience = 30 * time.Second

// example is a program of examples/.
type example struct {
	// serves is the name of the worker.
	serves string
	// arguments start it; the first is the program.
	arguments []string
	dir       string
}

// goExample builds the example in Go, by itself.
func goExample(t *testing.T) example {
	t.Helper()
	program := filepath.Join(t.TempDir(), "worker")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir, build.Env = examples(t, "worker-go"), append(os.Environ(), "GOWORK=off")
	output, err := build.CombinedOutput()
	require.NoError(t, err, string(output))
	return example{serves: "shout", arguments: []string{program}}
}

// nodeExample installs the example for Node.js in a copy.
func nodeExample(t *testing.T) example {
	t.Helper()
	if _, err := exec.LookPath("npm"); errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skip("Node.js is not installed")
	}
	dir := t.TempDir()
	for _, name := range []string{"worker.mjs", "package.json"} {
		text, err := os.ReadFile(filepath.Join(examples(t, "worker-node"), name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	install := exec.CommandContext(t.Context(), "npm", "install", "--no-audit", "--no-fund", "--no-package-lock")
	install.Dir = dir
	output, err := install.CombinedOutput()
	require.NoError(t, err, string(output))
	return example{serves: "spell", arguments: []string{"node", "worker.mjs"}, dir: dir}
}

func examples(t *testing.T, name string) string {
	t.Helper()
	root, err := repository.Root()
	require.NoError(t, err)
	return filepath.Join(root, "examples", name)
}

// start runs the program until the test ends, or kill is called.
func (e example) start(t *testing.T, url string) (kill func()) {
	t.Helper()
	command := exec.CommandContext(t.Context(), e.arguments[0], e.arguments[1:]...)
	command.Dir, command.Env = e.dir, append(os.Environ(), "NATS_URL="+url)
	command.Stdout, command.Stderr = t.Output(), t.Output()
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, command.Start())
	ended := make(chan struct{})
	go func() {
		_ = command.Wait()
		close(ended)
	}()
	kill = func() {
		_ = command.Process.Kill()
		<-ended
	}
	t.Cleanup(kill)
	return kill
}

// galley plays the part of galley: it makes calls.
type galley struct {
	server *testkit.NATSServer
	conn   *nats.Conn
	rules  *contract.Contract
	name   string
}

func newGalley(t *testing.T, server *testkit.NATSServer, name string) *galley {
	t.Helper()
	rules, err := contract.Load()
	require.NoError(t, err)
	return &galley{server: server, conn: server.Conn(t), rules: rules, name: name}
}

// made is a call.
type made struct {
	*galley
	inbox   *nats.Subscription
	control string
	key     string
}

// call makes a call, when the worker is there.
func (g *galley) call(t *testing.T, execution string, input any) *made {
	t.Helper()
	m := g.prepare(t, execution)
	data, err := json.Marshal(input)
	require.NoError(t, err)
	body, err := json.Marshal(call.Request{
		ExecutionID: execution, CustomerID: "cust_001", Step: "loud", Attempt: 1, Deadline: time.Now().Add(time.Minute).UTC(), TimeoutMS: 60_000,
		Input: data,
	})
	require.NoError(t, err)
	require.NoError(t, g.rules.CheckData("worker-call", body))
	require.Eventually(t, func() bool {
		return g.server.Server().GlobalAccount().Interest(subject.Worker("cust_001", g.name)) > 0
	}, patience, time.Millisecond, "no worker serves "+g.name)
	m.send(t, body)
	return m
}

func (g *galley) prepare(t *testing.T, execution string) *made {
	t.Helper()
	m := &made{galley: g, control: subject.Execution{Customer: "cust_001", ID: execution}.WorkerCall("loud"), key: execution + "/loud"}
	m.listen(t)
	return m
}

// listen makes another inbox.
func (m *made) listen(t *testing.T) {
	t.Helper()
	var err error
	m.inbox, err = m.conn.SubscribeSync(m.conn.NewInbox())
	require.NoError(t, err)
}

func (m *made) send(t *testing.T, body []byte) {
	t.Helper()
	message := &nats.Msg{Subject: subject.Worker("cust_001", m.name), Reply: m.inbox.Subject, Data: body}
	message.Header = nats.Header{call.HeaderKey: {m.key}, call.HeaderControl: {m.control}}
	require.NoError(t, m.conn.PublishMsg(message))
}

// tell says something to whoever works on the call.
func (m *made) tell(t *testing.T, control string) {
	t.Helper()
	require.NoError(t, m.conn.PublishRequest(m.control, m.inbox.Subject, []byte(control)))
}

// next is the next reply, which must be one that the protocol knows.
func (m *made) next(t *testing.T) call.Reply {
	t.Helper()
	message, err := m.inbox.NextMsg(patience)
	require.NoError(t, err)
	var reply call.Reply
	if len(message.Data) == 0 {
		return call.Reply{Heartbeat: true}
	}
	require.NoError(t, m.rules.CheckData("worker-reply", message.Data))
	require.NoError(t, json.Unmarshal(message.Data, &reply))
	return reply
}

// answer is the reply that ends the call.
func (m *made) answer(t *testing.T) call.Reply {
	t.Helper()
	for {
		if reply := m.next(t); reply.Output != nil || reply.Error != nil {
			return reply
		}
	}
}

// gone waits until nobody works on the call any more.
func (m *made) gone(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := m.conn.Request(m.control, []byte(`{}`), 50*time.Millisecond)
		return errors.Is(err, nats.ErrNoResponders)
	}, patience, time.Millisecond)
}
