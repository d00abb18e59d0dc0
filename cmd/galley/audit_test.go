package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/verify"
)

// listed gives rows of the audit log.
func (i *installation) listed(t *testing.T, args ...string) []query.AuditEvent {
	t.Helper()
	var events []query.AuditEvent
	for line := range strings.Lines(i.succeed(t, append([]string{"audit", "list", "-o", "json"}, args...)...)) {
		var e query.AuditEvent
		require.NoError(t, json.Unmarshal([]byte(line), &e), line)
		events = append(events, e)
	}
	return events
}

// TestAudit goes through all that the audit log can prove, with a private galley and the files beside it.
func TestAudit(t *testing.T) {
	t.Parallel()
	i := install(t)
	i.start(t)
	completed := i.listed(t, "--action", "execution.completed")
	require.Len(t, completed, 1)
	assert.Contains(t, completed[0].Steps, "find=success")
	published := i.listed(t, "--resource-type", "recipe", "--resource", "the-hunter/discovery")
	require.Len(t, published, 1)
	assert.Contains(t, string(published[0].Changes), `"after":{`)

	out := i.succeed(t, "audit", "proof", completed[0].EventID)
	assert.Contains(t, out, "PROVED: two implementations agree")
	assert.Contains(t, out, completed[0].ResourceID)
	out = i.succeed(t, "audit", "proof", "-o", "json", published[0].EventID)
	assert.Contains(t, out, `"payload":"checked"`)
	out, code := i.run(t, "audit", "proof", "nothing")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "NOT_FOUND")

	dir := t.TempDir()
	head, mine, all := filepath.Join(dir, "head.txt"), filepath.Join(dir, "mine.jsonl"), filepath.Join(dir, "all.jsonl")
	assert.Contains(t, i.succeed(t, "audit", "head", "--save", head), "signed rows")
	i.succeed(t, "run", "the-hunter", "discovery", "--input", `{"search_query": "plumbers in seattle"}`)
	assert.Contains(t, i.succeed(t, "audit", "consistency", head), "PROVED: the log begins with that of the older tree head")

	i.succeed(t, "audit", "export", "--file", mine)
	i.succeed(t, "audit", "export", "--all", "-f", all)
	for _, args := range [][]string{
		{"--file", mine},
		{"--file", all},
		{"--file", all, "--head", head},
		{},
		{"--all"},
		{"--customer", "cust_001"},
		{"--database"},
		{"--database", "--head", head},
	} {
		assert.Contains(t, i.succeed(t, append([]string{"audit", "verify"}, args...)...), " WHOLE: ", args)
	}
	for _, export := range []string{mine, all} {
		i.exampleAgrees(t, export, true)
	}
	i.auditRecords(t)
	i.damagedExports(t, mine, head)
	i.foreignKeys(t, mine, completed[0].EventID)
}

// exampleAgrees has the verifier in JavaScript, which shares nothing with galley, look at an export, where there is a Node.js.
func (i *installation) exampleAgrees(t *testing.T, export string, whole bool) {
	t.Helper()
	if _, err := exec.LookPath("node"); errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		return
	}
	key := strings.TrimSpace(i.succeed(t, "audit", "key"))
	command := exec.CommandContext(t.Context(), "node", "../../examples/audit-verify-node/verify.mjs", export, key) //nolint:gosec // our own
	said, err := command.CombinedOutput()
	assert.Equal(t, whole, err == nil, "%v: %s", err, said)
	assert.NotEmpty(t, said)
}

// auditRecords: exports and verifications are in the log themselves.
func (i *installation) auditRecords(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return len(i.listed(t, "--nobody", "--action", "audit.verified")) >= 2 }, patience, 50*time.Millisecond)
	assert.GreaterOrEqual(t, len(i.listed(t, "--nobody", "--action", "audit.exported")), 2)
	exported := i.listed(t, "--action", "audit.exported")
	require.NotEmpty(t, exported)
	assert.Equal(t, "cust_001", exported[0].ResourceID)
	assert.Contains(t, i.succeed(t, "audit", "--all"), "cust_001", "whose rows they are")
}

// damagedExports are found out.
func (i *installation) damagedExports(t *testing.T, export, head string) {
	t.Helper()
	text, err := os.ReadFile(export)
	require.NoError(t, err)
	lines := strings.SplitAfter(string(text), "\n")
	for name, damaged := range map[string]string{
		"changed":   strings.Replace(string(text), "the-hunter", "the-hunted", 1),
		"left out":  strings.Join(append(lines[:3:3], lines[4:]...), ""),
		"broke off": strings.Join(lines[:len(lines)-2], ""),
		"empty":     "",
	} {
		path := filepath.Join(t.TempDir(), "damaged.jsonl")
		require.NoError(t, os.WriteFile(path, []byte(damaged), 0o600))
		i.exampleAgrees(t, path, false)
		out, code := i.run(t, "audit", "verify", "--file", path)
		assert.Equal(t, 1, code, name)
		assert.Contains(t, out, "NOT WHOLE", name)
		assert.Contains(t, out, "galley: the audit log is not whole", name)
	}
	out, code := i.run(t, "audit", "verify", "--file", export, "--database")
	assert.Equal(t, 2, code, out)
	forged, err := os.ReadFile(head)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(head, []byte(strings.Replace(string(forged), "\ntime 2", "\ntime 3", 1)), 0o600))
	out, code = i.run(t, "audit", "consistency", head)
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "not signed by this key")
}

