package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
)

// heads reads what the directory of tree heads has.
func heads(t *testing.T, dir string) (sizes []int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "heads-*.jsonl"))
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			var head event.TreeHead
			if json.Unmarshal([]byte(line), &head) == nil {
				sizes = append(sizes, head.Size)
			}
		}
	}
	return sizes
}

// receive starts a receiver of tree heads.
func receive(t *testing.T) (*httptest.Server, <-chan *http.Request) {
	t.Helper()
	got := make(chan *http.Request, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // of a delivery that was called off
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		got <- r
	}))
	t.Cleanup(receiver.Close)
	return receiver, got
}

// requireSigned takes the secret out of what a command printed, and gives the body of a delivery that is signed with it.
func requireSigned(t *testing.T, printed string, delivered *http.Request) (secret, body string) {
	t.Helper()
	secret = regexp.MustCompile(`whsec_\S+`).FindString(printed)
	verifier, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	text, err := io.ReadAll(delivered.Body)
	require.NoError(t, err)
	require.NoError(t, verifier.Verify(text, delivered.Header))
	return secret, string(text)
}

// TestNewKeyNeedsNewSecrets: what a new key would sign is not delivered to who has a secret of the former one.
func TestNewKeyNeedsNewSecrets(t *testing.T) {
	t.Parallel()
	i := install(t)
	receiver, got := receive(t)
	i.more = []string{"GALLEY_ALLOWED_HOSTS=" + receiver.Listener.Addr().String()}
	p := i.start(t)
	requireSigned(t, i.succeed(t, "audit", "webhook", "set", receiver.URL, "--interval", "1m"), <-got)
	require.Zero(t, p.end(t, syscall.SIGTERM))

	require.NoError(t, os.Remove(filepath.Join(i.dir, "audit.key")))
	p = i.start(t)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		_, text := i.servedMetrics(t)
		assert.Contains(c, string(text), `galley_audit_webhooks{service="audit",state="withheld"} 1`)
	}, patience, 50*time.Millisecond)
	assert.Contains(t, i.succeed(t, "audit", "webhook"), "NOTHING IS DELIVERED: the log has a new key")
	out := i.succeed(t, "audit", "webhook", "set", receiver.URL, "--interval", "1m", "--new-secret")
	assert.NotContains(t, out, "NOTHING")
	requireSigned(t, out, <-got)
	assert.Zero(t, p.end(t, syscall.SIGTERM))
	assert.Empty(t, got)
}

// TestAuditChanges erases, has tree heads delivered, and kills what writes them to a directory.
func TestAuditChanges(t *testing.T) {
	t.Parallel()
	i := install(t)
	dir := filepath.Join(t.TempDir(), "heads")
	receiver, got := receive(t)
	i.more = []string{"GALLEY_AUDIT_HEADS_DIR=" + dir, "GALLEY_ALLOWED_HOSTS=" + receiver.Listener.Addr().String()}
	p := i.start(t)

	out, code := i.run(t, "audit", "webhook")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "NOT_FOUND")
	out = i.succeed(t, "audit", "webhook", "set", receiver.URL+"/hook?token=hush", "--interval", "1m")
	secret, body := requireSigned(t, out, <-got)
	assert.Contains(t, body, `{"type":"audit.tree_head"`)
	require.Eventually(t, func() bool { return strings.Contains(i.succeed(t, "audit", "webhook"), " rows, ") }, patience, 50*time.Millisecond)
	out = i.succeed(t, "audit", "webhook", "set", receiver.URL, "--customer", "cust_001")
	assert.NotContains(t, out, "whsec_")
	i.succeed(t, "audit", "webhook", "delete")
	require.Eventually(t, func() bool { // rows are a little late
		out, _ = i.run(t, "audit", "list", "-o", "json")
		return strings.Contains(out, "audit.webhook_deleted")
	}, patience, 20*time.Millisecond)
	assert.NotContains(t, out, "hush")
	assert.NotContains(t, out, strings.TrimPrefix(secret, "whsec_"))

	published := i.listed(t, "--action", "recipe.published")
	require.NotEmpty(t, published[0].Changes)
	id := published[0].EventID
	out, code = i.run(t, "audit", "erase", id)
	assert.NotZero(t, code)
	assert.Contains(t, out, "--yes")
	assert.Contains(t, i.succeed(t, "audit", "erase", id, "--yes"), "erased: 1;")
	assert.Contains(t, i.succeed(t, "audit", "erase", id, "--yes"), "erased: 0;")
	assert.Empty(t, i.listed(t, "--action", "recipe.published")[0].Changes)
	assert.Contains(t, i.succeed(t, "audit", "proof", id), "PROVED")
	out, code = i.run(t, "audit", "erase", "--resource-type", "recipe", "--yes")
	assert.NotZero(t, code)
	assert.Contains(t, out, "resource_type and resource_id go together")

	for range 3 {
		require.NotEmpty(t, heads(t, dir))
		p.kill()
		i.killPostgres()
		p = i.start(t)
		before := heads(t, dir)
		i.succeed(t, "audit", "erase", id, "--yes")
		require.Eventually(t, func() bool { return len(heads(t, dir)) > len(before) }, patience, 50*time.Millisecond)
	}
	require.FileExists(t, filepath.Join(dir, "checkpoint"))
	assert.Contains(t, i.succeed(t, "audit", "verify", "--database"), "WHOLE")
	assert.Zero(t, p.end(t, syscall.SIGTERM))
}
