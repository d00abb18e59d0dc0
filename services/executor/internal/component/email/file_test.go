package email_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/file"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component/email"
)

func decodeTransfer(encoding string, body io.Reader) io.Reader {
	switch encoding {
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		return quotedprintable.NewReader(body)
	}
	return body
}

func TestStoredFiles(t *testing.T) {
	t.Parallel()
	nats := testkit.NATS(t)
	js, err := jetstream.New(nats.Conn(t))
	require.NoError(t, err)
	_, err = js.CreateObjectStore(t.Context(), jetstream.ObjectStoreConfig{Bucket: subject.BucketFiles})
	require.NoError(t, err)
	files := file.NewStore(js)
	put := func(customer string, ref file.Ref, content []byte) any {
		stored, err := files.Put(t.Context(), customer, ref, bytes.NewReader(content))
		require.NoError(t, err)
		return stored.Value()
	}
	picture := bytes.Repeat([]byte{0, 1, 2, 0xff, '\n'}, 1<<16)
	small := put("cust_001", file.Ref{ID: "small", Name: "cat.png", ContentType: "image/png"}, picture)
	hostile := put("cust_001", file.Ref{
		ID: "hostile", Name: "a\r\nX-Evil: 1\xff" + strings.Repeat("n", 300), ContentType: "text/html\r\nX-Evil: 1",
	}, []byte("x"))
	inner := put("cust_001", file.Ref{ID: "mail", ContentType: "message/rfc822"}, []byte("y"))
	large := put("cust_001", file.Ref{ID: "large", Name: "large"}, make([]byte, 10<<20-len(picture)+1))
	foreign := put("cust_002", file.Ref{ID: "foreign", Name: "foreign"}, picture)

	server := startServer(t, nil, false, "")
	c := newComponent(t, email.Settings{Server: "smtp://" + server.address + "?tls=none", From: "galley@mail.example"}, files)
	send := func(attached ...any) error {
		var attachments []any
		for _, value := range attached {
			attachments = append(attachments, with{"file": value})
		}
		_, err := execute(t, c, with{"to": "ada@example.com", "subject": "Files", "text": "Hello", "attachments": attachments})
		return err
	}
	require.NoError(t, send(small, hostile, inner))
	parsed, err := mail.ReadMessage(strings.NewReader((<-server.mails).content))
	require.NoError(t, err)
	got := parts(t, parsed.Header.Get("Content-Type"), parsed.Body)
	require.Len(t, got, 4)
	assert.Equal(t, part{"image/png", "cat.png", string(picture)}, got[1])
	assert.Equal(t, "application/octet-stream", got[2].contentType)
	assert.Contains(t, got[2].name, "X-Evil", "it is a part of the name, and no header")
	assert.Equal(t, part{"application/octet-stream", "attachment", "y"}, got[3])

	requireProblem(t, send(foreign), problem.FileUnavailable, false)
	requireProblem(t, send(with{"file": "../cust_002/foreign"}), problem.FileUnavailable, false)
	requireProblem(t, send(small, large), problem.ComponentError, false)
	requireProblem(t, send(large, small), problem.ComponentError, false)
	require.NoError(t, send(large))
	assert.Greater(t, len((<-server.mails).content), 10<<20)
	assert.Empty(t, server.mails)

	nats.Shutdown()
	_, err = executeIn(t, c, with{"to": "ada@example.com", "subject": "Files", "text": "Hello", "attachments": []any{with{"file": small}}}, 1e9)
	var failed *problem.Error
	require.ErrorAs(t, err, &failed)
	assert.True(t, failed.Retryable)
}
