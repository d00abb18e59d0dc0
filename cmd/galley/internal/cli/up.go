package cli

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/charmbracelet/colorprofile"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/cmd/galley/internal/bootstrap"
	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/cmd/galley/internal/datadir"
	"github.com/galley-engine/galley/cmd/galley/internal/engine"
	"github.com/galley-engine/galley/cmd/galley/internal/report"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/metric"
	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/pkg/secret"
	"github.com/galley-engine/galley/services/audit"
	"github.com/galley-engine/galley/services/executor"
	"github.com/galley-engine/galley/services/ingest"
)

const (
	// exitForced is the exit code after a second Ctrl-C, as a shell gives it for one that is not caught.
	exitForced = 130
	adminBytes = 32
)

type upCommand struct {
	settings
}

// Run starts everything and stays until the context ends.
func (c *upCommand) Run(app *app) error {
	return c.serve(app.ctx, app, func(ctx context.Context, dir datadir.Dir, demo error) error {
		if demo != nil {
			app.report.Line("The demo: %v", demo)
		}
		app.suggest(suggestion{url: baseURL(c.HTTPAddr), nats: c.natsURL(), keyFile: dir.DemoKey()})
		app.report.Heading("Running", "Ctrl-C stops everything; the data stays")
		<-ctx.Done()
		app.report.Line("stopping")
		return nil
	})
}

// after is called when the demo has been shown, or, with the reason, could not be. Its error ends galley.
type after func(ctx context.Context, dir datadir.Dir, demo error) error

