package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/colorprofile"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
)

var update = flag.Bool("update", false, "write the golden files") //nolint:gochecknoglobals // that is how flags of tests work

func at(seconds int) time.Time { return time.Date(2026, 1, 2, 3, 4, seconds, 5_000_000, time.UTC) }

// tell prints one of everything.
func tell(r *Report) {
	response := event.Response{
		RecipeID: "discovery", AgentID: "the-hunter", RecipeVersion: 3, ExecutionID: "0190", CustomerID: "cust_001",
		Status: event.StatusPartial,
		Data: json.RawMessage(`{"leads":[` + strings.Repeat(`{"name":"Chen Dental","rating":4.5,"city":"Austin",`+
			`"tags":["a"],"id":"1","open":true},`, 9) + `{"name":"An \u001b[31mevil\u001b[0m name that is much too long for one column"}],` +
			`"note":"a \"quoted\" <b>, {[:]} and a \\","none":[],"nothing":{},"deep":{"a":[[1,2],{"b":[]}]}}`),
		Metadata: event.Metadata{
			DurationMS: 2500, RecordsProcessed: 10, CreditsConsumed: 80_000, ComponentsExecuted: 2, Timestamp: at(9),
			Receipt: event.Receipt{Quoted: 100_000, Debited: 100_000, Refunded: 20_000},
			Steps: []event.StepSummary{
				{ID: "find", Status: event.StepSuccess, Attempts: 1, DurationMS: 120, Credits: 80_000},
				{ID: "mail", Status: event.StepFailed, Attempts: 5, DurationMS: 2380},
				{ID: "extra", Status: event.StepSkipped},
			},
		},
		Errors: []problem.Error{{Code: problem.Timeout, Message: "no answer\nin time", Step: "mail", Attempt: 5, Retryable: true}},
	}
	r.Heading("galley", "/data")
	r.Facts([2]string{"HTTP", "http://127.0.0.1:8000"}, [2]string{"ready in", "1s"})
	r.Response(response)
	r.Heading("Ledger", "")
	r.Ledger([]query.Transaction{
		{ID: 2, Kind: "debit", Amount: -80_000, BalanceAfter: 99*credit.One + 920_000, ExecutionID: "0190", CreatedAt: at(2)},
		{ID: 1, Kind: "grant", Amount: 100 * credit.One, BalanceAfter: 100 * credit.One, CreatedAt: at(1)},
	})
	r.Heading("Audit", "")
	r.Audit([]query.AuditEvent{
		{Sequence: 8, ActionType: "execution.completed", ResourceID: "0190", ActorType: "api_key", Outcome: "failed", OccurredAt: at(3)},
		{Sequence: 7, ActionType: "execution.accepted", ResourceID: "0190", ActorType: "api_key", Outcome: "success", OccurredAt: at(2)},
	})
	r.Heading("Executions", "")
	r.Executions([]client.Execution{
		{ExecutionID: "0190", AgentID: "the-hunter", RecipeID: "discovery", Version: 3, Status: event.StatusAccepted, AcceptedAt: at(1)},
	}, true)
	r.Commands([2]string{"first", "one \\\n  two"}, [2]string{"second", "three"})
	r.Line("%d differences", 0)
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, environ := range map[string][]string{
		"plain":  {"TERM=xterm-256color"},
		"colour": {"TERM=xterm-256color", "CLICOLOR_FORCE=1"},
	} {
		var out bytes.Buffer
		tell(New(&out, environ))
		path := filepath.Join("testdata", name+".golden")
		if *update {
			require.NoError(t, os.MkdirAll("testdata", 0o750))
			require.NoError(t, os.WriteFile(path, out.Bytes(), 0o600))
		}
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, string(want), out.String(), "go test ./internal/report -update writes it anew")
	}
}

func TestNoColour(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"1", "yes", "0"} {
		var out bytes.Buffer
		tell(New(&out, []string{"TERM=xterm-256color", "TTY_FORCE=1", "NO_COLOR=" + value}))
		assert.NotContains(t, out.String(), "\x1b[3", "no colour")
	}
	assert.Equal(t, colorprofile.ANSI256, Profile(io.Discard, []string{"TERM=xterm-256color", "TTY_FORCE=1", "NO_COLOR="}))
}

func TestWithoutRecords(t *testing.T) {
	t.Parallel()
	for _, data := range []string{`null`, `{}`, `{"a":[]}`, `{"a":[{}]}`, `{"a":[1]}`, `[{"a":1}]`, `"text"`} {
		var out bytes.Buffer
		New(&out, nil).Response(event.Response{Status: event.StatusFailed, Data: json.RawMessage(data)})
		assert.Contains(t, out.String(), "FAILED")
		assert.NotContains(t, out.String(), ellipsis, data)
	}
}
