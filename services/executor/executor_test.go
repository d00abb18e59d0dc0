package executor_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/config"
	"github.com/galley-engine/galley/pkg/health"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	patience = 30 * time.Second
	find     = `{"apiVersion": "galley/v1", "kind": "Recipe", "metadata": {"agent": "the-hunter", "id": "discovery"}, "spec": {
		"steps": [
			{"id": "find", "uses": "action.http", "with": {"url": "${vars.directory_url}/search", "query": {"q": "${input.search_query}"}}, "price": "0.08"},
			{"id": "rank", "uses": "state.set", "with": {"leads": "${steps.find.output.body.results.filter(r, r.open)}"}}],
		"result": {"leads": "${state.leads}"}}}`
)

// TestService is the executor as a process runs it: NATS, the bucket of recipes and HTTP are real.
func TestService(t *testing.T) {
	t.Parallel()
	directory := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/search?q=dentists+in+california", r.RequestURI)
		assert.Equal(t, "e1/find", r.Header.Get("Idempotency-Key"))
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"results": [{"name": "A", "open": true}, {"name": "B", "open": false}]}`)
	}))
	defer directory.Close()
	b, err := bus.New(testkit.NATS(t).Conn(t), bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	service, err := executor.New(
		executor.Config{Concurrency: 4, AllowedHosts: []string{directory.Listener.Addr().String()}},
		process.Deps{Bus: b, AckWait: 5 * time.Second, Logger: zerolog.Nop(), Clock: clock.System},
	)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- service.Run(ctx) }()
	require.Eventually(t, func() bool { return health.Ready(t.Context(), service.Checks()).Ready }, patience, 10*time.Millisecond)

	require.NoError(t, b.Provision(t.Context()))
	bucket, err := b.JS.KeyValue(t.Context(), subject.BucketRecipes)
	require.NoError(t, err)
	_, err = bucket.Put(t.Context(), subject.RecipeKey("cust_001", "the-hunter", "discovery", 1), []byte(find))
	require.NoError(t, err)
	fund(t, b, directory.URL)

	execution := subject.Execution{Customer: "cust_001", ID: "e1"}
	var last journal.Record
	require.Eventually(t, func() bool {
		last, err = journal.New(b.Conn, b.JS).Last(t.Context(), execution)
		return err == nil && last.Kind == event.Completed
	}, patience, 10*time.Millisecond)
	var response event.Response
	require.NoError(t, json.Unmarshal(last.Data, &response))
	assert.Equal(t, event.StatusSuccess, response.Status, response.Errors)
	assert.JSONEq(t, `{"leads": [{"name": "A", "open": true}]}`, string(response.Data))
	assert.Equal(t, "0.08", response.Metadata.CreditsConsumed.String())
	assert.Equal(t, 1, response.Metadata.RecordsProcessed)
	stop()
	require.NoError(t, <-ended)
}

func fund(t *testing.T, b *bus.Bus, url string) {
	t.Helper()
	now := clock.System()
	data, err := json.Marshal(event.Funding{
		Debit: event.Debit{Amount: 80_000},
		Request: event.Request{
			ExecutionID: "e1", CustomerID: "cust_001", AgentID: "the-hunter", RecipeID: "discovery", RecipeVersion: 1,
			Input: json.RawMessage(`{"search_query": "dentists in california"}`), Vars: map[string]any{"directory_url": url},
			AcceptedAt: now, Deadline: now.Add(time.Hour),
		},
	})
	require.NoError(t, err)
	result := journal.New(b.Conn, b.JS).Append(t.Context(), journal.Entry{
		Execution: subject.Execution{Customer: "cust_001", ID: "e1"}, Kind: event.Funded, Source: "billing", Time: now,
		Header: nats.Header{}, Data: data,
	})[0]
	require.NoError(t, result.Err)
}

func TestConfig(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		environ []string
		wrong   string
	}{
		"defaults":         {nil, ""},
		"all":              {[]string{"GALLEY_CONCURRENCY=10", "GALLEY_ALLOWED_HOSTS=127.0.0.1:8001,directory:80"}, ""},
		"no concurrency":   {[]string{"GALLEY_CONCURRENCY=0"}, "GALLEY_CONCURRENCY is 0"},
		"a host only":      {[]string{"GALLEY_ALLOWED_HOSTS=127.0.0.1"}, "GALLEY_ALLOWED_HOSTS"},
		"no key":           {[]string{"GALLEY_SECRETS_KEY=c2hvcnQ="}, "GALLEY_SECRETS_KEY must hold keys of 32 bytes"},
		"unknown variable": {[]string{"GALLEY_CONCURENCY=1"}, "GALLEY_CONCURENCY is not a setting"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var loaded executor.Config
			err := config.Load(&loaded, test.environ)
			if test.wrong != "" {
				require.ErrorContains(t, err, test.wrong)
				return
			}
			require.NoError(t, err)
			if name == "all" {
				assert.Equal(t, executor.Config{Concurrency: 10, AllowedHosts: []string{"127.0.0.1:8001", "directory:80"}}, loaded)
			} else {
				assert.Equal(t, executor.Config{Concurrency: 256}, loaded)
			}
		})
	}
}

func TestNewRefusesABadConfig(t *testing.T) {
	t.Parallel()
	_, err := executor.New(executor.Config{}, process.Deps{})
	require.ErrorContains(t, err, "GALLEY_CONCURRENCY")
}
