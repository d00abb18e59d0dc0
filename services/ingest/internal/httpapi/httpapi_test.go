package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/health"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/secret"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
	"github.com/galley-engine/galley/services/ingest/internal/control"
	"github.com/galley-engine/galley/services/ingest/internal/deadletter"
	"github.com/galley-engine/galley/services/ingest/internal/httpapi"
	"github.com/galley-engine/galley/services/ingest/internal/login"
	"github.com/galley-engine/galley/services/ingest/internal/projection"
	inbox "github.com/galley-engine/galley/services/ingest/internal/reply"
	"github.com/galley-engine/galley/services/ingest/internal/schedule"
	"github.com/galley-engine/galley/services/ingest/internal/usage"
	"github.com/galley-engine/galley/services/ingest/internal/watch"
	"github.com/galley-engine/galley/services/ingest/migrations"
)

func TestMain(m *testing.M) {
	testkit.Main(m,
		// fasthttp keeps the text of its Date header up to date for ever, and one goroutine of a stopped server sleeps for ten more seconds.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

const (
	operatorKey = "operator-key-0123456789-0123456789"
	secretsKey  = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
)

// executor is an Executor that a test answers for.
type executor struct {
	mu      sync.Mutex
	last    accept.Command
	execute func(ctx context.Context, command accept.Command) (accept.Outcome, error)
}

func (e *executor) Execute(ctx context.Context, command accept.Command) (accept.Outcome, error) {
	e.mu.Lock()
	e.last = command
	execute := e.execute
	e.mu.Unlock()
	return execute(ctx, command)
}

func (e *executor) command() accept.Command {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

// server is the API over a real database and NATS server. Executions are answered by executor, the other services by answer.
type server struct {
	base      string
	executor  *executor
	catalogue *catalogue.Catalogue
	bus       *bus.Bus
	admin     *pgxpool.Pool
	log       *lockedBuffer
	stop      func()
}

func newServer(t *testing.T) *server {
	t.Helper()
	return newServerWith(t, secretsKey)
}

// newServerWith makes one with these keys for secrets.
func newServerWith(t *testing.T, secretsKey string) *server {
	t.Helper()
	url := testkit.Postgres(t)
	require.NoError(t, postgres.Migrate(t.Context(), url, migrations.Schema()))
	open := func(role string) *pgxpool.Pool {
		pool, err := postgres.Open(t.Context(), postgres.PoolConfig{URL: url, Role: role, MaxConns: 4})
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return pool
	}
	messages, err := bus.New(testkit.NATS(t).Conn(t), bus.Settings{Replicas: 1, JournalRetention: 72 * time.Hour}, zerolog.Nop())
	require.NoError(t, err)
	require.NoError(t, messages.Provision(t.Context()))
	events := outbox.New(open(migrations.Role), messages.JS, "ingest", zerolog.Nop())
	reader := open(migrations.Reader)
	keys, err := secret.ParseKeys(secretsKey)
	require.NoError(t, err)
	found, err := catalogue.New(catalogue.Deps{
		Pool: reader, Conn: messages.Conn, JS: messages.JS, Outbox: events, SecretKeys: keys, Clock: clock.System,
	})
	require.NoError(t, err)
	s := &server{
		executor: &executor{}, catalogue: found, bus: messages, admin: open("postgres"), log: &lockedBuffer{},
	}
	s.answerWith(t, success)
	executions := journal.New(messages.Conn, messages.JS)
	history := projection.NewReader(reader, executions)
	controller := control.New(control.Deps{
		Journal: executions, Bus: messages, Catalogue: found, History: history, Pool: reader, Outbox: events, Clock: clock.System,
		Log: zerolog.New(s.log),
	})
	acceptor := accept.New(found, history, messages, executions, inbox.New(messages.Conn, executions), clock.System)
	schedules := schedule.NewStore(schedule.StoreDeps{Pool: reader, Bus: messages, Outbox: events, Checker: acceptor, Clock: clock.System})
	watcher := watch.New(watch.Deps{
		Pool: open(migrations.Role), Bus: messages, Journal: executions, Recipes: found, Interval: time.Hour, Clock: clock.System,
		Log: zerolog.New(s.log),
	})
	activities := activity.NewRecorder(reader, events, clock.System)
	logins := login.New(activities, clock.System, zerolog.New(s.log))
	api := httpapi.New(httpapi.Deps{
		Executor: s.executor, Quoter: acceptor, Executions: history, Usage: usage.NewReader(reader), Control: controller, Catalogue: found, Schedules: schedules, Watch: watcher,
		DeadLetters: deadletter.New(messages, reader, events, clock.System),
		Activities:  activities, Logins: logins, Bus: messages, Checks: []health.Check{{Name: "postgres", Probe: reader.Ping}}, OperatorKey: operatorKey,
		Clock: clock.System, Log: zerolog.New(s.log),
	})
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.base = "http://" + listener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- lifecycle.Run(ctx, events.Run, found.Run, logins.Run, func(ctx context.Context) error { return api.Run(ctx, listener) })
	}()
	s.stop = sync.OnceFunc(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	t.Cleanup(s.stop)
	return s
}

// answerWith sets how executions end.
func (s *server) answerWith(t *testing.T, execute func(ctx context.Context, command accept.Command) (accept.Outcome, error)) {
	t.Helper()
	s.executor.mu.Lock()
	defer s.executor.mu.Unlock()
	s.executor.execute = execute
}

const successBody = `{ "status":"success",  "data":{"as":"it is"} }`

func success(context.Context, accept.Command) (accept.Outcome, error) {
	return accept.Outcome{ExecutionID: "e-1", Done: true, Status: event.StatusSuccess, Response: []byte(successBody)}, nil
}

// answer serves a query of another service until the test ends.
func answer[Request, Reply any](t *testing.T, s *server, service, name string, answer func(Request) (Reply, error)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- bus.Answer(ctx, s.bus, service, name, func(_ context.Context, request Request) (Reply, error) { return answer(request) })
	}()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	require.Eventually(t, func() bool {
		_, err := s.bus.Conn.Request("galley.query."+service+"."+name, []byte("{"), time.Second)
		return err == nil
	}, 30*time.Second, time.Millisecond)
}

// reply is an answer that was read to its end.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (r *reply) problem(t *testing.T) httpapi.Problem {
	t.Helper()
	require.Equal(t, "application/problem+json", r.header.Get("Content-Type"), string(r.body))
	var p httpapi.Problem
	require.NoError(t, json.Unmarshal(r.body, &p))
	require.Equal(t, r.status, p.Status)
	require.NotEmpty(t, p.Title)
	require.NotEmpty(t, p.Detail)
	require.NotEmpty(t, p.Code)
	require.Contains(t, p.Type, "urn:galley:problem:")
	return p
}

func (r *reply) into(t *testing.T, target any) {
	t.Helper()
	require.Less(t, r.status, 300, string(r.body))
	require.NoError(t, json.Unmarshal(r.body, target))
}

// call sends a request; headers are names and values in turn. A text body goes as it is.
func (s *server) call(t *testing.T, key, method, path string, body any, headers ...string) *reply {
	t.Helper()
	var reader io.Reader = http.NoBody
	switch body := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(body)
	case []byte:
		reader = bytes.NewReader(body)
	default:
		data, err := json.Marshal(body)
		require.NoError(t, err)
		reader = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, s.base+path, reader)
	require.NoError(t, err)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	for pair := range slices.Chunk(headers, 2) {
		if pair[0] == "Content-Type" {
			request.Header.Del(pair[0])
		}
		request.Header.Add(pair[0], pair[1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(request)
	require.NoError(t, err)
	defer response.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return &reply{status: response.StatusCode, header: response.Header, body: text}
}

// customer makes a customer with an agent "cook" and a recipe "soup", and gives its key.
func (s *server) customer(t *testing.T, id string) (key string) {
	t.Helper()
	var made httpapi.NewCustomer
	s.call(t, operatorKey, "POST", "/api/v1/customers", map[string]any{"customer_id": id, "name": "Name of " + id}).into(t, &made)
	require.Equal(t, 201, s.call(t, made.Key, "POST", "/api/v1/agents", map[string]any{"agent_id": "cook"}).status)
	require.Equal(t, 201, s.call(t, made.Key, "POST", "/api/v1/recipes", soup, "Content-Type", "application/yaml").status)
	return made.Key
}

const soup = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: cook, id: soup}
spec:
  steps:
    - {id: remember, uses: state.set, with: {a: 1}}
`

func ready(t *testing.T, s *server, services ...string) {
	t.Helper()
	for _, service := range services {
		answer(t, s, service, query.Ready, func(struct{}) (query.Readiness, error) {
			return query.Readiness{Ready: true, Checks: map[string]string{}}, nil
		})
	}
}

// lockedBuffer is a log that may be written and read at the same time.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(data)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
