package sandbox

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

const (
	maxMail       = 32 << 20
	maxRecipients = 100
	smtpTimeout   = time.Minute
)

// serveSMTP takes e-mail from anybody until ctx ends; what is under way is cut off then.
func (m *mailbox) serveSMTP(ctx context.Context, listener net.Listener) error {
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{mailbox: m}, nil }))
	server.Domain = "sandbox.galley.example"
	server.MaxMessageBytes, server.MaxRecipients = maxMail, maxRecipients
	server.ReadTimeout, server.WriteTimeout = smtpTimeout, smtpTimeout
	server.AllowInsecureAuth, server.EnableSMTPUTF8 = true, true
	server.ErrorLog = log.New(io.Discard, "", 0) // what clients do wrong is their affair
	closeAll := func() error {
		err := server.Close()
		_ = listener.Close() // the server does not know it when it has hardly begun
		return err
	}
	err := serveUntil(ctx, func() error { return server.Serve(listener) }, func(context.Context) error { return closeAll() }, closeAll)
	if err != nil {
		return fmt.Errorf("serve the mailbox of the sandbox: %w", err)
	}
	return nil
}

// session is the conversation with one client.
type session struct {
	mailbox *mailbox
	from    string
	to      []string
}

// AuthMechanisms implements smtp.AuthSession.
func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

// Auth implements smtp.AuthSession: any user name and password will do.
func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, _, _ string) error { return nil }), nil
}

// Mail implements smtp.Session.
func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

// Rcpt implements smtp.Session.
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

// Data implements smtp.Session.
func (s *session) Data(content io.Reader) error {
	in, err := readMail(content)
	if err != nil {
		return err // the client has gone, or sends too much
	}
	if in.From == "" {
		in.From = s.from
	}
	in.To = s.to
	s.mailbox.add(in)
	return nil
}

// Reset implements smtp.Session.
func (s *session) Reset() { s.from, s.to = "", nil }

// Logout implements smtp.Session.
func (s *session) Logout() error { return nil }
