package sandbox

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func get(t *testing.T, handler http.Handler, target string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil))
	return w
}

func shown(t *testing.T, handler http.Handler) contents {
	t.Helper()
	w := get(t, handler, "/mailbox.json")
	assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
	var answer contents
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	assert.Equal(t, mailboxNotice, answer.Notice)
	return answer
}

const wholeMail = `From: =?utf-8?q?G=C3=BCnther?= <galley@mail.example>
To: ada@example.com
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=
Message-ID: <1@mail.example>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=outer

--outer
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe
--inner
Content-Type: text/html

<p onclick="x">Hi</p><script>alert(1)</script>
--inner--
--outer
Content-Type: image/png; name="cat.png"
Content-Disposition: attachment; filename="=?utf-8?q?k=C3=A4tzchen.png?="
Content-Transfer-Encoding: base64

AAECAwQF
--outer
Content-Type: text/plain

second text
--outer--
`

// mailTo starts the mailbox and signs in.
func mailTo(t *testing.T, s *sandbox) *smtp.Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.mailbox.serveSMTP(ctx, listener) }()
	client, err := smtp.Dial(listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = client.Close()
		cancel()
		require.NoError(t, <-served)
	})
	require.NoError(t, client.Auth(sasl.NewPlainClient("", "anybody", "anything")))
	return client
}

func TestMailbox(t *testing.T) {
	t.Parallel()
	s := newTest(t)
	client := mailTo(t, s)
	send := func(content string, to ...string) {
		t.Helper()
		require.NoError(t, client.SendMail("galley@mail.example", to, strings.NewReader(content)))
	}
	send(strings.ReplaceAll(wholeMail, "\n", "\r\n"), "ada@example.com", "hidden@example.com")
	assert.Equal(t, message{
		Number: 1, Kind: kindEmail, Received: s.config.Clock(), From: "Günther <galley@mail.example>",
		To: []string{"ada@example.com", "hidden@example.com"}, Subject: "Grüße", Text: "Grüße",
		HTML: `<p onclick="x">Hi</p><script>alert(1)</script>`, MessageID: "<1@mail.example>",
		Attachments: []attachment{{"kätzchen.png", "image/png", 6}, {"(no name)", "text/plain", 11}},
	}, shown(t, s.handler()).Messages[0])

	for _, strange := range []string{
		"", "no header at all", "Subject: =?x?y?z?=\r\nContent-Type: /;;\r\n\r\nx", "Content-Type: multipart/mixed; boundary=a\r\n\r\nno part",
		"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\nx",
		"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!", strings.Repeat("Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n", 50),
		"Subject: a\xff\r\n\r\n\x00\xff",
	} {
		send(strange, "ada@example.com")
		got := shown(t, s.handler()).Messages[0]
		assert.NotEmpty(t, got.From, "what has no sender shows that of the envelope")
	}
	large := "Subject: large\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\n" + strings.Repeat(strings.Repeat("ü", 30)+"\r\n", 2000) +
		"\r\n--a\r\nContent-Disposition: attachment; filename=b\r\nContent-Transfer-Encoding: base64\r\n\r\n"
	large += strings.Repeat(base64.StdEncoding.EncodeToString(make([]byte, 600))+"\r\n", 100)
	send(large+"--a--\r\n", "ada@example.com")
	got := shown(t, s.handler()).Messages[0]
	assert.Equal(t, []attachment{{"b", "text/plain", 60000}}, got.Attachments)
	assert.LessOrEqual(t, len(got.Text), maxText+100)
	assert.True(t, strings.HasSuffix(got.Text, "[cut off here]"))

	err := client.SendMail("galley@mail.example", []string{"ada@example.com"}, io.LimitReader(endless{}, maxMail+1000))
	require.Error(t, err, "too large a mail is refused")
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = "x\n"[i%2]
	}
	return len(p), nil
}

func TestMailboxKeepsTheLatest(t *testing.T) {
	t.Parallel()
	s := newTest(t)
	assert.Contains(t, get(t, s.handler(), "/mailbox.json").Body.String(), `"messages":[]`)
	for i := range maxMessages + 5 {
		w := post(t, s.handler(), "/hooks/example", fmt.Sprintf(`{"n":%d}`, i))
		require.Equal(t, http.StatusOK, w.Code)
	}
	all := shown(t, s.handler())
	require.Len(t, all.Messages, maxMessages)
	assert.Equal(t, maxMessages+5, all.Received)
	assert.Equal(t, maxMessages+5, all.Messages[0].Number)
	assert.Equal(t, 6, all.Messages[maxMessages-1].Number)
}

