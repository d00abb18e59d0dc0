package email_test

import (
	"context"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net"
	"net/mail"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/galley-engine/galley/pkg/file"
	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/email"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type with = map[string]any

func now() time.Time { return time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC) }

func newComponent(t *testing.T, settings email.Settings, files *file.Store, allowed ...string) *email.Component {
	t.Helper()
	network, err := outbound.New(allowed, now)
	require.NoError(t, err)
	t.Cleanup(network.Close)
	c, err := email.New(settings, network, files, now)
	require.NoError(t, err)
	return c
}

func execute(t *testing.T, c *email.Component, input with) (map[string]any, error) {
	t.Helper()
	return executeIn(t, c, input, time.Minute)
}

func executeIn(t *testing.T, c *email.Component, input with, timeout time.Duration) (map[string]any, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	result, err := c.Execute(ctx, &component.Call{
		Execution: subject.Execution{Customer: "cust_001", ID: "e1"}, Step: "mail", Attempt: 1, With: input,
	})
	output, _ := result.Output.(map[string]any)
	return output, err
}

// through is a server of the recipe's own.
func through(t *testing.T, address string, more with) with {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	server := with{"host": host, "port": float64(number), "tls": "none"}
	maps.Copy(server, more)
	return with{"to": "ada@example.com", "from": "hunter@leads.example", "subject": "Leads", "text": "Hello", "server": server}
}

// requireProblem checks an error and that it gives away neither address nor secret nor text of the server.
func requireProblem(t *testing.T, err error, code problem.Code, retryable bool) {
	t.Helper()
	var found *problem.Error
	require.ErrorAs(t, err, &found)
	assert.Equal(t, code, found.Code, found.Message)
	assert.Equal(t, retryable, found.Retryable, found.Message)
	for _, secret := range []string{"hush", "127.0.0.1", "localhost", "10.0", "internal"} {
		assert.NotContains(t, found.Message, secret)
	}
}

func TestMailOfTheOperator(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil, false, "")
	settings := email.Settings{Server: "smtp://" + server.address + "?tls=none", From: "Galley <galley@mail.example>"}
	c := newComponent(t, settings, nil) // the guard would refuse the address: it is the operator's choice
	input := with{
		"to": []any{"Ada Lovelace <ada@example.com>", "bob@example.com"}, "cc": "carl@example.com",
		"bcc": []any{"secret@example.com", "bob@example.com"}, "reply_to": "Zoë <zoe@example.com>", "from_name": "Günther",
		"subject": "Grüße  an\u2003alle", "text": "Hello\n.\nbye ü", "html": "<p>Hello</p>",
		"attachments": []any{with{"name": "leads \"best\"/..\\x.csv", "content": "a,ü\n", "content_type": "text/csv"}, with{"name": "b", "content": ""}},
	}
	first, err := execute(t, c, input)
	require.NoError(t, err)
	assert.Equal(t, 4.0, first["accepted"])
	second, err := execute(t, c, input)
	require.NoError(t, err)
	assert.Equal(t, first, second, "another attempt is recognised")

	got := <-server.mails
	assert.Equal(t, "galley@mail.example", got.from)
	assert.Equal(t, "mail.example", got.helo)
	assert.Equal(t, []string{"ada@example.com", "bob@example.com", "carl@example.com", "secret@example.com"}, got.to)
	parsed, err := mail.ReadMessage(strings.NewReader(got.content))
	require.NoError(t, err)
	decoded := func(name string) string {
		text, err := new(mime.WordDecoder).DecodeHeader(parsed.Header.Get(name))
		require.NoError(t, err)
		return text
	}
	assert.Equal(t, "Grüße an alle", decoded("Subject"))
	assert.Equal(t, `Günther <galley@mail.example>`, decoded("From"))
	assert.Equal(t, `Zoë <zoe@example.com>`, decoded("Reply-To"))
	assert.Equal(t, `"Ada Lovelace" <ada@example.com>, <bob@example.com>`, decoded("To"))
	assert.Equal(t, "<carl@example.com>", decoded("Cc"))
	assert.Equal(t, "Thu, 01 Jan 2026 12:00:00 +0000", decoded("Date"))
	assert.Equal(t, first["message_id"], decoded("Message-Id"))
	assert.Regexp(t, `^<[0-9a-f]{32}@mail\.example>$`, first["message_id"])
	for _, name := range []string{"Bcc", "User-Agent", "X-Mailer"} {
		assert.Empty(t, parsed.Header.Get(name), name)
	}
	assert.NotContains(t, got.content, "secret@example.com")
	assert.Equal(t, []part{
		{"text/plain", "", "Hello\n.\nbye ü"},
		{"text/html", "", "<p>Hello</p>"},
		{"text/csv", "leads _best__.._x.csv", "a,ü\n"},
		{"text/plain", "b", ""},
	}, parts(t, parsed.Header.Get("Content-Type"), parsed.Body))
}

