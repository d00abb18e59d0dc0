package harness

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
)

// Mode says how galley runs.
type Mode string

const (
	// Single is `galley up`: everything in one process, with a private Postgres next to it.
	Single Mode = "single"
	// Split is every service, NATS and Postgres as a process of its own.
	Split Mode = "split"
)

// allowSetting is the setting for addresses that recipes may call although they are not public.
const allowSetting = "GALLEY_ALLOWED_HOSTS"

// Modes lists both.
func Modes() []Mode { return []Mode{Single, Split} }

// Config says what to start.
type Config struct {
	Mode     Mode
	Binaries *Binaries
	// AckWait is after how long the work of a dead process is taken over, at least one second.
	AckWait time.Duration
	// Sandbox turns the sandbox of galley up on (single mode only).
	Sandbox bool
	// AllowedHosts are host:port pairs that recipes may call although they are not public addresses.
	AllowedHosts []string
	// LogLevel is warn when it is empty.
	LogLevel string
}

// Installation is a running galley. Its methods may be used by several goroutines.
type Installation struct {
	mode     Mode
	dir      string
	binaries string
	keeper   *keeper
	natsURL  string
	base     string
	adminKey string
	health   map[string]string
	database *database // nil in single mode, where galley has its own

	mu       sync.Mutex // guards what Kill and Start change
	programs map[string]*program
	order    []string
}

// Start starts everything and waits until it is ready. The caller must Close it.
func Start(ctx context.Context, config Config) (_ *Installation, err error) {
	i := &Installation{mode: config.Mode, binaries: config.Binaries.dir, programs: map[string]*program{}}
	config.LogLevel = cmp.Or(config.LogLevel, "warn")
	if i.dir, err = temporaryDirectory(); err != nil {
		return nil, err
	}
	if i.keeper, err = newKeeper(i.dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(i.dir))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, i.Close())
		}
	}()
	if config.Mode == Single {
		err = i.addSingle(config)
	} else {
		err = i.addSplit(ctx, config)
	}
	if err != nil {
		return nil, err
	}
	for _, name := range i.order {
		if err := i.Start(ctx, name); err != nil {
			return nil, err
		}
	}
	if err := i.AwaitReady(ctx); err != nil {
		return nil, err
	}
	if i.adminKey == "" {
		key, err := os.ReadFile(filepath.Join(i.DataDir(), "admin.key"))
		if err != nil {
			return nil, fmt.Errorf("read the operator's key: %w", err)
		}
		i.adminKey = strings.TrimSpace(string(key))
	}
	return i, nil
}

// temporaryDirectory makes a directory that the user whom Postgres runs as under root can pass through, with a path that is short
// enough for a Unix socket.
func temporaryDirectory() (string, error) {
	dir, err := os.MkdirTemp("", "galley-e2e-")
	if err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	return dir, os.Chmod(dir, 0o711)
}

func (i *Installation) addSingle(config Config) error {
	addresses, err := freeAddresses(5)
	if err != nil {
		return err
	}
	i.base, i.natsURL = "http://"+addresses[0], "nats://"+addresses[1]
	i.health = map[string]string{Galley: "http://" + addresses[4]}
	args := []string{"up"}
	environment := map[string]string{
		"GALLEY_HTTP_ADDR": addresses[0], "GALLEY_NATS_ADDR": addresses[1], "GALLEY_DATA_DIR": filepath.Join(i.dir, "data"),
		"GALLEY_ACK_WAIT": config.AckWait.String(), "GALLEY_LOG_LEVEL": config.LogLevel, "GALLEY_METRICS_ADDR": addresses[4],
	}
	if len(config.AllowedHosts) > 0 {
		environment[allowSetting] = strings.Join(config.AllowedHosts, ",")
	}
	if config.Sandbox {
		environment["GALLEY_SANDBOX_ADDR"], environment["GALLEY_SANDBOX_SMTP_ADDR"] = addresses[2], addresses[3]
	} else {
		args = append(args, "--no-sandbox")
	}
	i.add(&program{
		name: Galley, path: config.Binaries.Path(Galley), args: args, env: list(environment), ready: i.base + "/ready",
	})
	return nil
}

