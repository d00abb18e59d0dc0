package testkit_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestNATSRestartKeepsMessagesAndConnections(t *testing.T) {
	t.Parallel()
	srv := testkit.NATS(t)
	inProcess := stream(t, srv.Conn(t), 1)
	tcp, err := nats.Connect(srv.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(tcp.Close)
	publish(t, inProcess)

	srv.Restart(t)

	publish(t, inProcess)
	publish(t, jetStream(t, tcp))
	require.EqualValues(t, 3, messages(t, inProcess))
}

func TestNATSWithoutPort(t *testing.T) {
	t.Parallel()
	srv := testkit.NATS(t, func(o *server.Options) { o.DontListen = true })
	js := stream(t, srv.Conn(t), 1)
	publish(t, js)
	srv.Restart(t)
	publish(t, js)
}

func TestClusterSurvivesItsLeader(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t, 3)
	js := stream(t, cluster.Conn(t), 3)
	publish(t, js)

	old := cluster.Leader(t, "S")
	require.NotEqual(t, old, cluster.StepDown(t, "S"))
	publish(t, js)

	killed := cluster.KillLeader(t, "S")
	publish(t, js)
	cluster.RestartNode(t, killed)
	publish(t, js)
	require.EqualValues(t, 4, messages(t, js))
}

func TestClock(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	clock := testkit.NewClock(start)
	now := clock.Now // as a func() time.Time
	assert.Equal(t, start, now())
	clock.Advance(time.Hour)
	assert.Equal(t, start.Add(time.Hour), now())
	clock.Set(start)
	assert.Equal(t, start, now())
}

func jetStream(t *testing.T, conn *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	return js
}

func stream(t *testing.T, conn *nats.Conn, replicas int) jetstream.JetStream {
	t.Helper()
	js := jetStream(t, conn)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: replicas})
	require.NoError(t, err)
	return js
}

// publish tries until a message is stored, through reconnects and elections. It stores one message: an attempt without an
// answer is recognised by its id when it is repeated.
func publish(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	id := nats.NewInbox()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err := js.Publish(ctx, "s", []byte("x"), jetstream.WithMsgID(id))
		return err == nil
	}, 30*time.Second, 5*time.Millisecond)
}

func messages(t *testing.T, js jetstream.JetStream) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), "S")
	require.NoError(t, err)
	return s.CachedInfo().State.Msgs
}
