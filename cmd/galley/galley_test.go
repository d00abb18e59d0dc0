package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
)

// asGalley makes the test binary the program under test, so that no second one has to be built.
const asGalley = "RUN_AS_GALLEY"

func TestMain(m *testing.M) {
	if os.Getenv(asGalley) != "" {
		main()
	}
	testkit.Main(m)
}

const patience = 90 * time.Second

// installation is a data directory with the addresses of the galley that runs on it.
type installation struct {
	dir, http, nats, sandbox, smtp, metrics string
	// more is added to the environment of every command.
	more []string
}

func install(t *testing.T) *installation {
	t.Helper()
	i := &installation{
		dir: filepath.Join(testkit.TempDir(t), "data"), http: freeAddress(t), nats: freeAddress(t), sandbox: freeAddress(t), smtp: freeAddress(t),
		metrics: freeAddress(t),
	}
	t.Cleanup(func() { i.killPostgres() })
	return i
}

func (i *installation) environment() []string {
	return append([]string{
		"GALLEY_DATA_DIR=" + i.dir, "GALLEY_HTTP_ADDR=" + i.http, "GALLEY_NATS_ADDR=" + i.nats, "GALLEY_SANDBOX_ADDR=" + i.sandbox,
		"GALLEY_SANDBOX_SMTP_ADDR=" + i.smtp, "GALLEY_METRICS_ADDR=" + i.metrics,
		"GALLEY_URL=http://" + i.http, "GALLEY_ACK_WAIT=1s",
	}, i.more...)
}

// The ports that this process gives to programs: a hundred of its own, below those that the kernel gives to outgoing connections and that
// the end-to-end tests use. They must stay free over restarts, so none is given twice before all have been.
const (
	lowestPort   = 4_300
	portsEach    = 100
	portSections = 76
)

//nolint:gochecknoglobals // the ports of the process are one resource
var nextPort atomic.Int64

func freeAddress(t *testing.T) string {
	t.Helper()
	section := lowestPort + os.Getpid()%portSections*portsEach
	for range portsEach {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(section+int(nextPort.Add(1)%portsEach)))
		if listener, err := net.Listen("tcp", address); err == nil { //nolint:noctx // it does not wait
			require.NoError(t, listener.Close())
			return address
		}
	}
	require.Fail(t, "no port is free")
	return ""
}

// process is a galley that runs.
type process struct {
	*exec.Cmd
	out  output
	done chan struct{}
}

// output is what a process has written, which may be read while it writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func command(ctx context.Context, environment []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...) //nolint:gosec // ourselves
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "GALLEY_") && !strings.HasSuffix(name, "_API_KEY") { // keys that cost money
			cmd.Env = append(cmd.Env, entry)
		}
	}
	cmd.Env = append(cmd.Env, asGalley+"=1")
	cmd.Env = append(cmd.Env, environment...)
	return cmd
}

// launch starts "galley up".
func (i *installation) launch(t *testing.T) *process {
	t.Helper()
	p := &process{Cmd: command(context.Background(), i.environment(), "up"), done: make(chan struct{})}
	p.Stdout, p.Stderr = &p.out, &p.out
	require.NoError(t, p.Start())
	go func() {
		_ = p.Wait() // the tests look at the state
		close(p.done)
	}()
	t.Cleanup(p.kill)
	return p
}

// start starts "galley up" and waits until it has told everything.
func (i *installation) start(t *testing.T) *process {
	t.Helper()
	p := i.launch(t)
	require.Eventually(t, func() bool {
		select {
		case <-p.done:
			return true
		default:
			return strings.Contains(p.out.String(), "Running")
		}
	}, patience, 20*time.Millisecond, "%s", &p.out)
	require.Contains(t, p.out.String(), "Running")
	return p
}

func (p *process) kill() {
	_ = p.Process.Kill() // it may have ended
	<-p.done
}

// end sends the signal and gives the exit code.
func (p *process) end(t *testing.T, signal os.Signal) int {
	t.Helper()
	require.NoError(t, p.Process.Signal(signal))
	select {
	case <-p.done:
	case <-time.After(patience):
		require.Fail(t, "galley does not end", "%s", &p.out)
	}
	return p.ProcessState.ExitCode()
}