func (i *Installation) addSplit(ctx context.Context, config Config) error {
	addresses, err := freeAddresses(2 + len(Services()))
	if err != nil {
		return err
	}
	if i.database, err = startDatabase(ctx, filepath.Join(i.dir, "postgres")); err != nil {
		return err
	}
	i.base, i.natsURL, i.adminKey = "http://"+addresses[0], "nats://"+addresses[1], operatorKey
	i.health = make(map[string]string, len(Services()))
	i.add(&program{name: NATS, path: config.Binaries.Path(NATS), args: []string{addresses[1], filepath.Join(i.dir, "nats")}})
	for n, service := range Services() {
		health := addresses[2+n]
		i.health[service] = "http://" + health
		environment := map[string]string{
			"GALLEY_NATS_URL": i.natsURL, "GALLEY_DATABASE_URL": i.database.url, "GALLEY_HEALTH_ADDR": health,
			"GALLEY_ACK_WAIT": config.AckWait.String(), "GALLEY_LOG_LEVEL": config.LogLevel,
		}
		switch service {
		case Ingest:
			environment["GALLEY_HTTP_ADDR"] = addresses[0]
			environment["GALLEY_OPERATOR_KEY"] = operatorKey
			environment["GALLEY_SECRETS_KEY"] = secretsKey
		case Audit:
			environment["GALLEY_AUDIT_KEY"] = auditKey
		case Executor:
			environment["GALLEY_SECRETS_KEY"] = secretsKey
			if len(config.AllowedHosts) > 0 {
				environment[allowSetting] = strings.Join(config.AllowedHosts, ",")
			}
		}
		i.add(&program{
			name: service, path: config.Binaries.Path(service), env: list(environment), ready: "http://" + health + "/ready",
		})
	}
	return nil
}

func (i *Installation) add(p *program) {
	p.log, p.keeper = filepath.Join(i.dir, p.name+".log"), i.keeper
	i.programs[p.name] = p
	i.order = append(i.order, p.name)
}

func freeAddresses(n int) ([]string, error) {
	var addresses []string
	for len(addresses) < n {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		if !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
		}
	}
	return addresses, nil
}

func list(environment map[string]string) []string {
	entries := make([]string, 0, len(environment))
	for name, value := range environment {
		entries = append(entries, name+"="+value)
	}
	return entries
}

// Health lists where the programs of galley answer /health, /ready and /metrics without a key, by their names.
func (i *Installation) Health() map[string]string { return maps.Clone(i.health) }

// Programs lists what can be killed: in single mode galley and its Postgres, in split mode NATS, Postgres and the services.
func (i *Installation) Programs() []string { return append(slices.Clone(i.order), Postgres) }

// Kill ends a program with SIGKILL and waits until it is gone.
func (i *Installation) Kill(name string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if name != Postgres {
		return i.programs[name].kill()
	}
	if i.database != nil {
		return i.database.kill()
	}
	// galley brings its own Postgres back by itself.
	pid, err := findPostmaster(i.DataDir())
	if err != nil {
		return err
	}
	return kill(pid)
}

// Freeze stops every process of Postgres in its tracks, without a word to those who wait for it, until Thaw.
func (i *Installation) Freeze() error { return i.signalPostgres(syscall.SIGSTOP) }

// Thaw lets Postgres go on.
func (i *Installation) Thaw() error { return i.signalPostgres(syscall.SIGCONT) }

func (i *Installation) signalPostgres(signal syscall.Signal) error {
	pid, err := i.PID(Postgres)
	if err != nil {
		return err
	}
	return signalAll(pid, signal)
}

// PID is the process id of a program.
func (i *Installation) PID(name string) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case name != Postgres:
		return i.programs[name].command.Process.Pid, nil
	case i.database != nil:
		return i.database.server.PID(), nil
	}
	return findPostmaster(i.DataDir())
}

