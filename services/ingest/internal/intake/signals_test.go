package intake_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
	"github.com/galley-engine/galley/services/ingest/internal/control"
	"github.com/galley-engine/galley/services/ingest/internal/intake"
	"github.com/galley-engine/galley/services/ingest/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// nothing is a history without executions.
type nothing struct{}

func (nothing) Completed(context.Context, []subject.Execution) (map[string]accept.Outcome, error) {
	return nil, nil
}

func TestSignalsAreStoredOrReported(t *testing.T) {
	t.Parallel()
	conn := testkit.NATS(t).Conn(t)
	messages, err := bus.New(conn, bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	require.NoError(t, messages.Provision(t.Context()))
	executions := journal.New(conn, messages.JS)
	url := testkit.Postgres(t)
	require.NoError(t, postgres.Migrate(t.Context(), url, migrations.Schema()))
	open := func(role string) *pgxpool.Pool {
		pool, err := postgres.Open(t.Context(), postgres.PoolConfig{URL: url, Role: role, MaxConns: 2})
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return pool
	}
	writer := open(migrations.Role)
	controller := control.New(control.Deps{
		Journal: executions, Bus: messages, History: nothing{}, Pool: open(migrations.Reader),
		Outbox: outbox.New(writer, messages.JS, "ingest", zerolog.Nop()), Clock: clock.System, Log: zerolog.Nop(),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- intake.NewSignals(messages, controller, 10*time.Second, clock.System, zerolog.Nop()).Run(ctx)
	}()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })

	execution := subject.Execution{Customer: "alice", ID: uuid.NewString()}
	unknown := subject.Execution{Customer: "alice", ID: uuid.NewString()}
	require.NoError(t, executions.Append(t.Context(), journal.Entry{
		Execution: execution, Kind: event.Accepted, Source: "test", Time: clock.System(), Header: nats.Header{}, Data: []byte(`{}`),
	})[0].Err)
	for _, message := range []struct{ name, data string }{
		{execution.Signal("stock"), `{"n":1}`},
		{execution.Signal("stock"), `{ "n": 1 }`},
		{execution.Signal("stock"), `{"n":2}`},
		{execution.Signal("salt"), `{`},
		{unknown.Signal("stock"), `1`},
		{"galley.signal.alice.x", `1`},
		{"galley.signal.ü.x.y", `1`},
	} {
		_, err := messages.JS.Publish(t.Context(), message.name, []byte(message.data), jetstream.WithMsgID(uuid.NewString()))
		require.NoError(t, err)
	}
	stream, err := messages.JS.Stream(t.Context(), subject.StreamSignals)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.Msgs == 0
	}, 20*time.Second, 10*time.Millisecond)

	data, found, err := executions.Signal(t.Context(), execution, subject.SignalEvent, "stock")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, `{"n":1}`, string(data))
	var stored int
	require.NoError(t, writer.QueryRow(t.Context(), `SELECT count(*) FROM ingest.outbox
		WHERE subject = 'galley.activity.alice.execution.signalled' AND header->>'ce-actor' = 'producer:alice'`).Scan(&stored))
	require.Equal(t, 1, stored, "the event that counts is an activity, the same one again and those that are refused are not")
	activity, err := messages.JS.Stream(t.Context(), subject.StreamActivity)
	require.NoError(t, err)
	var reported []event.Rejection
	for sequence := uint64(1); sequence <= 5; sequence++ {
		message, err := activity.GetMsg(t.Context(), sequence)
		require.NoError(t, err)
		require.Equal(t, event.TypeRunRejected, message.Header.Get(event.HeaderType))
		var rejection event.Rejection
		require.NoError(t, json.Unmarshal(message.Data, &rejection))
		require.Equal(t, subject.RunRejected(map[bool]string{true: "alice", false: "-"}[rejection.CustomerID == "alice"]), message.Subject)
		require.NotEmpty(t, rejection.MessageID)
		reported = append(reported, event.Rejection{Subject: rejection.Subject, Code: rejection.Code, Sequence: rejection.Sequence})
	}
	require.Equal(t, []event.Rejection{
		{Subject: execution.Signal("stock"), Code: problem.Conflict, Sequence: 3},
		{Subject: execution.Signal("salt"), Code: problem.InvalidRequest, Sequence: 4},
		{Subject: unknown.Signal("stock"), Code: problem.NotFound, Sequence: 5},
		{Subject: "galley.signal.alice.x", Code: problem.InvalidRequest, Sequence: 6},
		{Subject: "galley.signal.ü.x.y", Code: problem.InvalidRequest, Sequence: 7},
	}, reported)
}