// run runs a client command.
func (i *installation) run(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := command(ctx, i.environment(), args...)
	text, err := cmd.CombinedOutput()
	require.NotNil(t, cmd.ProcessState, "%v", err)
	return string(text), cmd.ProcessState.ExitCode()
}

func (i *installation) succeed(t *testing.T, args ...string) string {
	t.Helper()
	out, code := i.run(t, args...)
	require.Zero(t, code, out)
	return out
}

// postgres is the process id of the private Postgres, 0 when there is none.
func (i *installation) postgres() int {
	text, err := os.ReadFile(filepath.Join(i.dir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil || syscall.Kill(pid, 0) != nil {
		return 0
	}
	return pid
}

// killPostgres ends the private Postgres without a word.
func (i *installation) killPostgres() {
	if pid := i.postgres(); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
}

func (i *installation) ready(t *testing.T) bool {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+i.http+"/ready", http.NoBody)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	require.NoError(t, response.Body.Close())
	return response.StatusCode == http.StatusOK
}

func (i *installation) files(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, name := range []string{"admin.key", "demo.key"} {
		path := filepath.Join(i.dir, name)
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), path)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		found[name] = string(text)
	}
	return found
}

func TestUp(t *testing.T) {
	t.Parallel()
	i := install(t)
	p := i.start(t)
	first := p.out.String()
	for _, wanted := range []string{
		i.dir, "the-hunter/discovery", "SUCCESS", "Leads", "Pitch", "remember", "tokens in", `"credits_consumed": 0.0694`, "debit", "99.9306",
		"execution.completed", "curl -s http://" + i.http, "nats -s nats://" + i.nats + " sub 'galley.execution.*.cust_001.*.completed'",
	} {
		assert.Contains(t, first, wanted)
	}
	assert.NotContains(t, first, "\x1b", "no colours outside of a terminal")
	assert.True(t, i.ready(t))
	keys := i.files(t)

	other := install(t)
	other.dir = i.dir
	out, code := other.run(t, "up")
	assert.Equal(t, 2, code)
	assert.Equal(t, fmt.Sprintf("galley: GALLEY_DATA_DIR is %s: another galley uses the data directory %s: stop process %d, or choose another "+
		"directory\n", i.dir, i.dir, p.Process.Pid), out)

	i.commands(t)

	assert.Zero(t, p.end(t, os.Interrupt), "%s", &p.out)
	assert.NotContains(t, p.out.String(), `"level"`, "nothing to warn of")
	assert.Zero(t, i.postgres(), "no process is left")
	require.NoFileExists(t, filepath.Join(i.dir, "database.url"))

	p = i.start(t)
	again := p.out.String()
	assert.Contains(t, again, "executions stored")
	assert.NotContains(t, again, "SUCCESS", "nothing runs twice")
	assert.Equal(t, keys, i.files(t))
	assert.Regexp(t, `111\.\d+ credits`, i.succeed(t, "credits"))
	assert.Zero(t, p.end(t, syscall.SIGTERM))
}

// creditCommands leaves cust_001 as it was.
func (i *installation) creditCommands(t *testing.T) {
	t.Helper()
	out := i.succeed(t, "credits")
	assert.Regexp(t, `top_up +11\.5 +11\.5 +never`, out)
	assert.Regexp(t, `cust_001 may go 5 credits below 0; 116\.\d+ are available now`, i.succeed(t, "credits", "overdraft", "cust_001", "5"))
	assert.Regexp(t, `overdraft +5 credits`, i.succeed(t, "credits"))
	i.succeed(t, "credits", "overdraft", "cust_001", "0")
	assert.Equal(t, "  cust_001 is told when the balance falls below 2.5 credits\n", i.succeed(t, "credits", "low-balance", "cust_001", "2.5"))
	assert.Equal(t, "  cust_001 is not told any more\n", i.succeed(t, "credits", "low-balance", "cust_001", "none"))
	_, code := i.run(t, "credits", "low-balance", "cust_001", "0.0000001")
	assert.Equal(t, 2, code)
	out, code = i.run(t, "credits", "grant", "cust_001", "1", "--expires", "tomorrow")
	assert.Equal(t, 2, code)
	assert.Contains(t, out, "neither a time as in RFC 3339 nor a duration")
	out, code = i.run(t, "credits", "grant", "cust_001", "1", "--expires", "2020-01-01T00:00:00Z")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "expires_at must be in the future")
}

