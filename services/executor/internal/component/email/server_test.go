package email_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"
)

const (
	user     = "ada"
	password = "hush-hush"
)

// received is a mail that a server took.
type received struct {
	from, helo string
	to         []string
	content    string
	encrypted  bool
	user       string
}

// mailServer is a real mail server.
type mailServer struct {
	address   string
	mails     chan received
	mechanism string
}

// startServer starts a server. It offers STARTTLS when it has a certificate, and takes mail only from those who sign in when it has a
// mechanism for it.
func startServer(t *testing.T, certificate *tls.Config, implicit bool, mechanism string) *mailServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	require.NoError(t, err)
	s := &mailServer{address: listener.Addr().String(), mails: make(chan received, 10), mechanism: mechanism}
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &session{server: s, conn: c}, nil
	}))
	server.TLSConfig, server.AllowInsecureAuth, server.EnableSMTPUTF8 = certificate, certificate == nil, true
	server.ErrorLog = log.New(io.Discard, "", 0)
	if implicit {
		listener = tls.NewListener(listener, certificate)
	}
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		_ = listener.Close() // it may not have been served yet
		served.Wait()
	})
	return s
}

type session struct {
	server *mailServer
	conn   *smtp.Conn
	mail   received
	user   string
}

func (s *session) AuthMechanisms() []string {
	if s.server.mechanism == "" {
		return nil
	}
	return []string{s.server.mechanism}
}

func (s *session) Auth(mechanism string) (sasl.Server, error) {
	check := func(name, secret string) error {
		if name != user || secret != password {
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "no: " + name + " " + secret}
		}
		s.user = name
		return nil
	}
	if mechanism == sasl.Login {
		return &loginServer{check: check}, nil
	}
	return sasl.NewPlainServer(func(_, name, secret string) error { return check(name, secret) }), nil
}

// loginServer is AUTH LOGIN, which the library only has for clients.
type loginServer struct {
	name  *string
	asked bool
	check func(name, secret string) error
}

func (l *loginServer) Next(response []byte) ([]byte, bool, error) {
	switch text := string(response); {
	case !l.asked:
		l.asked = true
		return []byte("Username:"), false, nil
	case l.name == nil:
		l.name = &text
		return []byte("Password:"), false, nil
	default:
		return nil, true, l.check(*l.name, text)
	}
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.server.mechanism != "" && s.user == "" {
		return smtp.ErrAuthRequired
	}
	_, encrypted := s.conn.TLSConnectionState()
	s.mail = received{from: from, helo: s.conn.Hostname(), encrypted: encrypted, user: s.user}
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mail.to = append(s.mail.to, to)
	return nil
}

func (s *session) Data(content io.Reader) error {
	all, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	s.mail.content = string(all)
	s.server.mails <- s.mail
	return nil
}

func (s *session) Reset() {}

func (s *session) Logout() error { return nil }

// certificate is one for 127.0.0.1, and who vouches for it.
func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	donor := httptest.NewTLSServer(nil)
	defer donor.Close()
	roots := x509.NewCertPool()
	roots.AddCert(donor.Certificate())
	return &tls.Config{Certificates: donor.TLS.Certificates, MinVersion: tls.VersionTLS12}, roots
}

// What a script says instead of an answer.
const (
	stall    = "stall"
	drop     = "drop"
	flood    = "flood"    // one line without an end
	chatter  = "chatter"  // lines without an end
	greeting = "greeting" // the key of what is said first
	end      = "."        // the key of what is said when the mail has come
)

// scripted starts a server that gives these answers to these commands, and good ones to all others. The channel tells the commands.
func scripted(t *testing.T, script map[string]string) (address string, commands chan string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	require.NoError(t, err)
	commands = make(chan string, 100)
	stopped := make(chan struct{})
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer func() { _ = conn.Close() }()
				_ = play(conn, script, commands, stopped)
			})
		}
	})
	t.Cleanup(func() {
		close(stopped)
		_ = listener.Close()
		served.Wait()
	})
	return listener.Addr().String(), commands
}

func play(conn net.Conn, script map[string]string, commands chan<- string, stopped <-chan struct{}) error {
	in := bufio.NewReader(conn)
	say := func(key, good string) error {
		answer, scripted := script[key]
		if !scripted {
			answer = good
		}
		switch answer {
		case stall:
			gone := make(chan struct{})
			go func() {
				_, _ = io.Copy(io.Discard, in)
				close(gone)
			}()
			select {
			case <-gone:
			case <-stopped:
				_ = conn.Close()
				<-gone
			}
			return errors.New("stalled")
		case drop:
			return errors.New("dropped")
		case flood:
			return forever(conn, strings.Repeat("2", 4096))
		case chatter:
			return forever(conn, strings.Repeat("250-still talking to 10.0.0.7\r\n", 100))
		}
		_, err := io.WriteString(conn, answer+"\r\n")
		return err
	}
	if err := say(greeting, "220 mail.internal ESMTP"); err != nil {
		return err
	}
	good := map[string]string{"EHLO": "250-mail.internal\r\n250 AUTH PLAIN", "DATA": "354 go on", "QUIT": "221 bye", "AUTH": "235 welcome"}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		commands <- strings.TrimSpace(line)
		answer, known := good[verb]
		if !known {
			answer = "250 fine"
		}
		if err := say(verb, answer); err != nil {
			return err
		}
		if verb == "DATA" && strings.HasPrefix(answer, "354") {
			for line != ".\r\n" {
				if line, err = in.ReadString('\n'); err != nil {
					return err
				}
			}
			if err := say(end, "250 taken"); err != nil {
				return err
			}
		}
	}
}

func forever(conn net.Conn, text string) error {
	for {
		if _, err := io.WriteString(conn, text); err != nil {
			return err
		}
	}
}
