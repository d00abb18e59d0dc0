package actionsql_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/problem"
)

func TestRefusedInput(t *testing.T) {
	t.Parallel()
	c := newComponent(t)
	dsn := dsnOf("example.com", "/db", "")
	for name, input := range map[string]any{
		"no object":          "x",
		"nothing":            with{},
		"dsn is a number":    with{"dsn": 1.0, "query": "SELECT 1"},
		"no query":           with{"dsn": dsn},
		"empty query":        with{"dsn": dsn, "query": " \n"},
		"zero byte in query": with{"dsn": dsn, "query": "SELECT 1\x00"},
		"half a row":         with{"dsn": dsn, "query": "SELECT 1", "max_rows": 1.5},
	} {
		_, err := execute(t, c, input)
		requireProblem(t, err, problem.ComponentError, false)
		assert.Error(t, err, name)
	}
	for _, dsn := range []string{
		"", "hush", "host=example.com user=u password=hush dbname=db", "mysql://u:hush@example.com/db", "postgres:u:hush@example.com/db",
		"postgres:///db", "postgres://u:hush@/db", "postgres://u:hush@/db?host=example.com", "postgres://u:hush@%2Ftmp/db", "postgres://u:hush@:5432/db",
		"postgres://u:hush@a.example,b.example/db", "postgres://u:hush@a.example:1,b.example:2/db",
		"postgres://u:hush@ex ample.com/db", "postgres://u:hush@example.com:0/db", "postgres://u:hush@example.com:65536/db", "postgres://u:hush@example.com:x/db",
		"postgres://:hush@example.com/db", "postgres://example.com/db", "postgres://u:hush@example.com", "postgres://u:hush@example.com/",
		"postgres://u:hush%00@example.com/db", "postgres://u%00:hush@example.com/db", "postgres://u:hush@example.com/db%00", "postgres://u:hush@example.com/db#x",
		"postgres://" + strings.Repeat("u", 1001) + ":hush@example.com/db", "postgres://u:hush@" + strings.Repeat("a", 254) + "/db",
		"postgres://u:hush@example.com/db?sslmode=prefer", "postgres://u:hush@example.com/db?sslmode=allow", "postgres://u:hush@example.com/db?sslmode=",
		"postgres://u:hush@example.com/db?sslrootcert=/etc/passwd", "postgres://u:hush@example.com/db?sslkey=x", "postgres://u:hush@example.com/db?service=hush",
		"postgres://u:hush@example.com/db?servicefile=x", "postgres://u:hush@example.com/db?passfile=x", "postgres://u:hush@example.com/db?options=-c%20x",
		"postgres://u:hush@example.com/db?password=hush", "postgres://u:hush@example.com/db?port=1", "postgres://u:hush@example.com/db?krbsrvname=x",
		"postgres://u:hush@example.com/db?sslmode=disable&sslmode=require", "postgres://u:hush@example.com/db?connect_timeout=-1",
		"postgres://u:hush@example.com/db?connect_timeout=301", "postgres://u:hush@example.com/db?application_name=a%00b",
		"postgres://u:hush@example.com/db?application_name=", "postgres://u:hush@example.com/db?search_path=a%0ab", "postgres://u:hush@example.com/db?%zz",
	} {
		_, err := execute(t, c, with{"dsn": dsn, "query": "SELECT 1"})
		requireProblem(t, err, problem.ComponentError, false)
	}
}

