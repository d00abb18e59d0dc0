package testkit

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// NATSCluster is a cluster of NATS servers with replicated JetStream in the test's process.
type NATSCluster struct {
	nodes []*NATSServer
}

// Cluster starts a cluster of n servers, waits until JetStream works on all of them, and shuts it down after the test.
// Options change the configuration of every server.
func Cluster(tb testing.TB, n int, options ...func(*server.Options)) *NATSCluster {
	tb.Helper()
	ports := freePorts(tb, n)
	var routes []*url.URL
	for _, port := range ports {
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	c := &NATSCluster{}
	for i, port := range ports {
		opts := natsOptions(tb)
		opts.ServerName = fmt.Sprintf("node-%d", i)
		opts.Cluster = server.ClusterOpts{Name: "testkit", Host: "127.0.0.1", Port: port}
		opts.Routes = routes
		for _, option := range options {
			option(opts)
		}
		node := &NATSServer{options: opts}
		node.start(tb)
		tb.Cleanup(node.Shutdown)
		c.nodes = append(c.nodes, node)
	}
	c.awaitCurrent(tb, n)
	return c
}

// awaitCurrent waits until the cluster has a leader and n running servers that keep up with it.
func (c *NATSCluster) awaitCurrent(tb testing.TB, n int) {
	tb.Helper()
	eventually(tb, "the NATS cluster has no leader or a server that lags", func() bool {
		current, leaders := 0, 0
		for _, node := range c.nodes {
			if node.Server().JetStreamIsCurrent() {
				current++
			}
			if node.Server().JetStreamIsLeader() {
				leaders++
			}
		}
		return leaders == 1 && current == n
	})
}

// Node returns one of the servers, by number from 0.
func (c *NATSCluster) Node(i int) *NATSServer { return c.nodes[i] }

// Conn returns a connection that fails over to another server when its own goes. It is closed after the test.
func (c *NATSCluster) Conn(tb testing.TB, options ...nats.Option) *nats.Conn {
	tb.Helper()
	return connect(tb, c.URL(), options)
}

// URL returns the addresses of all servers, as nats.Connect takes them.
func (c *NATSCluster) URL() string {
	var addresses []string
	for _, node := range c.nodes {
		addresses = append(addresses, node.URL())
	}
	return strings.Join(addresses, ",")
}

// Leader waits until the stream has a leader and returns the number of that server.
func (c *NATSCluster) Leader(tb testing.TB, stream string) int {
	tb.Helper()
	leader := -1
	eventually(tb, "stream "+stream+" has no leader", func() bool {
		leader = c.leader(stream)
		return leader >= 0
	})
	return leader
}

func (c *NATSCluster) leader(stream string) int {
	for i, node := range c.nodes {
		if node.Server().Running() && node.Server().JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream) {
			return i
		}
	}
	return -1
}

// StepDown makes the stream's leader hand over to another server and returns the number of the new one.
func (c *NATSCluster) StepDown(tb testing.TB, stream string) int {
	tb.Helper()
	old := c.Leader(tb, stream)
	require.NoError(tb, c.nodes[old].Server().JetStreamStepdownStream(server.DEFAULT_GLOBAL_ACCOUNT, stream))
	return c.nextLeader(tb, stream, old)
}

// KillLeader shuts down the server that leads the stream, waits until another leads it, and returns the number of the server
// that was shut down, for [NATSCluster.RestartNode]. It goes in good order: a server in the test's process cannot be killed.
func (c *NATSCluster) KillLeader(tb testing.TB, stream string) int {
	tb.Helper()
	old := c.Leader(tb, stream)
	c.nodes[old].Shutdown()
	c.nextLeader(tb, stream, old)
	return old
}

func (c *NATSCluster) nextLeader(tb testing.TB, stream string, old int) int {
	tb.Helper()
	leader := -1
	eventually(tb, "stream "+stream+" has no new leader", func() bool {
		leader = c.leader(stream)
		return leader >= 0 && leader != old
	})
	return leader
}

// RestartNode starts a server of the cluster again and waits until it knows what the others know about the cluster. Its copies
// of streams may still be behind.
func (c *NATSCluster) RestartNode(tb testing.TB, i int) {
	tb.Helper()
	c.nodes[i].Restart(tb)
	running := 0
	for _, node := range c.nodes {
		if node.Server().Running() {
			running++
		}
	}
	c.awaitCurrent(tb, running)
}

// freePorts finds n ports that nobody listens on. Every member of a cluster has to know all of them before it starts.
func freePorts(tb testing.TB, n int) []int {
	tb.Helper()
	var ports []int
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
		require.NoError(tb, err)
		defer listener.Close() //nolint:errcheck // nothing was accepted
		address, ok := listener.Addr().(*net.TCPAddr)
		require.True(tb, ok)
		ports = append(ports, address.Port)
	}
	return ports
}

func eventually(tb testing.TB, failure string, condition func() bool) {
	tb.Helper()
	require.Eventually(tb, condition, patience, 10*time.Millisecond, failure)
}