// Stop ends a program in good order.
func (i *Installation) Stop(name string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if name == Postgres {
		return i.database.stop()
	}
	return i.programs[name].stop()
}

// Start starts a program that was killed or stopped. It does not wait for it: see AwaitReady.
func (i *Installation) Start(ctx context.Context, name string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if name != Postgres {
		return i.programs[name].start()
	}
	if i.database != nil {
		return i.database.start(ctx)
	}
	return nil
}

// AwaitReady waits until every program says that it is ready.
func (i *Installation) AwaitReady(ctx context.Context) error {
	for _, name := range i.order {
		if err := i.programs[name].awaitReady(ctx); err != nil {
			return err
		}
	}
	if i.mode == Split {
		entry := *i.programs[Ingest]
		entry.ready = i.base + "/ready"
		return entry.awaitReady(ctx)
	}
	return nil
}

// NATSURL is where any NATS client can connect.
func (i *Installation) NATSURL() string { return i.natsURL }

// BaseURL is the address of the HTTP API, without a path.
func (i *Installation) BaseURL() string { return i.base }

// Operator is a client with the operator's key.
func (i *Installation) Operator() *Client { return &Client{Base: i.base, Key: i.adminKey} }

// Connect opens a NATS connection that survives restarts of the server. The caller closes it.
func (i *Installation) Connect() (*nats.Conn, error) {
	conn, err := nats.Connect(i.natsURL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.RetryOnFailedConnect(true), nats.Name("tests"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return conn, nil
}

// DatabaseURL is the URL of Postgres as superuser.
func (i *Installation) DatabaseURL() (string, error) {
	if i.database != nil {
		return i.database.url, nil
	}
	text, err := os.ReadFile(filepath.Join(i.DataDir(), "database.url"))
	if err != nil {
		return "", fmt.Errorf("find galley's Postgres: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// Database connects to Postgres as superuser, to look. The caller closes it.
func (i *Installation) Database(ctx context.Context) (*pgx.Conn, error) {
	url, err := i.DatabaseURL()
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	return conn, nil
}

// DataDir is the data directory of galley up.
func (i *Installation) DataDir() string { return filepath.Join(i.dir, "data") }

// Log is what a program has written so far.
func (i *Installation) Log(name string) string {
	text, err := os.ReadFile(i.programs[name].log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Files lists the files of the installation that hold a text: what galley, NATS and Postgres store, and the logs.
func (i *Installation) Files(text string) ([]string, error) {
	root, err := os.OpenRoot(i.dir)
	if err != nil {
		return nil, fmt.Errorf("search %s: %w", i.dir, err)
	}
	defer root.Close() //nolint:errcheck // only read from
	var found []string
	err = fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil //nolint:nilerr // files come and go in a directory that is in use
		}
		if content, err := fs.ReadFile(root.FS(), path); err == nil && bytes.Contains(content, []byte(text)) {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("search %s: %w", i.dir, err)
	}
	return found, nil
}

// Logs is the end of every program's log, for error messages.
func (i *Installation) Logs() string {
	var text strings.Builder
	for _, name := range i.order {
		fmt.Fprintf(&text, "--- %s\n%s\n", name, tail(i.programs[name].log))
	}
	return text.String()
}

// Close stops everything in order and removes all traces. The error tells of programs that did not end well, and of data races
// when the programs were built to find them.
func (i *Installation) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	var problems []error
	for _, name := range slices.Backward(i.order) {
		problems = append(problems, i.programs[name].stop())
		if raceEnabled && strings.Contains(i.Log(name), "WARNING: DATA RACE") {
			problems = append(problems, fmt.Errorf("%s has a data race:\n%s", name, i.Log(name)))
		}
	}
	if i.database != nil {
		problems = append(problems, i.database.stop())
	}
	return errors.Join(append(problems, i.keeper.dismiss())...)
}