// commands tries the client. The demo has cost 0.07 of 100 credits before.
func (i *installation) commands(t *testing.T) {
	t.Helper()
	out := i.succeed(t, "run", "the-hunter", "discovery", "--input", `{"search_query": "plumbers in seattle"}`)
	assert.Contains(t, out, "SUCCESS")
	assert.Contains(t, out, "Seattle")
	out, code := i.run(t, "run", "the-hunter", "discovery", "--input", `{"search_query": 1}`)
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "INPUT_INVALID")
	assert.Contains(t, out, "/search_query")
	out, code = i.run(t, "run", "the-hunter", "discovery", "--input", `{`)
	assert.Equal(t, 2, code)
	assert.Equal(t, "galley: --input is not valid JSON\n", out)

	out, code = i.run(t, "credits", "--api-key", "gk_wrong")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "UNAUTHENTICATED")
	out, code = i.run(t, "credits", "--data-dir", t.TempDir())
	assert.Equal(t, 2, code)
	assert.Contains(t, out, "there is no API key in ")
	out, code = i.run(t, "credits", "--url", "http://"+freeAddress(t))
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "connection refused")

	broken := filepath.Join(t.TempDir(), "broken.yaml")
	require.NoError(t, os.WriteFile(broken, []byte("apiVersion: galley/v1\nkind: Recipes\n"), 0o600))
	out, code = i.run(t, "recipe", "publish", broken)
	assert.Equal(t, 1, code)
	assert.Contains(t, out, broken+":2:7: /kind")
	recipe := filepath.Join("..", "..", "recipes", "discovery.yaml")
	assert.Contains(t, i.succeed(t, "recipe", "publish", recipe), "the-hunter/discovery version 1")
	assert.Regexp(t, `cust_001 has 111\.\d+ credits now`, i.succeed(t, "credits", "grant", "cust_001", "11.5", "--reason", "thanks"))
	assert.Contains(t, i.succeed(t, "credits"), "thanks")
	i.creditCommands(t)
	list := strings.TrimSpace(i.succeed(t, "executions"))
	assert.Len(t, strings.Split(list, "\n"), 3, "a title and two executions: %s", list)
	id := list[strings.LastIndex(list, " ")+1:]
	assert.Contains(t, i.succeed(t, "executions", "get", id), id)
	assert.Contains(t, i.succeed(t, "audit", "--execution", id), "execution.completed")
	assert.Contains(t, i.succeed(t, "billing", "reconcile"), "0 differences")
	rebuild := i.succeed(t, "projection", "rebuild", "--nats-url", "nats://"+i.nats)
	assert.Contains(t, rebuild, "2 executions")
}

func TestUpSurvivesKills(t *testing.T) {
	t.Parallel()
	i := install(t)
	p := i.start(t)
	p.kill()
	require.NotZero(t, i.postgres(), "Postgres is left, to be adopted")
	p = i.start(t)
	assert.Contains(t, p.out.String(), "executions stored")

	i.killPostgres()
	require.Eventually(t, func() bool {
		out, code := i.run(t, "run", "the-hunter", "discovery", "--input", `{"search_query": "bakeries"}`)
		return code == 0 && strings.Contains(out, "SUCCESS")
	}, patience, 50*time.Millisecond, "%s", &p.out)

	p.kill()
	i.killPostgres()
	i.start(t)
	// A try to run that Postgres' death cut off may have been paid for after all.
	assert.Regexp(t, `99\.\d+ credits`, i.succeed(t, "credits"))
	assert.Contains(t, i.succeed(t, "billing", "reconcile"), "0 differences")
}

const slowRecipe = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: the-hunter, id: slow}
spec:
  input: {type: object}
  steps:
    - {id: call, uses: action.http, with: {url: "%s"}, price: "1"}
