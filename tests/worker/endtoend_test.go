package worker_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/worker"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/tests/internal/harness"
	"github.com/galley-engine/galley/tests/internal/harness/harnesstest"
	"github.com/galley-engine/galley/tests/internal/repository"
)

const long = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: the-crier, id: long}
spec:
  steps: [{id: work, uses: worker.long, with: {text: hello}, timeout: 5m}]
`

// TestGalley runs recipes with workers against an installation.
func TestGalley(t *testing.T) { //nolint:tparallel // its cases share an installation, which one of them kills
	t.Parallel()
	installation := harnesstest.Start(t, harness.Config{Mode: harness.Single})
	client, err := installation.Customer(t.Context(), "crier", 10*credit.One)
	require.NoError(t, err)
	require.NoError(t, client.Agent(t.Context(), "the-crier"))
	require.NoError(t, client.Publish(t.Context(), documented(t)))
	require.NoError(t, client.Publish(t.Context(), long))
	t.Run("the recipe of the documentation", func(t *testing.T) { //nolint:paralleltest // one after the other
		goExample(t).start(t, installation.NATSURL())
		response := run(t, client, "announce")
		require.Equal(t, event.StatusSuccess, response.Status, "%+v", response.Errors)
		assert.JSONEq(t, `{"text": "HELLO"}`, string(response.Data))
		assert.Equal(t, credit.Micro(1000), response.Metadata.CreditsConsumed)
	})
	t.Run("cancel", func(t *testing.T) { testCancelExecution(t, installation, client) }) //nolint:paralleltest // one after the other
	t.Run("restart", func(t *testing.T) { testRestart(t, installation, client) })        //nolint:paralleltest // one after the other
}

// documented is the recipe in docs/workers.md.
func documented(t *testing.T) string {
	t.Helper()
	root, err := repository.Root()
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(root, "docs", "workers.md"))
	require.NoError(t, err)
	_, after, _ := strings.Cut(string(text), "```yaml\n")
	document, _, found := strings.Cut(after, "```")
	require.True(t, found)
	return document
}

func request(recipe string) map[string]any {
	return map[string]any{"agent_id": "the-crier", "recipe_id": recipe, "input_data": map[string]string{"text": "hello"}}
}

// run runs a recipe to its end.
func run(t *testing.T, client *harness.Client, recipe string) event.Response {
	t.Helper()
	answer, err := client.Call(t.Context(), http.MethodPost, harness.API+"/recipes/execute", request(recipe), "Prefer", "wait=50")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.Status, answer)
	var response event.Response
	require.NoError(t, json.Unmarshal(answer.Body, &response))
	return response
}

// begin runs a recipe in the background.
func begin(t *testing.T, client *harness.Client, recipe string) (execution string) {
	t.Helper()
	answer, err := client.Call(t.Context(), http.MethodPost, harness.API+"/recipes/execute", request(recipe), "Prefer", "respond-async")
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, answer.Status, answer)
	var accepted struct {
		ID string `json:"execution_id"`
	}
	require.NoError(t, json.Unmarshal(answer.Body, &accepted))
	return accepted.ID
}

// serveLong runs worker.long until the test ends.
func serveLong(t *testing.T, installation *harness.Installation, handler worker.Handler) {
	t.Helper()
	conn, err := nats.Connect(installation.NATSURL(), nats.MaxReconnects(-1)) // with the client's own pauses
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := serve(ctx, conn, worker.Config{Name: "long"}, handler)
	t.Cleanup(func() {
		stop()
		assert.NoError(t, receive(t, ended))
		conn.Close()
	})
}

func testCancelExecution(t *testing.T, installation *harness.Installation, client *harness.Client) {
	t.Helper()
	began, causes := make(chan struct{}, 10), make(chan error, 10)
	serveLong(t, installation, func(ctx context.Context, _ *worker.Call) (any, error) {
		began <- struct{}{}
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return nil, ctx.Err()
	})
	execution := begin(t, client, "long")
	receive(t, began)
	answer, err := client.Call(t.Context(), http.MethodPost, harness.API+"/executions/"+execution+"/cancel", nil)
	require.NoError(t, err)
	require.Less(t, answer.Status, http.StatusMultipleChoices, answer)
	require.ErrorIs(t, receive(t, causes), worker.ErrCancelled)
	assert.Empty(t, began, "the call was made once")
}

// testRestart: galley is stopped, and later killed, with everything in it, NATS included, while a worker works. The worker goes on, and the
// execution ends with what it does, done once.
func testRestart(t *testing.T, installation *harness.Installation, client *harness.Client) {
	t.Helper()
	began, finish := make(chan struct{}, 10), make(chan struct{})
	serveLong(t, installation, func(ctx context.Context, _ *worker.Call) (any, error) {
		began <- struct{}{}
		select {
		case <-finish:
			return "done once", nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	})
	execution := begin(t, client, "long")
	receive(t, began)
	for _, end := range []func(name string) error{installation.Stop, installation.Kill} {
		require.NoError(t, end(harness.Galley))
		require.NoError(t, installation.Start(t.Context(), harness.Galley))
		require.NoError(t, installation.AwaitReady(t.Context()))
	}
	var response event.Response
	released := false
	require.Eventually(t, func() bool {
		answer, err := client.Call(t.Context(), http.MethodGet, harness.API+"/executions/"+execution, nil)
		if err != nil || json.Unmarshal(answer.Body, &response) != nil {
			return false
		}
		if !released { // it is under way again, or about to be
			released = true
			close(finish)
		}
		return response.Status.Terminal()
	}, 3*time.Minute, 100*time.Millisecond)
	require.Equal(t, event.StatusSuccess, response.Status, "%+v", response.Errors)
	assert.JSONEq(t, `"done once"`, string(response.Data))
	assert.Empty(t, began, "the call was made once")
}