type part struct{ contentType, name, content string }

// parts reads a mail as receivers do.
func parts(t *testing.T, contentType string, body io.Reader) []part {
	t.Helper()
	_, parameters, err := mime.ParseMediaType(contentType)
	require.NoError(t, err)
	var found []part
	reader := multipart.NewReader(body, parameters["boundary"])
	for {
		next, err := reader.NextPart()
		if err == io.EOF { //nolint:errorlint // it is never wrapped
			return found
		}
		require.NoError(t, err)
		media, _, err := mime.ParseMediaType(next.Header.Get("Content-Type"))
		require.NoError(t, err)
		if strings.HasPrefix(media, "multipart/") {
			found = append(found, parts(t, next.Header.Get("Content-Type"), next)...)
			continue
		}
		content, err := io.ReadAll(decodeTransfer(next.Header.Get("Content-Transfer-Encoding"), next))
		require.NoError(t, err)
		found = append(found, part{media, next.FileName(), strings.ReplaceAll(string(content), "\r\n", "\n")})
	}
}

func TestOnlyHTMLWithoutAttachments(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil, false, "")
	c := newComponent(t, email.Settings{}, nil, server.address)
	input := through(t, server.address, nil)
	delete(input, "text")
	input["html"] = "<p>ü</p>"
	input["subject"] = strings.Repeat("longword", 30) + strings.Repeat(" x", 20)
	_, err := execute(t, c, input)
	require.NoError(t, err)
	parsed, err := mail.ReadMessage(strings.NewReader((<-server.mails).content))
	require.NoError(t, err)
	assert.Equal(t, input["subject"], parsed.Header.Get("Subject"))
	assert.Equal(t, "text/html; charset=UTF-8", parsed.Header.Get("Content-Type"))
}

func TestOwnServerIsEncryptedAndSignedInto(t *testing.T) {
	t.Parallel()
	config, roots := certificate(t)
	for _, test := range []struct {
		tls, mechanism string
	}{{"starttls", "PLAIN"}, {"starttls", "LOGIN"}, {"implicit", "PLAIN"}, {"none", "PLAIN"}, {"none", "LOGIN"}} {
		t.Run(test.tls+" "+test.mechanism, func(t *testing.T) {
			t.Parallel()
			used := config
			if test.tls == "none" {
				used = nil
			}
			server := startServer(t, used, test.tls == "implicit", test.mechanism)
			c := newComponent(t, email.Settings{}, nil, server.address)
			c.Trust(roots)
			input := through(t, server.address, with{"tls": test.tls, "username": user, "password": password})
			if test.tls == "starttls" {
				delete(input["server"].(with), "tls") //nolint:errcheck // it is one
			}
			output, err := execute(t, c, input)
			require.NoError(t, err)
			assert.Equal(t, 1.0, output["accepted"])
			got := <-server.mails
			assert.Equal(t, "hunter@leads.example", got.from)
			assert.Equal(t, user, got.user)
			assert.Equal(t, test.tls != "none", got.encrypted)

			input["server"].(with)["password"] = "hush-wrong" //nolint:errcheck // it is one
			_, err = execute(t, c, input)
			requireProblem(t, err, problem.UpstreamRejected, false)
			require.ErrorContains(t, err, "refused the user name or password (535)")
			assert.Empty(t, server.mails)
		})
	}
}

