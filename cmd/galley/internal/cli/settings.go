package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/services/audit"
	"github.com/galley-engine/galley/services/billing"
	"github.com/galley-engine/galley/services/executor"
)

// dataDir is the setting that both the server and the client commands have.
type dataDir struct {
	DataDir string `default:".galley" env:"GALLEY_DATA_DIR" help:"Directory that holds everything: data, keys, lock."`
}

// settings are those of "galley up". Their variables are the ones that the services know as processes of their own.
type settings struct {
	dataDir
	HTTPAddr    string `name:"http-addr" default:"127.0.0.1:8000" env:"GALLEY_HTTP_ADDR" help:"Where the HTTP API listens."`
	NATSAddr    string `name:"nats-addr" default:"127.0.0.1:4222" env:"GALLEY_NATS_ADDR" help:"Where NATS listens, a loopback address."`
	NATSURL     string `name:"nats-url" env:"GALLEY_NATS_URL" help:"Use this NATS server instead of the one inside." placeholder:"URL"`
	DatabaseURL string `name:"database-url" env:"GALLEY_DATABASE_URL" help:"Use this Postgres database instead of a private one." placeholder:"URL"`
	SandboxAddr string `default:"127.0.0.1:8001" env:"GALLEY_SANDBOX_ADDR" help:"Where the sandbox listens: sample data, a stand-in for a language model, a mailbox."`
	SandboxSMTP string `name:"sandbox-smtp-addr" default:"127.0.0.1:8025" env:"GALLEY_SANDBOX_SMTP_ADDR" help:"Where the sandbox takes e-mail."`
	MetricsAddr string `default:"127.0.0.1:8002" env:"GALLEY_METRICS_ADDR" help:"Where metrics are served to whoever can connect, without a key; none for nowhere."`
	NoSandbox   bool   `name:"no-sandbox" env:"GALLEY_NO_SANDBOX" help:"Do without the sandbox."`
	tuning
}

// tuning are the settings that do not say where anything is.
type tuning struct {
	Durability       process.Durability `default:"process" env:"GALLEY_DURABILITY" help:"What an acknowledged event survives: process (kill -9), disk (loss of power) or cluster (loss of a node; needs GALLEY_NATS_URL)."`
	LogLevel         string             `default:"warn" env:"GALLEY_LOG_LEVEL" help:"What to log on stderr: trace, debug, info, warn or error."`
	JournalRetention time.Duration      `default:"72h" env:"GALLEY_JOURNAL_RETENTION" help:"How long the journal keeps events, above 24h."`
	AckWait          time.Duration      `default:"10s" env:"GALLEY_ACK_WAIT" help:"After how long the work of a dead process is taken over."`
	Reconcile        time.Duration      `name:"reconcile-interval" default:"1h" env:"GALLEY_RECONCILE_INTERVAL" help:"How often billing compares the ledger with itself and with the journal; 0 for never."`
	Concurrency      int                `default:"256" env:"GALLEY_CONCURRENCY" help:"How many executions run at the same time."`
	AllowedHosts     []string           `env:"GALLEY_ALLOWED_HOSTS" help:"What steps may call, and tree heads may be delivered to, outside the public internet, besides the sandbox." placeholder:"HOST:PORT"`
	AuditVerify      time.Duration      `name:"audit-verify-interval" default:"24h" env:"GALLEY_AUDIT_VERIFY_INTERVAL" help:"How often the audit log verifies itself; 0 for never."`
	AuditFormerKeys  []string           `env:"GALLEY_AUDIT_FORMER_KEYS" help:"Public keys that the audit log had before: its tree heads of then are verified with them." placeholder:"KEY"`
	AuditHeadsDir    string             `env:"GALLEY_AUDIT_HEADS_DIR" help:"Directory that the audit log's signed tree heads are written to, best one that is not on this machine." placeholder:"PATH"`

	AuditHeadsBucket audit.HeadsBucket `embed:""`

	executor.Accounts
}

