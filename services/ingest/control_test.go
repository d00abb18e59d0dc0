package ingest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
)

// A caller waits, the execution is cancelled, the caller hears of it, and another execution follows.
func TestCancelAndRerun(t *testing.T) {
	t.Parallel()
	i := start(t, testkit.Postgres(t), testkit.NATS(t).Conn(t))
	i.pipeline(t)
	i.seed(t)
	accepted := make(chan subject.Execution, 1)
	watch, err := i.bus.Conn.SubscribeSync(subject.ExecutionMilestone(string(event.Accepted)))
	require.NoError(t, err)
	go func() {
		message, err := watch.NextMsg(30 * time.Second)
		if err == nil {
			execution, _, _, _ := subject.ParseExecution(message.Subject)
			accepted <- execution
		}
		close(accepted)
	}()
	answered := make(chan event.Response, 1)
	go func() {
		var response event.Response
		i.call(t, "POST", execute, ask(`{"text":"hang"}`), &response)
		answered <- response
	}()
	execution := <-accepted
	path := "/api/v1/executions/" + execution.ID
	var response event.Response
	require.Eventually(t, func() bool { // the event is seen before it is stored
		status, _ := i.call(t, "POST", path+"/cancel", `{"reason":"enough"}`, &response)
		return status == 200
	}, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, problem.Cancelled, response.Errors[0].Code)
	require.Equal(t, response, <-answered)

	var again struct {
		ExecutionID string `json:"execution_id"`
		Origin      struct {
			ExecutionID string     `json:"execution_id"`
			Verb        event.Verb `json:"verb"`
		} `json:"origin"`
	}
	status, header := i.call(t, "POST", path+"/resume", "", &again, "Prefer", "respond-async")
	require.Equal(t, 202, status)
	status, _ = i.call(t, "GET", header.Get("Location"), "", &again)
	require.Equal(t, []any{200, execution.ID, event.VerbResume}, []any{status, again.Origin.ExecutionID, again.Origin.Verb})

	following := subject.Execution{Customer: "alice", ID: again.ExecutionID}
	_, err = i.bus.JS.Publish(t.Context(), following.Signal("stock"), []byte(`{"n":1}`))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		executions := journal.New(i.bus.Conn, i.bus.JS)
		data, found, err := executions.Signal(t.Context(), following, subject.SignalEvent, "stock")
		return err == nil && found && string(data) == `{"n":1}`
	}, 30*time.Second, 10*time.Millisecond)
}
