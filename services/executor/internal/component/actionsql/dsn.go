package actionsql

import (
	"crypto/tls"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

const (
	defaultPort       = 5432
	maxConnectSeconds = 300
)

// database is where and how to connect.
type database struct {
	host           string
	port           uint16
	user, password string
	name           string
	// tls is nil for a connection in the clear.
	tls *tls.Config
	// application is the application_name, searchPath empty for the user's own.
	application, searchPath string
	// connectTimeout is 0 for as long as the step has.
	connectTimeout time.Duration
}

// address is host:port.
func (d *database) address() string {
	return net.JoinHostPort(d.host, strconv.Itoa(int(d.port)))
}

// parseDSN reads postgres://user:password@host:port/name?parameters. It is stricter than Postgres' own tools: one host, no socket,
// nothing that would be looked up anywhere else. Errors repeat nothing of the text, for it holds a password.
func parseDSN(text string) (*database, error) {
	parsed, err := url.Parse(text)
	if err != nil || parsed.Scheme != "postgres" && parsed.Scheme != "postgresql" || parsed.Opaque != "" || parsed.Fragment != "" {
		return nil, component.Failure(problem.ComponentError, "dsn is not a URL such as postgres://user:password@db.example.com:5432/name "+
			"(special characters in user and password are written as %%XX)")
	}
	d := &database{host: parsed.Hostname(), port: defaultPort, application: "galley"}
	if !isHost(d.host) {
		return nil, component.Failure(problem.ComponentError, "dsn does not name one host")
	}
	if port := parsed.Port(); port != "" {
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 {
			return nil, component.Failure(problem.ComponentError, "the port in dsn is not a number from 1 to 65535")
		}
		d.port = uint16(number)
	}
	d.user, d.name = parsed.User.Username(), strings.TrimPrefix(parsed.Path, "/")
	d.password, _ = parsed.User.Password()
	if d.user == "" || d.name == "" {
		return nil, component.Failure(problem.ComponentError, "dsn names no user or no database")
	}
	for _, part := range []string{d.user, d.password, d.name} {
		if len(part) > 1000 || strings.ContainsRune(part, 0) {
			return nil, component.Failure(problem.ComponentError, "user, password or database in dsn is too long or has a zero byte")
		}
	}
	return d, d.parameters(parsed.RawQuery)
}

// isHost tells a name or address from lists of hosts, paths of sockets and the like.
func isHost(host string) bool {
	if host == "" || len(host) > 253 {
		return false
	}
	return net.ParseIP(host) != nil || !strings.ContainsFunc(host, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_", r)
	})
}

// parameters takes those that are safe and useful, each at most once.
func (d *database) parameters(query string) error {
	refused := component.Failure(problem.ComponentError, "dsn may have the parameters sslmode, application_name, connect_timeout and "+
		"search_path, each once")
	values, err := url.ParseQuery(query)
	if err != nil {
		return refused
	}
	mode := "verify-full"
	for name, all := range values {
		value := all[0]
		switch {
		case len(all) > 1:
			return refused
		case name == "sslmode":
			mode = value
		case name == "connect_timeout":
			seconds, err := strconv.ParseUint(value, 10, 16)
			if err != nil || seconds > maxConnectSeconds {
				return component.Failure(problem.ComponentError, "connect_timeout in dsn is not a number of seconds up to %d", maxConnectSeconds)
			}
			d.connectTimeout = time.Duration(seconds) * time.Second
		case name == "application_name" && isPlain(value):
			d.application = value
		case name == "search_path" && isPlain(value):
			d.searchPath = value
		default:
			return refused
		}
	}
	switch mode {
	case "disable":
	case "require":
		//nolint:gosec // encrypted and not verified is what this mode means; the author asked for it
		d.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: d.host, InsecureSkipVerify: true}
	case "verify-full":
		d.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: d.host}
	default:
		return component.Failure(problem.ComponentError, "sslmode in dsn is none of verify-full, require and disable")
	}
	return nil
}

func isPlain(value string) bool {
	return value != "" && len(value) <= 200 && !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' })
}

// checkQuery refuses what would break the protocol.
func checkQuery(query string) error {
	if strings.TrimSpace(query) == "" || strings.ContainsRune(query, 0) {
		return component.Failure(problem.ComponentError, "query is empty or has a zero byte")
	}
	return nil
}
