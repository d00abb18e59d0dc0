package httpapi

import (
	"io"
	"net"
	"sync/atomic"
	"time"
)

const (
	lingerTime  = 2 * time.Second
	lingerBytes = 64 << 20
)

// lingeringListener makes lingering connections.
type lingeringListener struct{ net.Listener }

// Accept implements net.Listener.
func (l lingeringListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		return &lingering{TCPConn: tcp}, err
	}
	return conn, err
}

// lingering is a connection whose Close can take in what the client is still sending. Closing a socket with unread data sends a
// reset, on which the client forgets the answer: a body over the limit would look like a broken connection instead of a 413.
type lingering struct {
	*net.TCPConn
	linger atomic.Bool
	// ended tells that nothing more will come from the client.
	ended atomic.Bool
}

// Read implements net.Conn.
func (l *lingering) Read(p []byte) (int, error) {
	n, err := l.TCPConn.Read(p)
	if err != nil {
		l.ended.Store(true)
	}
	return n, err
}

// Close implements net.Conn.
func (l *lingering) Close() error {
	if l.linger.Load() && l.CloseWrite() == nil {
		limit := time.AfterFunc(lingerTime, func() { _ = l.TCPConn.Close() })
		_, _ = io.CopyN(io.Discard, l.TCPConn, lingerBytes)
		limit.Stop()
	}
	return l.TCPConn.Close()
}
