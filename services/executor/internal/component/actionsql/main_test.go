package actionsql_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/actionsql"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type with = map[string]any

// newComponent makes a component that may call the allowed hosts.
func newComponent(t *testing.T, allowed ...string) *actionsql.Component {
	t.Helper()
	network, err := outbound.New(allowed, clock.System)
	require.NoError(t, err)
	t.Cleanup(network.Close)
	return actionsql.New(network)
}

func execute(t *testing.T, c *actionsql.Component, input any) (with, error) {
	t.Helper()
	return executeIn(t, c, input, time.Minute)
}

func executeIn(t *testing.T, c *actionsql.Component, input any, timeout time.Duration) (with, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	result, err := c.Execute(ctx, &component.Call{
		Execution: subject.Execution{Customer: "cust_001", ID: "e1"}, Step: "ask", Kind: "action.sql", Attempt: 1, With: input,
	})
	output, _ := result.Output.(with)
	return output, err
}

// requireProblem checks an error and that it gives away neither address nor password, and gives its message.
func requireProblem(t *testing.T, err error, code problem.Code, retryable bool) (message string) {
	t.Helper()
	var found *problem.Error
	require.ErrorAs(t, err, &found)
	assert.Equal(t, code, found.Code, found.Message)
	assert.Equal(t, retryable, found.Retryable, found.Message)
	for _, secret := range []string{"hush", "127.0.0.1", "localhost"} {
		assert.NotContains(t, found.Message, secret)
	}
	return found.Message
}

// database is a real one that can be reached over TCP.
type database struct {
	component *actionsql.Component
	// address is host:port, dsn is for it without TLS.
	address, dsn string
	admin        *pgx.Conn
}

func newDatabase(t *testing.T) *database {
	t.Helper()
	address := testkit.Postgres(t)
	admin, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, admin.Close(context.Background())) })
	parsed, err := url.Parse(address)
	require.NoError(t, err)
	d := &database{admin: admin}
	d.address = forward(t, parsed, nil)
	d.component = newComponent(t, d.address)
	d.dsn = dsnOf(d.address, parsed.Path, "sslmode=disable")
	return d
}

func dsnOf(address, path, parameters string) string {
	return "postgres://postgres:hush-hush@" + address + path + "?" + parameters
}

// ask runs a statement that must succeed.
func (d *database) ask(t *testing.T, query string, params ...any) with {
	t.Helper()
	output, err := execute(t, d.component, with{"dsn": d.dsn, "query": query, "params": params})
	require.NoError(t, err)
	return output
}

// serve runs talk for each connection to a new address, until the test ends.
func serve(t *testing.T, talk func(conn net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	require.NoError(t, err)
	var mu sync.Mutex
	var conns []net.Conn
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			running.Go(func() {
				talk(conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, conn := range conns {
			_ = conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return listener.Addr().String()
}

// forward makes a Postgres on a socket reachable over TCP, with TLS where a certificate is given.
func forward(t *testing.T, server *url.URL, certificate *tls.Config) string {
	t.Helper()
	socket := server.Query().Get("host") + "/.s.PGSQL." + server.Query().Get("port")
	return serve(t, func(conn net.Conn) {
		if certificate != nil {
			request := make([]byte, 8)
			if _, err := io.ReadFull(conn, request); err != nil {
				return
			}
			_, _ = conn.Write([]byte{'S'})
			conn = tls.Server(conn, certificate)
		}
		upstream, err := net.Dial("unix", socket) //nolint:noctx // it is here
		if !assert.NoError(t, err) {
			return
		}
		go func() {
			_, _ = io.Copy(upstream, conn)
			_ = upstream.Close()
		}()
		_, _ = io.Copy(conn, upstream)
	})
}

// certificate is one that nobody has signed.
func certificate(t *testing.T) *tls.Config {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	t.Cleanup(server.Close)
	return &tls.Config{Certificates: server.TLS.Certificates}
}

// pretend is a server that lets everybody in and then says what a test wants.
func pretend(t *testing.T, talk func(backend *pgproto3.Backend, conn net.Conn)) (*actionsql.Component, string) {
	t.Helper()
	address := serve(t, func(conn net.Conn) {
		backend := pgproto3.NewBackend(conn, conn)
		if _, err := backend.ReceiveStartupMessage(); err == nil {
			talk(backend, conn)
		}
	})
	return newComponent(t, address), dsnOf(address, "/db", "sslmode=disable")
}

// welcome sends what precedes the first query.
func welcome(backend *pgproto3.Backend) {
	backend.Send(&pgproto3.AuthenticationOk{})
	backend.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	_ = backend.Flush()
}

// header is that of a message of the protocol.
func header(kind byte, length uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, length)
}