// foreignKeys: what is believed comes from whoever verifies, and what does not is said to.
func (i *installation) foreignKeys(t *testing.T, export, event string) {
	t.Helper()
	key := strings.TrimSpace(i.succeed(t, "audit", "key"))
	secret := i.succeed(t, "audit", "new-key")
	assert.Contains(t, secret, "PRIVATE+KEY+galley-")
	other := strings.TrimSpace(secret[strings.Index(secret, "is no secret: ")+len("is no secret: "):])
	other, _, _ = strings.Cut(other, "\n")
	for _, args := range [][]string{{"verify", "--file", export}, {"proof", event}, {"head"}} {
		i.succeed(t, append(append([]string{"audit"}, args...), "--key", key)...)
		out, code := i.run(t, append(append([]string{"audit"}, args...), "--key", other)...)
		assert.Equal(t, 1, code, "%s %s", args, out)
	}

	away := *i // without a data directory
	away.dir = t.TempDir()
	demo, err := os.ReadFile(filepath.Join(i.dir, "demo.key"))
	require.NoError(t, err)
	away.more = []string{"GALLEY_API_KEY=" + strings.TrimSpace(string(demo))}
	out := away.succeed(t, "audit", "verify")
	assert.Contains(t, out, "the public key is the server's own word")
	assert.Contains(t, out, " WHOLE: ")
	out, code := away.run(t, "audit", "verify", "--file", export)
	assert.Equal(t, 2, code)
	assert.Contains(t, out, "the log's public key is needed")
	away.more = append(away.more, "GALLEY_AUDIT_PUBLIC_KEY="+key)
	assert.NotContains(t, away.succeed(t, "audit", "verify"), "own word")
	assert.Contains(t, away.succeed(t, "audit", "verify", "--file", export), " WHOLE: ")
}

// TestAuditOfADatabaseThatWasChanged: what somebody did to the rows is named.
func TestAuditOfADatabaseThatWasChanged(t *testing.T) {
	t.Parallel()
	i := install(t)
	database := testkit.Postgres(t)
	i.more = []string{"GALLEY_DATABASE_URL=" + database}
	i.start(t)
	out := i.succeed(t, "audit", "verify", "--database")
	assert.Contains(t, out, "not compared with the tree heads that were published")
	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `ALTER TABLE audit.events DISABLE TRIGGER ALL;
		UPDATE audit.events SET actor_id = 'somebody else' WHERE sequence = 5; ALTER TABLE audit.events ENABLE ALWAYS TRIGGER append_only`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	var report verify.Report
	require.Eventually(t, func() bool { // the first tree head may not be published yet
		out, code := i.run(t, "audit", "verify", "--database", "-o", "json", "--nats-url", "nats://"+i.nats)
		found, rest, _ := strings.Cut(out, "\n")
		return code == 1 && rest == "galley: the audit log is not whole\n" && json.Unmarshal([]byte(found), &report) == nil && report.Published > 0
	}, patience, 50*time.Millisecond)
	require.Len(t, report.Findings, 1)
	assert.Equal(t, verify.ColumnDiffers, report.Findings[0].Code)
	assert.EqualValues(t, 5, report.Findings[0].Sequence)
	require.Eventually(t, func() bool {
		recorded := i.listed(t, "--nobody", "--action", "audit.verified")
		return len(recorded) > 0 && recorded[0].Outcome == "failed"
	}, patience, 50*time.Millisecond)
}

// TestNewAuditKey: under a new key the log goes on, and what was signed with the old one still holds.
func TestNewAuditKey(t *testing.T) {
	t.Parallel()
	i := install(t)
	p := i.start(t)
	head := filepath.Join(t.TempDir(), "head.txt")
	event := i.listed(t, "--action", "execution.completed")[0].EventID
	i.succeed(t, "audit", "proof", event) // which waits for a tree head
	i.succeed(t, "audit", "head", "--save", head)
	former := strings.TrimSpace(i.succeed(t, "audit", "key"))
	require.Zero(t, p.end(t, os.Interrupt))

	secret := newAuditKey(t, i)
	require.NoError(t, os.WriteFile(filepath.Join(i.dir, "audit.key"), []byte(secret), 0o600))
	i.more = []string{"GALLEY_AUDIT_FORMER_KEYS=" + former}
	i.start(t)
	i.succeed(t, "run", "the-hunter", "discovery", "--input", `{"search_query": "plumbers in seattle"}`)
	event = i.listed(t, "--action", "execution.completed")[0].EventID
	assert.NotContains(t, i.succeed(t, "audit", "proof", event), former)
	assert.NotEqual(t, former, strings.TrimSpace(i.succeed(t, "audit", "key")))
	assert.Contains(t, i.succeed(t, "audit", "consistency", head), "PROVED")
	for _, way := range []string{"--database", "--all"} {
		assert.Contains(t, i.succeed(t, "audit", "verify", way), " WHOLE: ", way)
	}
	i.more = nil
	assert.Contains(t, i.succeed(t, "audit", "verify", "--database"), " WHOLE: ", "heads of another name say nothing")
	out, code := i.run(t, "audit", "consistency", head)
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "not signed by this key")
}

// newAuditKey takes the key from standard output alone.
func newAuditKey(t *testing.T, i *installation) string {
	t.Helper()
	key, err := command(t.Context(), i.environment(), "audit", "new-key").Output()
	require.NoError(t, err)
	return string(key)
}
