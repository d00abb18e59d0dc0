package testkit

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// NATSServer is a NATS server with JetStream in the test's process.
type NATSServer struct {
	options *server.Options
	server  atomic.Pointer[server.Server] // a client that reconnects reads it in a goroutine of its own
}

// NATS starts a server that listens on a port of 127.0.0.1 and is shut down after the test. Options change its configuration;
// with DontListen set it can be reached by [NATSServer.Conn] only.
func NATS(tb testing.TB, options ...func(*server.Options)) *NATSServer {
	tb.Helper()
	s := &NATSServer{options: natsOptions(tb)}
	for _, option := range options {
		option(s.options)
	}
	s.start(tb)
	tb.Cleanup(s.Shutdown)
	return s
}

func natsOptions(tb testing.TB) *server.Options {
	tb.Helper()
	return &server.Options{
		Host:      "127.0.0.1",
		Port:      server.RANDOM_PORT,
		JetStream: true,
		StoreDir:  tb.TempDir(),
		NoLog:     true,
		NoSigs:    true,
	}
}

func (s *NATSServer) start(tb testing.TB) {
	tb.Helper()
	srv, err := server.NewServer(s.options.Clone())
	require.NoError(tb, err)
	s.server.Store(srv)
	srv.Start()
	if !srv.ReadyForConnections(patience) {
		s.Shutdown()
		require.Fail(tb, "the NATS server does not come up")
	}
	if address, ok := srv.Addr().(*net.TCPAddr); ok {
		s.options.Port = address.Port // a restart keeps it
	}
}

// URL returns the address for clients that connect over TCP.
func (s *NATSServer) URL() string { return s.Server().ClientURL() }

// Server returns the server of the moment, for what this type has no method for. A restart replaces it.
func (s *NATSServer) Server() *server.Server { return s.server.Load() }

// Conn returns an in-process connection that reconnects after a restart for as long as it takes. It is closed after the test.
func (s *NATSServer) Conn(tb testing.TB, options ...nats.Option) *nats.Conn {
	tb.Helper()
	return connect(tb, "", append([]nats.Option{nats.InProcessServer(s)}, options...))
}

// InProcessConn implements nats.InProcessConnProvider: a reconnecting client gets to the server of the moment.
func (s *NATSServer) InProcessConn() (net.Conn, error) { return s.Server().InProcessConn() }

// Shutdown stops the server. It does nothing when the server is stopped.
func (s *NATSServer) Shutdown() {
	s.Server().Shutdown()
	s.Server().WaitForShutdown()
}

// Restart stops the server, if it runs, and starts it again with the same store and port.
func (s *NATSServer) Restart(tb testing.TB) {
	tb.Helper()
	s.Shutdown()
	s.start(tb)
}

// connect opens a connection that never gives up.
func connect(tb testing.TB, address string, options []nats.Option) *nats.Conn {
	tb.Helper()
	options = append([]nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond)}, options...)
	conn, err := nats.Connect(address, options...)
	require.NoError(tb, err)
	tb.Cleanup(conn.Close)
	return conn
}
