package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/mail"
	"time"

	"github.com/emersion/go-smtp"
)

// mailServer takes mail from anybody. It takes its time between the end of a mail and its reply: who dies meanwhile has sent the mail and
// does not know it.
type mailServer struct {
	server   *smtp.Server
	address  string
	delay    time.Duration
	took     func(key, id string)
	closing  context.Context //nolint:containedctx // conversations have none of their own
	hurry    context.CancelFunc
	finished chan struct{}
}

const smtpTimeout = time.Minute

// startMailServer tells took of each mail: its subject, which the recipes make its idempotency key, and its Message-ID.
func startMailServer(delay time.Duration, took func(key, id string)) (*mailServer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	if err != nil {
		return nil, fmt.Errorf("start mail server: %w", err)
	}
	s := &mailServer{address: listener.Addr().String(), delay: delay, took: took, finished: make(chan struct{})}
	s.closing, s.hurry = context.WithCancel(context.Background())
	s.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return mailSession{s}, nil }))
	s.server.ReadTimeout, s.server.WriteTimeout = smtpTimeout, smtpTimeout
	s.server.ErrorLog = log.New(io.Discard, "", 0) // clients that die are what this is about
	go func() {
		defer close(s.finished)
		_ = s.server.Serve(listener) // it always ends with an error, that of close
	}()
	return s, nil
}

func (s *mailServer) close() error {
	s.hurry()
	err := s.server.Close()
	<-s.finished
	if errors.Is(err, smtp.ErrServerClosed) {
		return nil
	}
	return err
}

// mailSession is the conversation with one client.
type mailSession struct{ *mailServer }

// Mail implements smtp.Session.
func (mailSession) Mail(string, *smtp.MailOptions) error { return nil }

// Rcpt implements smtp.Session.
func (mailSession) Rcpt(string, *smtp.RcptOptions) error { return nil }

// Reset implements smtp.Session.
func (mailSession) Reset() {}

// Logout implements smtp.Session.
func (mailSession) Logout() error { return nil }

// Data implements smtp.Session.
func (s mailSession) Data(content io.Reader) error {
	message, err := mail.ReadMessage(content)
	if err == nil {
		_, err = io.Copy(io.Discard, message.Body)
	}
	if err != nil {
		return err // the client died in the middle of the mail: it is none
	}
	s.took(message.Header.Get("Subject"), message.Header.Get("Message-Id"))
	pause(s.closing, s.delay)
	return nil
}