func TestCertificateOfTheServerIsChecked(t *testing.T) {
	t.Parallel()
	config, roots := certificate(t)
	for _, encryption := range []string{"starttls", "implicit"} {
		server := startServer(t, config, encryption == "implicit", "PLAIN")
		_, port, err := net.SplitHostPort(server.address)
		require.NoError(t, err)
		c := newComponent(t, email.Settings{}, nil, server.address, "localhost:"+port)
		own := with{"tls": encryption, "username": user, "password": password}
		_, err = execute(t, c, through(t, server.address, own))
		requireProblem(t, err, problem.Connection, false)
		c.Trust(roots)
		_, err = execute(t, c, through(t, "localhost:"+port, own))
		requireProblem(t, err, problem.Connection, false)
		assert.Empty(t, server.mails)
	}
}

func TestNoPasswordWithoutEncryption(t *testing.T) {
	t.Parallel()
	address, commands := scripted(t, nil)
	c := newComponent(t, email.Settings{}, nil, address)
	_, err := execute(t, c, through(t, address, with{"tls": "starttls", "username": user, "password": password}))
	requireProblem(t, err, problem.UpstreamRejected, false)
	require.ErrorContains(t, err, "STARTTLS")
	assert.Equal(t, "EHLO leads.example", <-commands)
	assert.Empty(t, commands)
}

func TestServerWithoutSignIn(t *testing.T) {
	t.Parallel()
	address, _ := scripted(t, map[string]string{"EHLO": "250 AUTH GSSAPI"})
	c := newComponent(t, email.Settings{}, nil, address)
	_, err := execute(t, c, through(t, address, with{"username": user, "password": password}))
	requireProblem(t, err, problem.UpstreamRejected, false)
}

func TestMisbehavingServer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script    map[string]string
		code      problem.Code
		retryable bool
		message   string
	}{
		"busy":                            {map[string]string{greeting: "421 mail.internal busy"}, problem.Unavailable, true, "(421)"},
		"takes no mail":                   {map[string]string{greeting: "554 hush"}, problem.UpstreamRejected, false, "(554)"},
		"is no mail server":               {map[string]string{greeting: "SSH-2.0-OpenSSH at 10.0.0.7"}, problem.Timeout, true, ""},
		"is a web server":                 {map[string]string{greeting: "HTTP/1.1 400 Bad Request"}, problem.Connection, true, ""},
		"greets with another number":      {map[string]string{greeting: "250 hello"}, problem.Connection, true, ""},
		"closes at once":                  {map[string]string{greeting: drop}, problem.Connection, true, ""},
		"stalls at once":                  {map[string]string{greeting: stall}, problem.Timeout, true, ""},
		"greets with an endless line":     {map[string]string{greeting: flood}, problem.Connection, true, ""},
		"greets without end":              {map[string]string{greeting: chatter}, problem.Connection, true, ""},
		"knows no EHLO and no HELO":       {map[string]string{"EHLO": "502 no", "HELO": "502 no"}, problem.UpstreamRejected, false, "(502)"},
		"stalls at EHLO":                  {map[string]string{"EHLO": stall}, problem.Timeout, true, ""},
		"offers things without end":       {map[string]string{"EHLO": chatter}, problem.Connection, true, ""},
		"stalls at the password":          {map[string]string{"AUTH": stall}, problem.Timeout, true, ""},
		"asks on":                         {map[string]string{"AUTH": "334 !!!"}, problem.Connection, true, ""},
		"cannot check passwords":          {map[string]string{"AUTH": "454 later"}, problem.Unavailable, true, "(454)"},
		"refuses the sender":              {map[string]string{"MAIL": "550 5.1.0 hush"}, problem.UpstreamRejected, false, "refused the sender (550)"},
		"refuses the sender for now":      {map[string]string{"MAIL": "450 hush"}, problem.Unavailable, true, "refused the sender for the moment (450)"},
		"refuses the address":             {map[string]string{"RCPT": "550 no ada here"}, problem.UpstreamRejected, false, "an address in to, cc or bcc (550)"},
		"has no room":                     {map[string]string{"DATA": "452 full"}, problem.Unavailable, true, "(452)"},
		"refuses the content":             {map[string]string{end: "554 spam from 10.0.0.7"}, problem.UpstreamRejected, false, "refused the mail (554)"},
		"refuses the content for now":     {map[string]string{end: "451 hush"}, problem.Unavailable, true, "(451)"},
		"stalls at DATA":                  {map[string]string{"DATA": stall}, problem.Timeout, true, ""},
		"closes at DATA":                  {map[string]string{"DATA": drop}, problem.Connection, true, ""},
		"stalls when the mail has come":   {map[string]string{end: stall}, problem.Timeout, true, ""},
		"closes when the mail has come":   {map[string]string{end: drop}, problem.Connection, true, ""},
		"talks on when the mail has come": {map[string]string{end: chatter}, problem.Connection, true, ""},
		"answers nonsense to the mail":    {map[string]string{end: "999"}, problem.Connection, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, _ := scripted(t, test.script)
			c := newComponent(t, email.Settings{}, nil, address)
			timeout := time.Minute
			if test.code == problem.Timeout {
				timeout = 300 * time.Millisecond
			}
			_, err := executeIn(t, c, through(t, address, with{"username": user, "password": password}), timeout)
			requireProblem(t, err, test.code, test.retryable)
			require.ErrorContains(t, err, test.message)
		})
	}
}