// validate joins everything that is wrong.
func (s *settings) validate() error {
	shared := process.Settings{
		DatabaseURL: s.DatabaseURL, LogLevel: s.LogLevel, Durability: s.Durability, JournalRetention: s.JournalRetention, AckWait: s.AckWait,
	}
	if s.DatabaseURL == "" {
		shared.DatabaseURL = "private"
	}
	problems := []error{
		shared.Validate(), s.billing().Validate(), s.executor().Validate(), audit.ValidateVerifyInterval(s.AuditVerify),
		audit.ValidateFormerKeys(s.AuditFormerKeys), s.AuditHeadsBucket.Validate(),
	}
	if s.DataDir == "" {
		problems = append(problems, errors.New("GALLEY_DATA_DIR is empty: must be the path of a directory"))
	}
	for _, address := range s.addresses() {
		problems = append(problems, address.validate())
	}
	if s.NATSURL == "" && s.Durability == process.DurabilityCluster {
		problems = append(problems, errors.New("GALLEY_DURABILITY is cluster: that needs the URL of a NATS cluster in GALLEY_NATS_URL"))
	}
	problems = append(problems, checkURL("GALLEY_NATS_URL", s.NATSURL, "nats", "tls"),
		checkURL("GALLEY_DATABASE_URL", s.DatabaseURL, "postgres", "postgresql"))
	return errors.Join(problems...)
}

func (s *tuning) billing() billing.Config {
	return billing.Config{ReconcileInterval: s.Reconcile}
}

func (s *tuning) executor() executor.Config {
	return executor.Config{Concurrency: s.Concurrency, AllowedHosts: s.AllowedHosts, Accounts: s.Accounts}
}

// checkURL takes a list of URLs separated by commas, as NATS does.
func checkURL(name, value string, schemes ...string) error {
	if value == "" {
		return nil
	}
	for part := range strings.SplitSeq(value, ",") {
		// The value may hold a password: it is not repeated.
		if parsed, err := url.Parse(part); err != nil || parsed.Host == "" && parsed.RawQuery == "" || !slices.Contains(schemes, parsed.Scheme) {
			return fmt.Errorf("%s must be a URL that begins with %s://", name, schemes[0])
		}
	}
	return nil
}

// address is a setting that says where to listen.
type address struct {
	variable, value string
	loopback        bool
}

// addresses lists where this process will listen.
func (s *settings) addresses() []address {
	list := []address{{variable: "GALLEY_HTTP_ADDR", value: s.HTTPAddr}}
	if s.NATSURL == "" {
		list = append(list, address{variable: "GALLEY_NATS_ADDR", value: s.NATSAddr, loopback: true})
	}
	if s.MetricsAddr != "" {
		list = append(list, address{variable: "GALLEY_METRICS_ADDR", value: s.MetricsAddr})
	}
	if !s.NoSandbox {
		list = append(list, address{variable: "GALLEY_SANDBOX_ADDR", value: s.SandboxAddr},
			address{variable: "GALLEY_SANDBOX_SMTP_ADDR", value: s.SandboxSMTP})
	}
	return list
}

func (a address) validate() error {
	host, portText, err := net.SplitHostPort(a.value)
	if port, portErr := strconv.ParseUint(portText, 10, 16); err != nil || portErr != nil || port == 0 {
		return fmt.Errorf("%s is %q: must be host:port with a port from 1 to 65535", a.variable, a.value)
	}
	if ip, err := netip.ParseAddr(host); a.loopback && host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s is %q: must be a loopback address such as 127.0.0.1:4222, because NATS has no sign-in yet",
			a.variable, a.value)
	}
	return nil
}

// checkFree finds out whether all addresses can be listened on. They are taken together, so that no two of them are the same.
func checkFree(ctx context.Context, addresses []address) error {
	var problems []error
	for _, a := range addresses {
		var config net.ListenConfig
		listener, err := config.Listen(ctx, "tcp", a.value)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			problems = append(problems, fmt.Errorf("%s is %s: that port is taken, stop what listens there or choose another",
				a.variable, a.value))
		case err != nil:
			problems = append(problems, fmt.Errorf("%s is %s: cannot listen there: %w", a.variable, a.value, err))
		default:
			defer listener.Close() //nolint:errcheck // nothing was accepted
		}
	}
	return errors.Join(problems...)
}
