package email

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/textproto"
	"slices"
	"strings"

	"github.com/wneessen/go-mail/smtp"

	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// maxReplies is the most that a mail server may say in a conversation, in bytes, certificates included.
const maxReplies = 256 << 10

var errTalksTooMuch = errors.New("the mail server says too much")

// conversation is a connection of which a limited amount is read: replies have no limit of their own.
type conversation struct {
	net.Conn
	left int
}

// Read implements io.Reader.
func (c *conversation) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTalksTooMuch
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// deliver hands the mail to the server. It succeeds when the server has said that it took it, whatever happens then.
func (c *Component) deliver(ctx context.Context, to *server, from string, recipients []string, content []byte) error {
	ctx, cancel := context.WithTimeout(ctx, maxTalk)
	defer cancel()
	conn, err := c.connect(ctx, to)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	client, err := c.greet(ctx, &conversation{Conn: conn, left: maxReplies}, to, domainOf(from))
	if err != nil {
		return judge(ctx, err, "does not take mail from here")
	}
	if to.username != "" {
		if err := signIn(ctx, client, to); err != nil {
			return err
		}
	}
	if err := client.Mail("<" + from + ">"); err != nil {
		return judge(ctx, err, "refused the sender")
	}
	for _, recipient := range recipients {
		if err := client.Rcpt("<" + recipient + ">"); err != nil {
			return judge(ctx, err, "refused an address in to, cc or bcc")
		}
	}
	body, err := client.Data()
	if err != nil {
		return judge(ctx, err, "refused the mail")
	}
	// Without the end that Close writes, the server must not take what it has: so on an error the connection is only closed.
	if _, err := body.Write(content); err != nil {
		return judge(ctx, err, "refused the mail")
	}
	if err := body.Close(); err != nil {
		return judge(ctx, err, "refused the mail")
	}
	_ = client.Text.PrintfLine("QUIT")
	return nil
}

// connect opens the connection. The operator's own server may be anywhere. A customer's mail is sent without encryption only inside of a
// private network: the guard lets it there only where the operator allows that.
func (c *Component) connect(ctx context.Context, to *server) (net.Conn, error) {
	if to.trusted {
		conn, err := c.dialer.DialContext(ctx, "tcp", to.address())
		if err != nil {
			return nil, outbound.Classify(err)
		}
		return conn, nil
	}
	conn, err := c.network.Dial(ctx, "tcp", to.address())
	if err != nil {
		return nil, err
	}
	if to.encryption == noTLS && !isPrivate(conn.RemoteAddr()) {
		_ = conn.Close()
		return nil, component.Failure(problem.AddressRefused, "the mail server has a public address: tls: none is not for those")
	}
	return conn, nil
}

func isPrivate(address net.Addr) bool {
	at, ok := address.(*net.TCPAddr)
	return ok && (at.IP.IsLoopback() || at.IP.IsPrivate())
}

// greet opens the conversation, encrypted as the server's owner wants it.
func (c *Component) greet(ctx context.Context, conn net.Conn, to *server, domain string) (*smtp.Client, error) {
	config := &tls.Config{ServerName: to.host, MinVersion: tls.VersionTLS12, RootCAs: c.roots}
	if to.encryption == implicitTLS {
		encrypted := tls.Client(conn, config)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = encrypted
	}
	client, err := smtp.NewClient(conn, to.host)
	if err != nil {
		return nil, err
	}
	client.SkipSMTPUTF8(true) // all addresses are ASCII
	if err := client.Hello(domain); err != nil {
		return nil, err
	}
	if to.encryption == startTLS {
		if offered, _ := client.Extension("STARTTLS"); !offered {
			return nil, component.Failure(problem.UpstreamRejected, "the mail server does not offer STARTTLS")
		}
		if err := client.StartTLS(config); err != nil {
			return nil, err
		}
	}
	return client, nil
}

// signIn tells the server who is there.
func signIn(ctx context.Context, client *smtp.Client, to *server) error {
	_, offered := client.Extension("AUTH")
	mechanisms := strings.Fields(strings.ToUpper(offered))
	unencrypted := to.encryption == noTLS
	var how smtp.Auth
	switch {
	case slices.Contains(mechanisms, "PLAIN"):
		how = smtp.PlainAuth("", to.username, to.password, to.host, unencrypted)
	case slices.Contains(mechanisms, "LOGIN"):
		how = smtp.LoginAuth(to.username, to.password, to.host, unencrypted)
	case slices.Contains(mechanisms, "CRAM-MD5"):
		how = smtp.CRAMMD5Auth(to.username, to.password)
	default:
		return component.Failure(problem.UpstreamRejected, "the mail server takes no user name and password")
	}
	if err := client.Auth(how); err != nil {
		return judge(ctx, err, "refused the user name or password")
	}
	return nil
}

// judge says what an error means. Of what the server said, only the number is told: the rest may be anything.
func judge(ctx context.Context, err error, refused string) error {
	if reply, ok := errors.AsType[*textproto.Error](err); ok {
		const temporary, permanent, end = 400, 500, 600
		switch {
		case temporary <= reply.Code && reply.Code < permanent:
			return component.Retryable(problem.Unavailable, "the mail server %s for the moment (%d)", refused, reply.Code)
		case permanent <= reply.Code && reply.Code < end:
			return component.Failure(problem.UpstreamRejected, "the mail server %s (%d)", refused, reply.Code)
		}
	}
	if ctx.Err() != nil {
		return outbound.Classify(ctx.Err())
	}
	return outbound.Classify(err)
}
