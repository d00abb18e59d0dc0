// Package bus is galley's use of NATS: the connection, the streams, consumers that survive any restart, tails that follow a
// stream from a stored position, dead letters, and queries between services.
package bus

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

const (
	reconnectWait   = 200 * time.Millisecond
	reconnectJitter = 100 * time.Millisecond
	pingInterval    = 10 * time.Second
	maxAsyncPending = 64 * 1024
	apiTimeout      = 5 * time.Second
)

// Connect opens a connection that reconnects for ever, also when the server is not there yet. Nothing is buffered while it is
// down: a publish fails at once and its caller decides. name shows in the server's list of connections.
func Connect(url, name string, options ...nats.Option) (*nats.Conn, error) {
	options = append([]nats.Option{
		nats.Name(name),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.ReconnectBufSize(-1),
		nats.PingInterval(pingInterval),
	}, options...)
	conn, err := nats.Connect(url, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return conn, nil
}

// Bus is one service's access to JetStream, and the prometheus.Collector of what it does there.
type Bus struct {
	Conn     *nats.Conn
	JS       jetstream.JetStream
	settings Settings
	log      zerolog.Logger
	// provisioned: the streams and buckets were there.
	provisioned atomic.Bool
	metrics     *metrics
}

// New makes a Bus over an open connection.
func New(conn *nats.Conn, settings Settings, log zerolog.Logger) (*Bus, error) {
	if err := settings.Validate(); err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(maxAsyncPending), jetstream.WithDefaultTimeout(apiTimeout))
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	return &Bus{Conn: conn, JS: js, settings: settings, log: log, metrics: newMetrics()}, nil
}

// ErrDisconnected says that there is no connection to NATS at the moment.
var ErrDisconnected = errors.New("not connected to NATS")

// ErrNotProvisioned says that the streams and buckets have not been made yet.
var ErrNotProvisioned = errors.New("streams and buckets are not there yet")

// Ready is nil while JetStream answers, once Provision has succeeded: before, a request may find nothing to write to.
func (b *Bus) Ready(ctx context.Context) error {
	if !b.Conn.IsConnected() {
		return ErrDisconnected
	}
	if _, err := b.JS.AccountInfo(ctx); err != nil {
		return fmt.Errorf("ask JetStream: %w", err)
	}
	if !b.provisioned.Load() {
		return ErrNotProvisioned
	}
	return nil
}