func TestHooks(t *testing.T) {
	t.Parallel()
	s := newTest(t)
	handler := s.handler()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/hooks/lead-found", strings.NewReader(`{"type":"lead.found","data":{}}`))
	for name, value := range map[string]string{"webhook-id": "msg_1", "webhook-timestamp": "1767268800", "webhook-signature": "v1,abc="} {
		request.Header.Set(name, value)
	}
	handler.ServeHTTP(httptest.NewRecorder(), request)
	assert.Equal(t, http.StatusOK, post(t, handler, "/hooks/plain", "not \x00\xff JSON").Code)
	assert.Equal(t, http.StatusNotFound, post(t, handler, "/hooks/"+strings.Repeat("x", maxName+1), "").Code)
	assert.Equal(t, http.StatusRequestEntityTooLarge, post(t, handler, "/hooks/plain", strings.Repeat("x", maxBody+1)).Code)
	assert.Equal(t, http.StatusMethodNotAllowed, get(t, handler, "/hooks/plain").Code)
	got := shown(t, handler).Messages
	require.Len(t, got, 2)
	assert.Equal(t, "not \x00\uFFFD JSON", got[0].Text)
	assert.Empty(t, got[0].Signature)
	assert.Equal(t, "lead-found", got[1].Hook)
	assert.Equal(t, "msg_1", got[1].MessageID)
	assert.Equal(t, "v1,abc=", got[1].Signature)
	assert.Equal(t, "{\n  \"type\": \"lead.found\",\n  \"data\": {}\n}", got[1].Text)
}

func TestTextMessages(t *testing.T) {
	t.Parallel()
	s := newTest(t)
	handler := s.handler()
	send := func(user, token string, fields ...string) (int, map[string]any) {
		form := url.Values{}
		for i := 0; i < len(fields); i += 2 {
			form.Set(fields[i], fields[i+1])
		}
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/2010-04-01/Accounts/AC0/Messages.json", strings.NewReader(form.Encode()))
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.SetBasicAuth(user, token)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, request)
		var answer map[string]any
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
		return w.Code, answer
	}
	status, answer := send("AC0", "x", "To", "+15005550006", "From", "+15005550001", "Body", strings.Repeat("a", 161))
	assert.Equal(t, http.StatusCreated, status)
	assert.Regexp(t, "^SM[0-9a-f]{32}$", answer["sid"])
	assert.Equal(t, "2", answer["num_segments"])
	assert.Equal(t, "queued", answer["status"])
	_, answer = send("AC0", "x", "To", "+15005550006", "MessagingServiceSid", "MG0", "Body", strings.Repeat("ü", 70))
	assert.Equal(t, "1", answer["num_segments"])
	for _, test := range []struct {
		code   float64
		token  string
		fields []string
	}{
		{20003, "", []string{"To", "+15005550006"}},
		{21604, "x", nil},
		{21211, "x", []string{"To", "5005550006"}},
		{21211, "x", []string{"To", "+0005550006"}},
		{21211, "x", []string{"To", "+1500555000x"}},
		{21211, "x", []string{"To", "+"}},
		{21603, "x", []string{"To", "+15005550006"}},
		{21602, "x", []string{"To", "+15005550006", "From", "+15005550001"}},
		{21617, "x", []string{"To", "+15005550006", "From", "+15005550001", "Body", strings.Repeat("x", maxSMS+1)}},
	} {
		status, answer := send("AC0", test.token, test.fields...)
		assert.GreaterOrEqual(t, status, 400)
		assert.InDelta(t, test.code, answer["code"], 0)
	}
	got := shown(t, handler).Messages
	require.Len(t, got, 2)
	assert.Equal(t, "MG0", got[0].From)
	assert.Equal(t, []string{"+15005550006"}, got[0].To)
}

func TestPageShowsNothingAsHTML(t *testing.T) {
	t.Parallel()
	s := newTest(t)
	handler := s.handler()
	empty := get(t, handler, "/mailbox")
	assert.Contains(t, empty.Body.String(), "Nothing has come in yet")
	assert.Contains(t, empty.Body.String(), `http-equiv="refresh"`)
	assert.NotContains(t, get(t, handler, "/mailbox?still").Body.String(), `http-equiv="refresh"`)
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>`
	s.mailbox.add(message{
		Kind: kindEmail, From: evil, To: []string{evil}, Subject: evil, Text: evil, HTML: evil, MessageID: evil,
		Attachments: []attachment{{evil, evil, 1}},
	})
	s.mailbox.add(message{Kind: kindWebhook, Hook: evil, Signature: evil, Text: evil})
	s.mailbox.add(message{Kind: kindSMS, From: evil, To: []string{evil}, Text: evil})
	w := get(t, handler, "/mailbox")
	page := w.Body.String()
	assert.NotContains(t, page, "<script")
	assert.NotContains(t, page, "<img")
	assert.Contains(t, page, "Nothing of this was really sent to anybody")
	assert.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'; style-src 'sha256-")
	assert.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	assert.Less(t, strings.Index(page, "message-3"), strings.Index(page, "message-1"), "the newest first")
}