`

// A second Ctrl-C does not wait for the execution that galley is about to finish. The next start takes it up again.
func TestForcedEnd(t *testing.T) {
	t.Parallel()
	called, answer := make(chan struct{}, 2), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		called <- struct{}{}
		select {
		case <-answer:
		case <-r.Context().Done():
		}
		_, _ = w.Write([]byte(`{}`))
	}))
	t.Cleanup(slow.Close)
	i := install(t)
	i.more = []string{"GALLEY_ALLOWED_HOSTS=" + slow.Listener.Addr().String()}
	p := i.start(t)
	recipe := filepath.Join(t.TempDir(), "slow.yaml")
	require.NoError(t, os.WriteFile(recipe, fmt.Appendf(nil, slowRecipe, slow.URL), 0o600))
	i.succeed(t, "recipe", "publish", recipe)
	caller := command(t.Context(), i.environment(), "run", "the-hunter", "slow")
	require.NoError(t, caller.Start())
	<-called

	require.NoError(t, p.Process.Signal(os.Interrupt))
	require.Eventually(t, func() bool { return strings.Contains(p.out.String(), "stopping") }, patience, 5*time.Millisecond)
	assert.Equal(t, 130, p.end(t, os.Interrupt))
	require.Eventually(t, func() bool { return i.postgres() == 0 }, patience, 20*time.Millisecond, "no process is left")
	_ = caller.Wait() // it was cut off

	close(answer)
	i.start(t)
	require.Eventually(t, func() bool {
		return regexp.MustCompile(`the-hunter/slow +1 +success`).MatchString(i.succeed(t, "executions"))
	}, patience, 100*time.Millisecond)
	assert.Contains(t, i.succeed(t, "credits"), "98.9306 credits")
}

func TestUpCalledOff(t *testing.T) {
	t.Parallel()
	i := install(t)
	p := i.launch(t)
	require.Eventually(t, func() bool { return strings.Contains(p.out.String(), i.dir) }, patience, time.Millisecond)
	assert.Zero(t, p.end(t, os.Interrupt), "%s", &p.out)
	assert.NotContains(t, p.out.String(), "galley: ")
	assert.Zero(t, i.postgres())
}

func TestUpOnOtherServers(t *testing.T) {
	t.Parallel()
	i := install(t)
	server := testkit.NATS(t)
	i.more = []string{"GALLEY_NATS_URL=" + server.URL(), "GALLEY_DATABASE_URL=" + testkit.Postgres(t)}
	p := i.start(t)
	assert.Contains(t, p.out.String(), "SUCCESS")
	assert.Contains(t, p.out.String(), "nats -s "+server.URL())
	assert.NoDirExists(t, filepath.Join(i.dir, "nats"))
	assert.NoDirExists(t, filepath.Join(i.dir, "postgres"))
	assert.Contains(t, i.succeed(t, "billing", "reconcile"), "0 differences")
	assert.Zero(t, p.end(t, os.Interrupt))

	// A new data directory over the old database: the customer is there and gets a further key.
	first := i.dir
	i.dir += "2"
	p = i.start(t)
	assert.Contains(t, p.out.String(), "executions stored")
	assert.Contains(t, i.succeed(t, "credits"), "99.9306 credits")
	assert.Zero(t, p.end(t, os.Interrupt))

	// The old data directory over a new database: its key is not known there.
	i.dir = first
	i.more[0] = "GALLEY_NATS_URL=" + testkit.NATS(t).URL()
	i.more[1] = "GALLEY_DATABASE_URL=" + testkit.Postgres(t)
	p = i.start(t)
	assert.Contains(t, p.out.String(), "SUCCESS")
	assert.Zero(t, p.end(t, os.Interrupt))
}

func TestUpWithoutSandbox(t *testing.T) {
	t.Parallel()
	i := install(t)
	i.more = []string{"GALLEY_NO_SANDBOX=true", "GALLEY_DURABILITY=disk"}
	p := i.start(t)
	assert.NotContains(t, p.out.String(), "SUCCESS")
	assert.NotContains(t, p.out.String(), i.sandbox)
	assert.Contains(t, i.succeed(t, "credits"), "100 credits")
	assert.Zero(t, p.end(t, syscall.SIGHUP), "the terminal was closed")
	assert.Zero(t, i.postgres())
}

func TestUpWithoutPostgres(t *testing.T) {
	t.Parallel()
	i := install(t)
	i.more = []string{"PG_BIN=" + t.TempDir()}
	out, code := i.run(t, "up")
	assert.Equal(t, 2, code)
	assert.Contains(t, out, "install the Postgres server 15 or newer")
}

func TestDemo(t *testing.T) {
	t.Parallel()
	temp := testkit.TempDir(t)
	cmd := command(t.Context(), []string{"TMPDIR=" + temp}, "demo")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "SUCCESS")
	assert.Contains(t, string(out), "execution.completed")
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	assert.Empty(t, left)
}
