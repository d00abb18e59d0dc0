package endtoend_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/tests/internal/harness"
	"github.com/galley-engine/galley/tests/internal/harness/harnesstest"
)

// TestFirstBoot starts galley up as a new user does, stops it, and starts it again.
func TestFirstBoot(t *testing.T) {
	t.Parallel()
	installation := harnesstest.Start(t, harness.Config{Mode: harness.Single, Sandbox: true})
	eventually(t, "the customer of the example is made", func() bool {
		_, err := os.Stat(filepath.Join(installation.DataDir(), "demo.key"))
		return err == nil
	})
	for _, name := range []string{"admin.key", "demo.key"} {
		info, err := os.Stat(filepath.Join(installation.DataDir(), name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}
	key, err := os.ReadFile(filepath.Join(installation.DataDir(), "demo.key"))
	require.NoError(t, err)
	demo := harness.Client{Base: installation.BaseURL(), Key: strings.TrimSpace(string(key))}
	eventually(t, "the example was run once", func() bool { return len(listed(t, &demo)) == 1 })

	answers := map[string]bool{}
	for _, query := range []string{"dentists in california", "plumbers in seattle", "bakeries in texas"} {
		response := discover(t, &demo, query)
		require.Equal(t, event.StatusSuccess, response.Status)
		var data struct {
			Leads []map[string]any `json:"leads"`
		}
		require.NoError(t, json.Unmarshal(response.Data, &data))
		require.NotEmpty(t, data.Leads, query)
		require.Positive(t, response.Metadata.CreditsConsumed)
		answers[string(response.Data)] = true
	}
	require.Len(t, answers, 3, "different queries give different answers")

	postmaster, err := installation.PID(harness.Postgres)
	require.NoError(t, err)
	require.NoError(t, installation.Stop(harness.Galley), "SIGTERM stops everything, exit code 0")
	require.ErrorIs(t, syscall.Kill(postmaster, 0), syscall.ESRCH, "no orphan is left")
	require.NoError(t, installation.Start(t.Context(), harness.Galley))
	require.NoError(t, installation.AwaitReady(t.Context()))
	eventually(t, "the data is there again, and the example was not run again", func() bool { return len(listed(t, &demo)) == 4 })
}

func discover(t *testing.T, client *harness.Client, query string) event.Response {
	t.Helper()
	answer, err := client.Call(t.Context(), http.MethodPost, harness.API+"/recipes/execute", run{
		"agent_id": "the-hunter", "recipe_id": "discovery", "customer_id": "cust_001", "input_data": map[string]any{"search_query": query},
	})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.Status, "%s", answer)
	var response event.Response
	require.NoError(t, answer.JSON(&response))
	return response
}

func listed(t *testing.T, client *harness.Client) []json.RawMessage {
	t.Helper()
	answer, err := client.Call(t.Context(), http.MethodGet, harness.API+"/executions", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.Status, "%s", answer)
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	require.NoError(t, answer.JSON(&list))
	return list.Items
}

// TestBadSettings: one clear line and exit code 2.
func TestBadSettings(t *testing.T) {
	t.Parallel()
	galley := harnesstest.Binaries(t, harness.Single).Path(harness.Galley)
	for setting, said := range map[string]string{
		"GALLEY_HTTP_ADDRESS=127.0.0.1:1":  "GALLEY_HTTP_ADDRESS",
		"GALLEY_HTTP_ADDR=nowhere":         "GALLEY_HTTP_ADDR",
		"GALLEY_NATS_ADDR=0.0.0.0:4222":    "loopback",
		"GALLEY_DURABILITY=total":          "GALLEY_DURABILITY",
		"GALLEY_ACK_WAIT=soon":             "GALLEY_ACK_WAIT",
		"GALLEY_LOG_LEVEL=loud":            "GALLEY_LOG_LEVEL",
		"GALLEY_JOURNAL_RETENTION=1h":      "retention",
		"GALLEY_DATABASE_URL=mysql://host": "GALLEY_DATABASE_URL",
	} {
		command := exec.CommandContext(t.Context(), galley, "up")
		command.Env = []string{"PATH=" + os.Getenv("PATH"), "GALLEY_DATA_DIR=" + filepath.Join(t.TempDir(), "data"), setting}
		output, err := command.CombinedOutput()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit, setting)
		require.Equal(t, 2, exit.ExitCode(), "%s: %s", setting, output)
		require.Contains(t, string(output), said, setting)
		require.Len(t, strings.Split(strings.TrimSpace(string(output)), "\n"), 1, "%s: %s", setting, output)
	}
}

// TestTakenPort: the port of another program is one clear line, too.
func TestTakenPort(t *testing.T) {
	t.Parallel()
	taken := newOutside(t)
	command := exec.CommandContext(t.Context(), harnesstest.Binaries(t, harness.Single).Path(harness.Galley), "up", "--no-sandbox")
	command.Env = []string{
		"PATH=" + os.Getenv("PATH"), "GALLEY_DATA_DIR=" + filepath.Join(t.TempDir(), "data"),
		"GALLEY_HTTP_ADDR=" + strings.TrimPrefix(taken.url, "http://"), "GALLEY_NATS_ADDR=" + strings.TrimPrefix(taken.closed, "http://"),
		"GALLEY_METRICS_ADDR=",
	}
	output, err := command.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 2, exit.ExitCode(), "%s", output)
	require.Contains(t, string(output), strings.TrimPrefix(taken.url, "http://"))
	require.Len(t, strings.Split(strings.TrimSpace(string(output)), "\n"), 1, "%s", output)
}