// serve checks the settings, takes the data directory, and runs everything until ctx ends.
func (s *settings) serve(ctx context.Context, app *app, then after) (err error) {
	if err := s.validate(); err != nil {
		return lifecycle.Usage(err)
	}
	dir, err := datadir.New(s.DataDir)
	if err != nil {
		return err
	}
	release, err := dir.Lock()
	if err != nil {
		return lifecycle.Usage(fmt.Errorf("GALLEY_DATA_DIR is %s: %w", s.DataDir, err))
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := checkFree(ctx, s.addresses()); err != nil {
		return lifecycle.Usage(err)
	}
	admin, err := keep(dir.AdminKey(), newAdminKey)
	if err != nil {
		return fmt.Errorf("make the operator's key: %w", err)
	}
	secrets, err := keep(dir.SecretsKey(), secret.NewKey)
	if err != nil {
		return fmt.Errorf("make the key of the secrets: %w", err)
	}
	if _, err := secret.ParseKeys(secrets); err != nil {
		return lifecycle.Usage(fmt.Errorf("%s: %w", dir.SecretsKey(), err))
	}
	signing, err := keepAuditKey(dir)
	if err != nil {
		return err
	}
	share := process.ShareAlone
	if s.DatabaseURL == "" {
		share = process.ShareWithPostgres
	}
	process.TuneMemory(app.Environ, share)
	started := clock.System()
	app.report.Heading("galley", string(dir))
	if _, err := os.Stat(dir.Postgres()); errors.Is(err, os.ErrNotExist) && s.DatabaseURL == "" {
		app.report.Line("making the database, once ...")
	}
	e := engine.New(s.engine(app, dir, keys{admin: admin, secrets: secrets, audit: signing}))
	go app.forceOnSecondSignal(e)
	return e.Run(ctx, func(ctx context.Context) error {
		return s.greet(ctx, app, greeting{dir: dir, admin: admin, started: started}, then)
	})
}

// keys are those of the data directory.
type keys struct{ admin, secrets, audit string }

func (s *settings) engine(app *app, dir datadir.Dir, own keys) engine.Config {
	config := engine.Config{
		Dir: dir, NATSAddr: s.NATSAddr, NATSURL: s.NATSURL, DatabaseURL: s.DatabaseURL, MetricsAddr: s.MetricsAddr,
		Durability: s.Durability, JournalRetention: s.JournalRetention, AckWait: s.AckWait,
		LogLevel: s.LogLevel, Log: logWriter(app.Err, app.Environ),
		Ingest: ingest.Config{HTTPAddr: s.HTTPAddr, OperatorKey: own.admin, SecretsKey: own.secrets}, Billing: s.billing(),
		Executor: s.executor(), Audit: audit.Config{
			Key: own.audit, FormerKeys: s.AuditFormerKeys, HeadsDir: s.AuditHeadsDir, HeadsBucket: s.AuditHeadsBucket,
			VerifyInterval: s.AuditVerify,
		},
	}
	config.Executor.SecretsKey = own.secrets
	if !s.NoSandbox {
		config.SandboxAddr, config.SandboxSMTPAddr = s.SandboxAddr, s.SandboxSMTP
		config.Executor.AllowedHosts = append(slices.Clone(s.AllowedHosts), s.SandboxAddr)
		s.standIn(&config.Executor.Accounts)
	}
	config.Audit.AllowedHosts = config.Executor.AllowedHosts
	return config
}

// standIn has the sandbox take the place of every account that the operator has not.
func (s *settings) standIn(accounts *executor.Accounts) {
	url := baseURL(s.SandboxAddr)
	if !accounts.HasModel() {
		accounts.AIProvider, accounts.AIModel, accounts.AIBaseURL = "compatible", "sandbox", url+"/v1"
	}
	if accounts.SMTPURL == "" {
		accounts.SMTPURL, accounts.MailFrom = "smtp://"+s.SandboxSMTP+"?tls=none", "galley sandbox <sandbox@example.com>"
	}
	if accounts.TwilioAccountSID == "" {
		accounts.TwilioAccountSID, accounts.TwilioAuthToken, accounts.TwilioFrom, accounts.TwilioBaseURL = "AC0", "sandbox", "+15005550006", url
	}
}

// keep reads a key from its file, or makes it at the first start.
func keep(path string, newKey func() string) (string, error) {
	key, err := datadir.Read(path)
	if err != nil || key != "" {
		return key, err
	}
	key = newKey()
	return key, datadir.Write(path, key)
}

// keepAuditKey is keep for the key that signs the audit log, with the public key beside it.
func keepAuditKey(dir datadir.Dir) (string, error) {
	key, err := keep(dir.AuditKey(), audit.NewKey)
	if err != nil {
		return "", fmt.Errorf("make the key of the audit log: %w", err)
	}
	public, err := audit.PublicKey(key)
	if err != nil {
		return "", lifecycle.Usage(fmt.Errorf("%s: %w", dir.AuditKey(), err))
	}
	if err := datadir.Write(dir.AuditPublicKey(), public); err != nil {
		return "", fmt.Errorf("store the public key of the audit log: %w", err)
	}
	return key, nil
}

func newAdminKey() string {
	var random [adminBytes]byte
	_, _ = rand.Read(random[:]) // it never fails: it ends the process instead
	return "galley_admin_" + base64.RawURLEncoding.EncodeToString(random[:])
}

// logWriter writes the log for people when it goes to a terminal, else as JSON for programs.
func logWriter(w io.Writer, environ []string) io.Writer {
	profile := report.Profile(w, environ)
	if profile <= colorprofile.NoTTY {
		return w
	}
	return zerolog.ConsoleWriter{Out: w, NoColor: profile <= colorprofile.ASCII, TimeFormat: time.TimeOnly}
}

// forceOnSecondSignal ends the process at once at a second Ctrl-C. The private Postgres must not be left behind.
func (a *app) forceOnSecondSignal(e *engine.Engine) {
	<-a.Signals
	<-a.Signals
	e.Abort()
	a.Exit(exitForced)
}

// greeting is what is told about a galley that has just started.
type greeting struct {
	dir     datadir.Dir
	admin   string
	started time.Time
}

// greet waits until everything is ready, sets the demo up, and shows it.
func (s *settings) greet(ctx context.Context, app *app, g greeting, then after) error {
	url := baseURL(s.HTTPAddr)
	probe := client.New(url, "")
	defer probe.Close()
	err := bootstrap.AwaitReady(ctx, probe, func(missing string) { app.report.Line("waiting for %s", missing) })
	if err != nil {
		return nil // it was called off
	}
	s.tellAddresses(app, url, clock.System().Sub(g.started))
	setup := bootstrap.Setup{URL: url, AdminKey: g.admin, Dir: g.dir, Directory: baseURL(s.SandboxAddr)}
	var backoff lifecycle.Backoff
	for {
		err = s.demonstrate(ctx, app, setup)
		if !client.Retryable(err) || !backoff.Wait(ctx) {
			break
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return then(ctx, g.dir, err)
}

func (s *settings) demonstrate(ctx context.Context, app *app, setup bootstrap.Setup) error {
	demo, err := setup.Run(ctx)
	if err != nil {
		return err
	}
	defer demo.Close()
	return s.show(ctx, app, demo)
}

func (s *settings) natsURL() string {
	if s.NATSURL != "" {
		return s.NATSURL
	}
	return "nats://" + s.NATSAddr
}

func (s *settings) tellAddresses(app *app, url string, took time.Duration) {
	facts := [][2]string{{"HTTP", url}, {"NATS", s.natsURL()}}
	if s.MetricsAddr != "" {
		facts = append(facts, [2]string{"metrics", baseURL(s.MetricsAddr) + metric.Path})
	}
	if !s.NoSandbox {
		facts = append(facts, [2]string{"sandbox", baseURL(s.SandboxAddr) + " (sample data)"},
			[2]string{"mailbox", baseURL(s.SandboxAddr) + "/mailbox (what recipes send; nothing leaves it)"})
	}
	app.report.Facts(append(facts, [2]string{"ready in", took.Round(time.Millisecond).String()})...)
}

// show runs the recipe when it has never been run, else it tells what there is.
func (s *settings) show(ctx context.Context, app *app, demo *client.Client) error {
	happened, err := bootstrap.Happened(ctx, demo)
	if err != nil {
		return err
	}
	if !happened && !s.NoSandbox {
		result, err := bootstrap.Discover(ctx, demo)
		if err != nil {
			return err
		}
		app.tell(result)
		return result.Err()
	}
	executions, more, err := demo.Executions(ctx, maxListed)
	if err != nil {
		return err
	}
	balance, err := demo.Balance(ctx)
	if err != nil {
		return err
	}
	count := strconv.Itoa(len(executions))
	if more {
		count = "more than " + count
	}
	app.report.Heading(bootstrap.Customer, "")
	app.report.Facts([2]string{"balance", balance.Available.String() + " credits"}, [2]string{"executions stored", count})
	return nil
}

func (a *app) tell(result bootstrap.Result) {
	a.report.Response(result.Response)
	a.report.Heading("Ledger", "")
	a.report.Ledger(result.Transactions)
	a.report.Heading("Audit", "")
	a.report.Audit(result.Audit)
}

// baseURL is where a server that listens on addr is reached from this machine.
func baseURL(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		addr = net.JoinHostPort("127.0.0.1", port)
	}
	return "http://" + addr
}

type demoCommand struct {
	tuning
}

// Run does once what "galley up" does, in a temporary directory and on free ports.
func (c *demoCommand) Run(app *app) (err error) {
	dir, err := os.MkdirTemp("", "galley-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// Started by root, Postgres runs as another user, who has to pass through.
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // what is secret has its own mode
		return fmt.Errorf("open the directory of the demo: %w", err)
	}
	ctx, stop := context.WithCancel(app.ctx)
	defer stop()
	s := settings{dataDir: dataDir{DataDir: filepath.Join(dir, "data")}, tuning: c.tuning}
	if err := chooseFree(ctx, &s.HTTPAddr, &s.NATSAddr, &s.SandboxAddr, &s.SandboxSMTP); err != nil {
		return err
	}
	return s.serve(ctx, app, func(_ context.Context, _ datadir.Dir, demo error) error {
		stop()
		return demo
	})
}

// chooseFree finds ports that nobody listens on. All are held until the last one is found: a port that was let go may be found again.
func chooseFree(ctx context.Context, addresses ...*string) error {
	var config net.ListenConfig
	for _, address := range addresses {
		listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("find a free port: %w", err)
		}
		defer listener.Close() //nolint:errcheck // nothing was accepted
		*address = listener.Addr().String()
	}
	return nil
}