func TestStallInTheHandshake(t *testing.T) {
	t.Parallel()
	for encryption, script := range map[string]map[string]string{
		"implicit": {greeting: stall}, "starttls": {"EHLO": "250-here\r\n250 STARTTLS", "STARTTLS": stall},
	} {
		address, _ := scripted(t, script)
		c := newComponent(t, email.Settings{}, nil, address)
		_, err := executeIn(t, c, through(t, address, with{"tls": encryption}), 300*time.Millisecond)
		requireProblem(t, err, problem.Timeout, true)
	}
}

// TestWhatWasTakenIsSent: once the server has said that it took the mail, nothing makes a failure of it.
func TestWhatWasTakenIsSent(t *testing.T) {
	t.Parallel()
	for _, afterwards := range []string{stall, drop, flood, "500 what?"} {
		address, commands := scripted(t, map[string]string{"QUIT": afterwards})
		c := newComponent(t, email.Settings{}, nil, address)
		output, err := execute(t, c, through(t, address, nil))
		require.NoError(t, err, afterwards)
		assert.Equal(t, 1.0, output["accepted"])
		for _, command := range []string{"EHLO leads.example", "MAIL FROM:<hunter@leads.example>", "RCPT TO:<ada@example.com>", "DATA", "QUIT"} {
			assert.Equal(t, command, <-commands)
		}
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil, false, "")
	c := newComponent(t, email.Settings{Server: "smtp://" + server.address + "?tls=none", From: "galley@mail.example"}, nil, "127.0.0.1:1")
	_, port, err := net.SplitHostPort(server.address)
	require.NoError(t, err)
	for _, host := range []string{"127.0.0.1", "localhost", "::1", "[::1]", "::ffff:127.0.0.1", "10.0.0.7", "169.254.169.254", "0.0.0.0"} {
		input := through(t, net.JoinHostPort("x", port), with{"host": host})
		_, err := execute(t, c, input)
		requireProblem(t, err, problem.AddressRefused, false)
	}
	assert.Empty(t, server.mails, "that the operator sends through it opens it to nobody else")
	for address, private := range map[string]bool{"127.0.0.1": true, "10.1.2.3": true, "::1": true, "fd00::1": true, "8.8.8.8": false, "169.254.1.1": false} {
		assert.Equal(t, private, email.IsPrivate(&net.TCPAddr{IP: net.ParseIP(address)}), address)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	c := newComponent(t, email.Settings{Server: "smtp://" + address + "?tls=none", From: "galley@mail.example"}, nil, address)
	_, err = execute(t, c, through(t, address, nil))
	requireProblem(t, err, problem.Connection, true)
	_, err = execute(t, c, with{"to": "ada@example.com", "subject": "Leads", "text": "Hello"})
	requireProblem(t, err, problem.Connection, true)
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	address, commands := scripted(t, nil)
	c := newComponent(t, email.Settings{}, nil, address)
	many := make([]any, 51)
	for i := range many {
		many[i] = "a" + strconv.Itoa(i) + "@example.com"
	}
	for name, test := range map[string]struct {
		change  with
		message string
	}{
		"no address":                {with{"to": "ada"}, "to holds something"},
		"two in one":                {with{"to": "ada@example.com, bob@example.com"}, "to holds something"},
		"a line break":              {with{"to": "ada@example.com\r\nRCPT TO:<eve@example.com>"}, "to holds something"},
		"a line break in a name":    {with{"cc": []any{"Ada\nBcc: eve@example.com <ada@example.com>"}}, "cc holds something"},
		"an encoded line break":     {with{"bcc": "=?utf-8?q?a=0D=0Ab?= <ada@example.com>"}, "bcc holds something"},
		"a quoted local part":       {with{"to": `"a> NOTIFY=NEVER <b"@example.com`}, "to holds something"},
		"an address literal":        {with{"to": "ada@[10.0.0.7]"}, "to holds something"},
		"a host that is none":       {with{"to": "ada@-example..com"}, "to holds something"},
		"not ASCII":                 {with{"to": "ädä@example.com"}, "to holds something"},
		"a long local part":         {with{"to": strings.Repeat("a", 65) + "@example.com"}, "to holds something"},
		"empty":                     {with{"to": ""}, "to holds something"},
		"nobody":                    {with{"to": []any{}}, "to holds no address"},
		"too many":                  {with{"bcc": many}, "more than 50"},
		"a subject of two lines":    {with{"subject": "a\r\nBcc: eve@example.com"}, "subject"},
		"a subject of spaces":       {with{"subject": "   "}, "subject"},
		"a name of two lines":       {with{"from_name": "a\nb"}, "from_name"},
		"a sender that is none":     {with{"from": "hunter"}, "from holds something"},
		"answers to nobody":         {with{"reply_to": "x@"}, "reply_to holds something"},
		"nothing to say":            {with{"text": nil}, "neither text nor html"},
		"no server of the operator": {with{"server": nil, "from": nil}, "no mail server"},
		"attachments too large":     {with{"attachments": []any{with{"name": "a", "content": strings.Repeat("x", 10<<20+1)}}}, "10 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			input := through(t, address, nil)
			maps.Copy(input, test.change)
			_, err := execute(t, c, input)
			requireProblem(t, err, problem.ComponentError, false)
			require.ErrorContains(t, err, test.message)
			assert.NotContains(t, err.Error(), "eve")
		})
	}
	assert.Empty(t, commands)
}