// TestEnvironment: nothing that the process knows of any Postgres reaches a customer's server.
func TestEnvironment(t *testing.T) {
	directory := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(directory, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	for name, value := range map[string]string{
		"HOME": directory, "PGPASSWORD": "internal", "PGUSER": "internal", "PGDATABASE": "internal", "PGHOST": "/internal", "PGPORT": "internal",
		"PGAPPNAME": "internal", "PGOPTIONS": "-c internal=1", "PGTZ": "internal", "PGSSLMODE": "internal", "PGSSLROOTCERT": "/internal",
		"PGSSLCERT": "/internal", "PGSSLKEY": "/internal", "PGSSLPASSWORD": "internal", "PGSSLCERTMODE": "internal", "PGSSLSNI": "internal",
		"PGSSLNEGOTIATION": "internal", "PGCONNECT_TIMEOUT": "internal", "PGTARGETSESSIONATTRS": "internal", "PGCHANNELBINDING": "internal",
		"PGREQUIREAUTH": "internal", "PGMINPROTOCOLVERSION": "internal", "PGMAXPROTOCOLVERSION": "internal", "PGKRBSRVNAME": "internal",
		"PGPASSFILE":    write("passfile", "*:*:*:*:internal\n"),
		"PGSERVICEFILE": write("servicefile", "[internal]\npassword=internal\n"),
	} {
		t.Setenv(name, value)
	}
	write(".pgpass", "*:*:*:*:internal\n")
	sent := make(chan []byte, 2)
	address := serve(t, func(conn net.Conn) {
		var seen bytes.Buffer
		_, _ = io.WriteString(conn, string(header('R', 8))+"\x00\x00\x00\x03") // asks for a password in the clear
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		reader := io.TeeReader(conn, &seen)
		backend := pgproto3.NewBackend(reader, conn)
		if _, err := backend.ReceiveStartupMessage(); err == nil {
			_ = backend.SetAuthType(pgproto3.AuthTypeCleartextPassword)
			_, _ = backend.Receive()
		}
		sent <- seen.Bytes()
	})
	c := newComponent(t, address)
	_, err := execute(t, c, with{"dsn": "postgres://their-user@" + address + "/their-db?sslmode=disable", "query": "SELECT 1"})
	requireProblem(t, err, problem.Connection, true)
	seen := string(<-sent)
	assert.Contains(t, seen, "user\x00their-user\x00")
	assert.Contains(t, seen, "application_name\x00galley\x00")
	assert.NotContains(t, seen, "internal")
	assert.True(t, strings.HasSuffix(seen, "p\x00\x00\x00\x05\x00"), "the password is empty: %q", seen)

	t.Setenv("PGSERVICE", "internal")
	_, err = execute(t, newComponent(t, address), with{"dsn": "postgres://u@" + address + "/db?sslmode=disable", "query": "SELECT 1"})
	require.ErrorContains(t, err, "PGSERVICE")
	assert.Empty(t, sent, "nothing was sent")
}

func TestServersThatMisbehave(t *testing.T) {
	t.Parallel()
	// said makes a server say something and wait.
	said := func(parts ...[]byte) func(*pgproto3.Backend, net.Conn) {
		return func(_ *pgproto3.Backend, conn net.Conn) {
			_, _ = conn.Write(bytes.Join(parts, nil))
			_, _ = io.Copy(io.Discard, conn)
		}
	}
	// ready lets the client in before.
	ready := func(parts ...[]byte) func(*pgproto3.Backend, net.Conn) {
		return func(backend *pgproto3.Backend, conn net.Conn) {
			welcome(backend)
			said(parts...)(backend, conn)
		}
	}
	for name, test := range map[string]struct {
		talk      func(*pgproto3.Backend, net.Conn)
		code      problem.Code
		retryable bool
	}{
		"says nothing":               {said(), problem.Timeout, true},
		"says nothing more":          {ready(), problem.Timeout, true},
		"closes":                     {func(*pgproto3.Backend, net.Conn) {}, problem.Connection, true},
		"closes later":               {func(b *pgproto3.Backend, _ net.Conn) { welcome(b) }, problem.Connection, true},
		"speaks HTTP":                {said([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")), problem.Connection, true},
		"garbage":                    {said(bytes.Repeat([]byte{0xff}, 100)), problem.Connection, true},
		"announces a gigabyte":       {said(header('R', 1<<30)), problem.Connection, true},
		"announces two more":         {said(header('R', 1<<31+5)), problem.Connection, true},
		"a short message":            {said(header('R', 3)), problem.Connection, true},
		"an unknown way to log in":   {said(header('R', 8), []byte{0, 0, 0, 99}), problem.Connection, true},
		"a way to log in, not ours":  {said(header('R', 8), []byte{0, 0, 0, 7}), problem.Connection, true},
		"copies at once":             {ready(header('G', 7), []byte{0, 0, 0}), problem.ComponentError, false},
		"copies both ways":           {ready(header('W', 7), []byte{0, 0, 0}), problem.ComponentError, false},
		"a row out of nowhere":       {ready(header('D', 6), []byte{0xff, 0xff}), problem.Connection, true},
		"columns that are not there": {ready(header('T', 6), []byte{0x7f, 0xff}), problem.Connection, true},
		"an error without fields":    {ready(header('E', 5), []byte{0}, header('Z', 5), []byte("I")), problem.UpstreamRejected, false},
		"endless notices": {func(_ *pgproto3.Backend, conn net.Conn) {
			notice, err := append(header('N', 5), 0), error(nil)
			for err == nil {
				_, err = conn.Write(bytes.Repeat(notice, 1000))
			}
		}, problem.Timeout, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, dsn := pretend(t, test.talk)
			timeout := 20 * time.Second
			if test.code == problem.Timeout {
				timeout = 300 * time.Millisecond
			}
			_, err := executeIn(t, c, with{"dsn": dsn, "query": "SELECT 1"}, timeout)
			requireProblem(t, err, test.code, test.retryable)
		})
	}
}

// TestStallBeforeTheGreeting: a server that accepts and never answers costs the step its time and nothing else.
func TestStallBeforeTheGreeting(t *testing.T) {
	t.Parallel()
	address := serve(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	c := newComponent(t, address)
	for _, mode := range []string{"disable", "require", "verify-full"} {
		_, err := executeIn(t, c, with{"dsn": dsnOf(address, "/db", "sslmode="+mode), "query": "SELECT 1"}, 200*time.Millisecond)
		requireProblem(t, err, problem.Timeout, true)
	}
	_, err := execute(t, c, with{"dsn": dsnOf(address, "/db", "sslmode=disable&connect_timeout=1"), "query": "SELECT 1"})
	requireProblem(t, err, problem.Timeout, true)
}

func TestServerThatReadsNothing(t *testing.T) {
	t.Parallel()
	c, dsn := pretend(t, func(backend *pgproto3.Backend, conn net.Conn) {
		welcome(backend)
		_, _ = io.ReadFull(conn, make([]byte, 1<<30)) // until the client is gone
	})
	query := "SELECT 1 /* " + strings.Repeat("x", 8<<20) + " */"
	_, err := executeIn(t, c, with{"dsn": dsn, "query": query}, 500*time.Millisecond)
	requireProblem(t, err, problem.Timeout, true)
}

// TestSecretInTheServersWords: a server that repeats the password that it was sent does not give it away.
func TestSecretInTheServersWords(t *testing.T) {
	t.Parallel()
	c, dsn := pretend(t, func(backend *pgproto3.Backend, conn net.Conn) {
		backend.Send(&pgproto3.AuthenticationCleartextPassword{})
		_ = backend.Flush()
		_ = backend.SetAuthType(pgproto3.AuthTypeCleartextPassword)
		message, err := backend.Receive()
		password, ok := message.(*pgproto3.PasswordMessage)
		if err != nil || !ok {
			return
		}
		backend.Send(&pgproto3.ErrorResponse{
			Severity: "FATAL", Code: "28P01", Detail: "hush", Hint: "hush",
			Message: fmt.Sprintf("no %s, no %x\r\n\x1b[31m\xff", password.Password, "") + strings.Repeat("x", 5000),
		})
		_ = backend.Flush()
		_, _ = io.Copy(io.Discard, conn)
	})
	_, err := execute(t, c, with{"dsn": dsn, "query": "SELECT 1"})
	message := requireProblem(t, err, problem.UpstreamRejected, false)
	assert.Contains(t, message, "28P01")
	assert.Contains(t, message, "no [secret:dsn], no")
	assert.NotContains(t, message, "\x1b")
	assert.Less(t, len(message), 500)
}
