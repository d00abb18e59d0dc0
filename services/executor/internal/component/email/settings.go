package email

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"strconv"
)

// Settings are the operator's.
type Settings struct {
	// Server is the mail server for recipes that name none: smtp://user:password@host:port with STARTTLS, smtp://…?tls=none without
	// encryption, or smtps://… with encryption from the beginning. Empty for none.
	Server string
	// From is the sender of all mail through it, such as galley@example.com or Galley <galley@example.com>.
	From string
}

// Validate joins everything that is wrong, without showing the server's password.
func (s Settings) Validate() error {
	var problems []error
	if s.Server != "" {
		if _, err := s.server(); err != nil {
			problems = append(problems, err)
		}
	}
	if _, err := parseAddress(s.From); err != nil && (s.From != "" || s.Server != "") {
		problems = append(problems, errors.New("the sender is not an address such as Galley <galley@example.com>"))
	}
	return errors.Join(problems...)
}

// encryption is how a connection is encrypted.
type encryption string

const (
	startTLS    encryption = "starttls"
	implicitTLS encryption = "implicit"
	noTLS       encryption = "none"
)

// defaultPort is where servers listen for it.
func (e encryption) defaultPort() int {
	const submission, submissions, plain = 587, 465, 25
	switch e {
	case implicitTLS:
		return submissions
	case noTLS:
		return plain
	case startTLS:
	}
	return submission
}

// server is a mail server and who may send through it.
type server struct {
	host               string
	port               int
	encryption         encryption
	username, password string
	// from is the sender that the server's owner has chosen.
	from *mail.Address
	// trusted tells that the operator named the server.
	trusted bool
}

func (s *server) address() string { return net.JoinHostPort(s.host, strconv.Itoa(s.port)) }

var errServer = errors.New("the mail server is not a URL such as smtp://user:password@smtp.example.com:587")

// server reads the URL. Its errors do not show it: it holds a password.
func (s Settings) server() (*server, error) {
	parsed, err := url.Parse(s.Server)
	if err != nil || parsed.Hostname() == "" || parsed.Path != "" && parsed.Path != "/" || parsed.Fragment != "" {
		return nil, errServer
	}
	found := &server{host: parsed.Hostname(), encryption: startTLS, username: parsed.User.Username(), trusted: true}
	found.password, _ = parsed.User.Password()
	switch query := parsed.Query(); {
	case len(query) > 1 || len(query) == 1 && !query.Has("tls"):
		return nil, fmt.Errorf("%w: it has a parameter other than tls", errServer)
	case parsed.Scheme == "smtps" && len(query) == 0:
		found.encryption = implicitTLS
	case parsed.Scheme != "smtp":
		return nil, fmt.Errorf("%w: the scheme is smtp, or smtps without tls=", errServer)
	case len(query) == 1:
		found.encryption = encryption(query.Get("tls"))
	}
	if found.encryption != startTLS && found.encryption != implicitTLS && found.encryption != noTLS {
		return nil, fmt.Errorf("%w: tls is starttls, implicit or none", errServer)
	}
	if found.port = found.encryption.defaultPort(); parsed.Port() != "" {
		port, err := strconv.ParseUint(parsed.Port(), 10, 16)
		if err != nil || port == 0 {
			return nil, fmt.Errorf("%w: the port is a number from 1 to 65535", errServer)
		}
		found.port = int(port)
	}
	if (found.username == "") != (found.password == "") {
		return nil, fmt.Errorf("%w: user name and password come together", errServer)
	}
	if s.From != "" {
		if found.from, err = parseAddress(s.From); err != nil {
			return nil, errors.New("the sender is not an address such as Galley <galley@example.com>")
		}
	}
	return found, nil
}