func TestNobodyPretendsToBeSomebody(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil, false, "")
	c := newComponent(t, email.Settings{Server: "smtp://" + server.address + "?tls=none", From: "galley@mail.example"}, nil)
	_, err := execute(t, c, with{"to": "ada@example.com", "subject": "Leads", "text": "Hello", "from": "boss@example.com"})
	requireProblem(t, err, problem.ComponentError, false)
	assert.Empty(t, server.mails)
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for _, server := range []string{
		"smtp://mail.example.com", "smtp://ada:hush%40@mail.example.com:2525", "smtps://ada:hush@mail.example.com/",
		"smtp://127.0.0.1:1025?tls=none", "smtp://[::1]:25?tls=starttls", "smtp://mail.example.com?tls=implicit",
	} {
		require.NoError(t, email.Settings{Server: server, From: "Galley <galley@example.com>"}.Validate(), server)
	}
	require.NoError(t, email.Settings{}.Validate())
	for _, server := range []string{
		"mail.example.com:25", "http://ada:hush@mail.example.com", "smtp://", "smtp://ada@mail.example.com", "smtp://:hush@mail.example.com",
		"smtp://ada:hush@mail.example.com:0", "smtp://ada:hush@mail.example.com:99999", "smtp://ada:hush@mail.example.com/path",
		"smtp://ada:hush@mail.example.com?tls=maybe", "smtp://ada:hush@mail.example.com?x=y", "smtps://ada:hush@mail.example.com?tls=none",
		"smtp://ada:hush@mail.example.com#part", "smtp://ada:hush@mail.exa mple.com:port",
	} {
		err := email.Settings{Server: server, From: "galley@example.com"}.Validate()
		require.Error(t, err, server)
		assert.NotContains(t, err.Error(), "hush")
	}
	for _, from := range []string{"", "galley", "Galley\n<galley@example.com>"} {
		require.Error(t, email.Settings{Server: "smtp://mail.example.com", From: from}.Validate(), from)
	}
	_, err := email.New(email.Settings{Server: "nonsense"}, nil, nil, now)
	require.Error(t, err)
}
