package audit_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/health"
	"github.com/galley-engine/galley/pkg/pgserver"
	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
)

const (
	patience = 60 * time.Second
	tick     = 10 * time.Millisecond
)

func TestMain(m *testing.M) { testkit.Main(m) }

func newService(t *testing.T, e *audittest.Env) *audit.Service {
	t.Helper()
	service, err := audit.New(audit.Config{Key: audit.NewKey()}, process.Deps{
		Bus: e.Bus, DatabaseURL: e.URL, AckWait: time.Second, Logger: zerolog.Nop(), Clock: clock.System,
	})
	require.NoError(t, err)
	return service
}

func ready(t *testing.T, service *audit.Service) bool {
	t.Helper()
	return health.Ready(t.Context(), service.Checks()).Ready
}

func TestQuery(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	audittest.Start(t, newService(t, e).Run)
	e.Execute(t, "cust_001", 0, 1)
	e.Await(t, 3)
	request := query.AuditEventsRequest{CustomerID: "cust_001", ResourceID: "cust_001-000000", Limit: 10}
	var reply query.AuditEventsReply
	require.Eventually(t, func() (answered bool) {
		var err error
		reply, err = bus.Ask[query.AuditEventsReply](t.Context(), e.Bus, query.ServiceAudit, query.AuditEvents, request)
		return err == nil
	}, patience, tick)
	require.Len(t, reply.Events, 3)
	newest := reply.Events[0]
	assert.Equal(t, query.AuditEvent{
		Sequence: 3, CustomerID: "cust_001", CustomerSequence: 3, EventID: "cust_001-000000/completed", ActionType: "execution.completed", ResourceType: "execution",
		ResourceID: "cust_001-000000", ActorType: "api_key", ActorID: "key_1", Outcome: "success",
		OccurredAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), RecordedAt: newest.RecordedAt,
		TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", Leaf: newest.Leaf,
	}, newest)

	request.Limit = 0
	_, err := bus.Ask[query.AuditEventsReply](t.Context(), e.Bus, query.ServiceAudit, query.AuditEvents, request)
	var refused *problem.Error
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, problem.InvalidRequest, refused.Code)
}

// TestDependenciesComeAndGo: the service starts before Postgres, loses it in good order and by kill -9, loses NATS, and never an
// event.
func TestDependenciesComeAndGo(t *testing.T) {
	t.Parallel()
	server := testkit.PostgresServer(t, func(c *pgserver.Config) { c.NoSync = true })
	e := audittest.On(t, server.URL())
	server.Stop(t)
	service := newService(t, e)
	audittest.Start(t, service.Run)
	assert.False(t, ready(t, service))
	want := e.Execute(t, "cust_001", 0, 10)
	server.Start(t)
	e.Await(t, len(want))
	require.True(t, ready(t, service))

	for round, fail := range []func(){
		func() { server.Stop(t) },
		func() { server.Kill(t) },
		func() { server.Kill(t); e.NATS.Restart(t) },
	} {
		fail()
		require.Eventually(t, func() bool { return !ready(t, service) }, patience, tick)
		require.Eventually(t, func() bool { return e.Bus.Ready(t.Context()) == nil }, patience, tick)
		want = append(want, e.Execute(t, "cust_001", 100*(round+1), 10)...)
		server.Start(t)
		e.Await(t, len(want))
		require.Eventually(t, func() bool { return ready(t, service) }, patience, tick)
	}
	assert.ElementsMatch(t, want, e.Log(t))
}

// TestHeadsBucket: the service publishes in the bucket that its settings name, and is ready without it.
func TestHeadsBucket(t *testing.T) {
	t.Parallel()
	e, store := audittest.New(t), audittest.NewStore(t)
	store.Mood(func(w http.ResponseWriter, _ *http.Request) bool {
		audittest.Refuse(w, http.StatusServiceUnavailable, "SlowDown", "")
		return true
	})
	deps := process.Deps{Bus: e.Bus, DatabaseURL: e.URL, AckWait: time.Second, Logger: zerolog.Nop(), Clock: clock.System}
	config := audit.Config{Key: audit.NewKey(), HeadsBucket: store.Settings("p")}
	service, err := audit.New(config, deps)
	require.NoError(t, err)
	audittest.Start(t, service.Run)
	e.Execute(t, "cust_001", 0, 1)
	e.Await(t, 3)
	require.Eventually(t, func() bool { return len(store.Requests()) > 0 }, patience, tick)
	require.True(t, ready(t, service))
	store.Mood(nil)
	require.Eventually(t, func() bool { return len(store.Objects(t)) == 2 }, patience, tick)

	config.HeadsBucket.SecretAccessKey = ""
	_, err = audit.New(config, deps)
	require.ErrorContains(t, err, "AWS_SECRET_ACCESS_KEY")
	require.ErrorContains(t, config.Validate(), "AWS_SECRET_ACCESS_KEY")
}
