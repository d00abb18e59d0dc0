package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
)

func TestMain(m *testing.M) {
	testkit.Main(m,
		// fasthttp keeps the text of its Date header up to date for ever, and one goroutine of a stopped server sleeps for ten more seconds.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

const operatorKey = "operator-key-0123456789-0123456789"

// instance is a running service.
type instance struct {
	base string
	bus  *bus.Bus
	key  string
	stop func()
}

func start(t *testing.T, databaseURL string, conn *nats.Conn) *instance {
	t.Helper()
	messages, err := bus.New(conn, bus.Settings{Replicas: 1, JournalRetention: 72 * time.Hour}, zerolog.Nop())
	require.NoError(t, err)
	service, err := New(Config{HTTPAddr: "127.0.0.1:0", OperatorKey: operatorKey}, process.Deps{
		Bus: messages, DatabaseURL: databaseURL, AckWait: 10 * time.Second, Logger: zerolog.Nop(), Clock: clock.System,
	})
	require.NoError(t, err)
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- service.serve(ctx, listener)
		close(done)
	}()
	i := &instance{base: "http://" + listener.Addr().String(), bus: messages, key: operatorKey, stop: func() {
		cancel()
		assert.NoError(t, <-done)
	}}
	t.Cleanup(i.stop)
	return i
}

// pipeline stands for billing and executor: it completes every execution with its input, except one that is to hang.
func (i *instance) pipeline(t *testing.T) {
	t.Helper()
	executions := journal.New(i.bus.Conn, i.bus.JS)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- i.bus.Consume(ctx, bus.Consumer{
			Stream: subject.StreamExecutions, Durable: "test", Filters: []string{subject.ExecutionMilestone(string(event.Accepted))},
			AckWait: 10 * time.Second, MaxAckPending: 100, Batch: 10,
		}, func(ctx context.Context, messages []jetstream.Msg) {
			for _, message := range messages {
				i.complete(ctx, t, executions, message)
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-done)
	})
}

func (i *instance) complete(ctx context.Context, t *testing.T, executions *journal.Journal, message jetstream.Msg) {
	t.Helper()
	record, _, err := journal.Decode(message)
	if !assert.NoError(t, err) {
		return
	}
	var request event.Request
	assert.NoError(t, json.Unmarshal(record.Data, &request))
	if bytes.Contains(request.Input, []byte("hang")) {
		assert.NoError(t, message.Ack())
		return
	}
	data := fmt.Appendf(nil, `{ "status": "success", "execution_id": %q, "data": %s }`, request.ExecutionID, request.Input)
	header := nats.Header{}
	for _, name := range []string{event.HeaderSubject, event.HeaderActor} {
		header.Set(name, record.Header.Get(name))
	}
	header.Set(event.HeaderStatus, string(event.StatusSuccess))
	header.Set(event.HeaderCredits, "0")
	header.Set(event.HeaderDuration, "1")
	results := executions.Append(ctx, journal.Entry{
		Execution: record.Execution, Kind: event.Completed, Expect: record.Sequence, Source: "executor", Time: clock.System(),
		Header: header, Data: data,
	})
	if !assert.NoError(t, results[0].Err) {
		return
	}
	if inbox := record.Header.Get(event.HeaderReply); inbox != "" {
		assert.NoError(t, i.bus.Conn.PublishMsg(&nats.Msg{Subject: inbox, Header: header, Data: data}))
	}
	assert.NoError(t, message.Ack())
}

// call sends a request and decodes the answer into what is not nil.
func (i *instance) call(t *testing.T, method, path, body string, into any, headers ...string) (int, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, i.base+path, strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+i.key)
	for pair := range slices.Chunk(headers, 2) {
		request.Header.Set(pair[0], pair[1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(request)
	require.NoError(t, err)
	defer response.Body.Close() //nolint:errcheck // read to its end
	data, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	if raw, ok := into.(*string); ok {
		*raw = string(data)
	} else if into != nil {
		require.NoError(t, json.Unmarshal(data, into), string(data))
	}
	return response.StatusCode, response.Header
}

const echo = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: cook, id: echo}
spec:
  input: {type: object, properties: {n: {type: integer}, text: {type: string}}, additionalProperties: false}
  steps:
    - {id: remember, uses: state.set, with: {a: 1}}
`

// seed makes customer alice with the recipe, and acts as her from then on.
func (i *instance) seed(t *testing.T) {
	t.Helper()
	var made struct {
		Key string `json:"api_key"`
	}
	require.Eventually(t, func() bool {
		var ready struct{ Checks map[string]string }
		i.call(t, "GET", "/ready", "", &ready)
		return ready.Checks["postgres"] == "ok" && ready.Checks["nats"] == "ok"
	}, 30*time.Second, 10*time.Millisecond)
	status, _ := i.call(t, "POST", "/api/v1/customers", `{"customer_id":"alice","name":"Alice"}`, &made)
	require.Equal(t, 201, status)
	i.key = made.Key
	status, _ = i.call(t, "POST", "/api/v1/agents", `{"agent_id":"cook"}`, nil)
	require.Equal(t, 201, status)
	require.Eventually(t, func() bool { // the bucket may not be there yet
		status, _ := i.call(t, "POST", "/api/v1/recipes", echo, nil, "Content-Type", "application/yaml")
		return status == 201
	}, 30*time.Second, 10*time.Millisecond)
}

const execute = "/api/v1/recipes/execute"

func ask(input string) string {
	return fmt.Sprintf(`{"agent_id":"cook","recipe_id":"echo","input_data":%s}`, input)
}

func TestExecutions(t *testing.T) {
	t.Parallel()
	i := start(t, testkit.Postgres(t), testkit.NATS(t).Conn(t))
	i.pipeline(t)
	i.seed(t)

	var raw string
	status, _ := i.call(t, "POST", execute, ask(`{"n":1}`), &raw)
	require.Equal(t, 200, status)
	require.Regexp(t, `^\{ "status": "success", "execution_id": "[0-9a-f-]{36}", "data": \{"n":1\} \}$`, raw, "byte by byte as in the journal")

	var pending struct {
		ExecutionID string       `json:"execution_id"`
		Status      event.Status `json:"status"`
	}
	for _, prefer := range []string{"respond-async", "wait=0", "wait=1"} {
		status, header := i.call(t, "POST", execute, ask(`{"text":"hang"}`), &pending, "Prefer", prefer)
		require.Equal(t, []any{202, event.StatusAccepted}, []any{status, pending.Status})
		require.Equal(t, "/api/v1/executions/"+pending.ExecutionID, header.Get("Location"))
		var response event.Response
		status, _ = i.call(t, "GET", header.Get("Location"), "", &response)
		require.Equal(t, []any{200, event.StatusAccepted, pending.ExecutionID}, []any{status, response.Status, response.ExecutionID})
	}
	require.Eventually(t, func() bool {
		var page struct {
			Items []struct{ Status event.Status }
		}
		i.call(t, "GET", "/api/v1/executions", "", &page)
		return len(page.Items) == 4 && page.Items[3].Status == event.StatusSuccess
	}, 30*time.Second, 10*time.Millisecond)
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	i := start(t, testkit.Postgres(t), testkit.NATS(t).Conn(t))
	i.pipeline(t)
	i.seed(t)
	var first, second string
	for _, into := range []*string{&first, &second} {
		status, _ := i.call(t, "POST", execute, ask(`{"n":1}`), into, "Idempotency-Key", "k")
		require.Equal(t, 200, status)
	}
	require.Equal(t, first, second)
	var refused struct{ Code problem.Code }
	status, _ := i.call(t, "POST", execute, ask(`{"n":2}`), &refused, "Idempotency-Key", "k")
	require.Equal(t, []any{409, problem.Conflict}, []any{status, refused.Code})
}

func TestRefusedInput(t *testing.T) {
	t.Parallel()
	i := start(t, testkit.Postgres(t), testkit.NATS(t).Conn(t))
	i.seed(t)
	var refused struct {
		Code   problem.Code
		Errors []problem.Violation
	}
	status, _ := i.call(t, "POST", execute, ask(`{"n":"x","text":1,"more":true}`), &refused)
	require.Equal(t, []any{422, problem.InputInvalid}, []any{status, refused.Code})
	paths := make([]string, 0, len(refused.Errors))
	for _, violation := range refused.Errors {
		paths = append(paths, violation.Path)
	}
	require.ElementsMatch(t, []string{"/input_data/n", "/input_data/text", "/input_data/more"}, paths)

	status, _ = i.call(t, "POST", execute, ask(`{"text":"`+strings.Repeat("x", 512<<10)+`"}`), &refused)
	require.Equal(t, []any{413, problem.PayloadTooLarge}, []any{status, refused.Code})
	status, _ = i.call(t, "POST", execute, `{"agent_id":"a.b","recipe_id":"*"}`, &refused)
	require.Equal(t, []any{422, problem.InvalidRequest, 2}, []any{status, refused.Code, len(refused.Errors)})
	status, _ = i.call(t, "POST", execute, `{"agent_id":"cook","recipe_id":"soup"}`, &refused)
	require.Equal(t, []any{404, problem.NotFound}, []any{status, refused.Code})
	status, _ = i.call(t, "POST", execute, `{"agent_id":"cook","recipe_id":"echo","version":-1}`, &refused)
	require.Equal(t, []any{422, "/version"}, []any{status, refused.Errors[0].Path})
}

// There is no order of starting: the service waits for what is not there, says so, and goes on when it comes.
func TestStartsBeforeItsDependencies(t *testing.T) {
	t.Parallel()
	database, server := testkit.PostgresServer(t), testkit.NATS(t)
	conn := server.Conn(t)
	database.Stop(t)
	server.Shutdown()
	i := start(t, database.URL(), conn)

	var ready struct {
		Ready  bool
		Checks map[string]string
	}
	status, _ := i.call(t, "GET", "/health", "", nil)
	require.Equal(t, 200, status)
	status, _ = i.call(t, "GET", "/ready", "", &ready)
	require.Equal(t, 503, status)
	require.Equal(t, map[string]string{
		"postgres": "cannot be reached", "nats": "cannot be reached",
		"billing": "does not answer", "executor": "does not answer", "audit": "does not answer",
	}, ready.Checks)
	var refused struct{ Code problem.Code }
	status, header := i.call(t, "POST", "/api/v1/customers", `{"customer_id":"alice","name":"Alice"}`, &refused)
	require.Equal(t, []any{503, problem.Unavailable, "1"}, []any{status, refused.Code, header.Get("Retry-After")})

	database.Start(t)
	server.Restart(t)
	i.pipeline(t)
	i.seed(t)
	status, _ = i.call(t, "POST", execute, ask(`{"n":1}`), nil)
	require.Equal(t, 200, status)
}

func TestStopAnswersWaitingCallers(t *testing.T) {
	t.Parallel()
	i := start(t, testkit.Postgres(t), testkit.NATS(t).Conn(t))
	i.pipeline(t)
	i.seed(t)
	accepted, err := i.bus.Conn.SubscribeSync(subject.ExecutionMilestone(string(event.Accepted)))
	require.NoError(t, err)
	answered := make(chan int, 1)
	go func() {
		status, _ := i.call(t, "POST", execute, ask(`{"text":"hang"}`), nil)
		answered <- status
	}()
	_, err = accepted.NextMsg(30 * time.Second)
	require.NoError(t, err)
	i.stop()
	require.Equal(t, 202, <-answered)
}

func TestTakenAddressIsAMistakeInTheSettings(t *testing.T) {
	t.Parallel()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close() //nolint:errcheck // nothing was accepted
	service, err := New(Config{HTTPAddr: listener.Addr().String(), OperatorKey: operatorKey}, process.Deps{DatabaseURL: "postgres://nowhere"})
	require.NoError(t, err)
	err = service.Run(t.Context())
	var usage *lifecycle.UsageError
	require.ErrorAs(t, err, &usage)
	require.ErrorContains(t, err, "GALLEY_HTTP_ADDR")
}

func TestConfig(t *testing.T) {
	t.Parallel()
	require.NoError(t, Config{HTTPAddr: ":8000", OperatorKey: operatorKey}.Validate())
	for text, config := range map[string]Config{
		"GALLEY_HTTP_ADDR":    {HTTPAddr: "localhost", OperatorKey: operatorKey},
		"host:port":           {HTTPAddr: "localhost:99999", OperatorKey: operatorKey},
		"GALLEY_OPERATOR_KEY": {HTTPAddr: ":8000"},
		"printable":           {HTTPAddr: ":8000", OperatorKey: operatorKey + " "},
		"GALLEY_SECRETS_KEY":  {HTTPAddr: ":8000", OperatorKey: operatorKey, SecretsKey: "short"},
	} {
		_, err := New(config, process.Deps{})
		require.ErrorContains(t, err, text)
	}
	all := errors.Unwrap(Config{}.Validate())
	require.NoError(t, all)
	require.Equal(t, 2, strings.Count(Config{}.Validate().Error(), "GALLEY_"))
}
