package leaf_test

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/audit/internal/leaf"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

var update = flag.Bool("update", false, "write the golden files") //nolint:gochecknoglobals // a flag of the test binary

const (
	execution = "0192f0c1-2b3c-7d4e-8f50-112233445566"
	trace     = "4bf92f3577b34da6a3ce929d0e0e4736"
)

// stored is when the stream stored the events of the tests, a second after they happened.
func stored() time.Time { return time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC) }

func journalEvent(kind event.Kind, data string, headers ...string) leaf.Event {
	e := leaf.Event{
		Stream: subject.StreamExecutions, Sequence: 17, Stored: stored(), Data: []byte(data),
		Subject: subject.Execution{Customer: "cust_001", ID: execution}.Event(string(kind), ""),
		Header: nats.Header{
			event.HeaderID: {execution + "/" + string(kind)}, event.HeaderType: {kind.Type()},
			event.HeaderTime: {"2026-01-02T03:04:05.12345678Z"}, event.HeaderActor: {"api_key:key_42"},
			event.HeaderTraceParent: {"00-" + trace + "-00f067aa0ba902b7-01"}, event.HeaderCredits: {"80000"},
		},
	}
	return with(e, headers...)
}

// with sets headers, given as names and values by turns; an empty value removes the header.
func with(e leaf.Event, headers ...string) leaf.Event {
	for pair := range slices.Chunk(headers, 2) {
		if name, value := pair[0], pair[1]; value == "" {
			e.Header.Del(name)
		} else {
			e.Header.Set(name, value)
		}
	}
	return e
}

func activityEvent(t *testing.T, data any, name, kind string) leaf.Event {
	t.Helper()
	encoded, err := json.Marshal(data)
	require.NoError(t, err)
	return leaf.Event{
		Stream: subject.StreamActivity, Sequence: 4, Stored: stored(), Subject: name, Data: encoded,
		Header: nats.Header{
			event.HeaderID: {"0192f0c1-0000-7000-8000-000000000001"}, event.HeaderType: {kind},
			event.HeaderTime: {"2026-01-02T04:04:05+01:00"}, event.HeaderActor: {"operator:root"},
		},
	}
}

func published(t *testing.T) leaf.Event {
	t.Helper()
	return activityEvent(t, event.Activity{
		CustomerID: "cust_001", ActionType: "recipe.published", ResourceType: "recipe", ResourceID: "the-hunter/discovery",
		Actor: event.Actor{Type: "operator", ID: `Zoë "root" \o/`}, Changes: json.RawMessage(`{"version":2}`), Outcome: "success",
		OccurredAt: stored(),
	}, subject.Activity("cust_001", "recipe.published"), event.TypeActivity)
}

func rejected(t *testing.T, customer, messageID string) leaf.Event {
	t.Helper()
	return activityEvent(t, event.Rejection{
		CustomerID: customer, Subject: subject.RunRequest(customer), MessageID: messageID, Sequence: 9,
		Code: problem.InputInvalid, Message: "the input is wrong", RejectedAt: stored(),
	}, subject.RunRejected(customer), event.TypeRunRejected)
}

func TestGolden(t *testing.T) {
	t.Parallel()
	cases := map[string]leaf.Event{
		"accepted": journalEvent(event.Accepted, `{"execution_id":"x"}`),
		"debited":  journalEvent(event.Funded, `{"debit":{}}`, event.HeaderActor, "", event.HeaderTraceParent, ""),
		"completed": journalEvent(event.Completed, `{"status":"success"}`, event.HeaderStatus, "success",
			event.HeaderCredits, "-9223372036854775808", event.HeaderSteps, "find=succeeded,mail=failed:TIMEOUT"),
		"failed": journalEvent(event.Completed, `{"status":"failed"}`, event.HeaderStatus, "failed",
			event.HeaderCode, "INSUFFICIENT_CREDITS", event.HeaderCredits, "0"),
		"activity":  published(t),
		"rejected":  rejected(t, "cust_001", "request-1"),
		"malformed": journalEvent(event.Accepted, "\x00\xff", event.HeaderTime, "yesterday"),
	}
	for name, input := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			made, payload := leaf.Of(&input)
			made.CustomerSequence, made.Digest = 1, leaf.Digest(make([]byte, leaf.SaltSize), payload.Data)
			if name == "completed" {
				made.CustomerSequence, made.Previous = 3, tree.LeafHash([]byte("the one before"))
			}
			got := string(made.AppendJSON(nil)) + "\n"
			file := filepath.Join("testdata", name+".json")
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.Equal(t, string(want), got)
			requireDecodes(t, &made)
		})
	}
}

// decoded is the canonical form as any reader of JSON sees it.
type decoded struct {
	V                int       `json:"v"`
	EventID          string    `json:"event_id"`
	Type             string    `json:"type"`
	Time             time.Time `json:"time"`
	CustomerID       string    `json:"customer_id"`
	CustomerSequence int64     `json:"customer_sequence"`
	Previous         string    `json:"previous"`
	ActorType        string    `json:"actor_type"`
	ActorID          string    `json:"actor_id"`
	ActionType       string    `json:"action_type"`
	ResourceType     string    `json:"resource_type"`
	ResourceID       string    `json:"resource_id"`
	Outcome          string    `json:"outcome"`
	ErrorCode        string    `json:"error_code"`
	Microcredits     *int64    `json:"microcredits"`
	Steps            string    `json:"steps"`
	TraceID          string    `json:"trace_id"`
	DataDigest       string    `json:"data_digest"`
}

func requireDecodes(t *testing.T, made *leaf.Leaf) {
	t.Helper()
	encoded := made.AppendJSON(nil)
	decoder := json.NewDecoder(strings.NewReader(string(encoded)))
	decoder.DisallowUnknownFields()
	var got decoded
	require.NoError(t, decoder.Decode(&got), "%s", encoded)
	want := decoded{
		V: leaf.Version, EventID: made.EventID, Type: made.Type, Time: got.Time, CustomerID: made.CustomerID,
		CustomerSequence: made.CustomerSequence, Previous: got.Previous, Steps: made.Steps,
		ActorType: made.Actor.Type, ActorID: made.Actor.ID, ActionType: made.Action, ResourceType: made.ResourceType,
		ResourceID: made.ResourceID, Outcome: made.Outcome, ErrorCode: made.ErrorCode, Microcredits: got.Microcredits,
		TraceID: made.TraceID, DataDigest: hex.EncodeToString(made.Digest[:]),
	}
	require.Equal(t, want, got)
	require.True(t, made.Time.Equal(got.Time), "%v is not %v", got.Time, made.Time)
	require.Equal(t, made.Priced, got.Microcredits != nil)
	if made.Priced {
		require.Equal(t, made.Credits, *got.Microcredits)
	}
	if made.Previous != (tree.Hash{}) {
		require.Equal(t, hex.EncodeToString(made.Previous[:]), got.Previous)
	}
	parsed, err := leaf.Parse(encoded)
	require.NoError(t, err)
	require.Equal(t, encoded, parsed.AppendJSON(nil))
}

func TestEscaping(t *testing.T) {
	t.Parallel()
	made := leaf.Leaf{Version: leaf.Version, ResourceID: "a\"b\\c\x00\x1f\n\té\u2028<&>\xff\U0001F600", Time: stored()}
	encoded := string(made.AppendJSON(nil))
	assert.Contains(t, encoded, `"resource_id":"a\"b\\c\u0000\u001f\u000a\u0009é`+"\u2028<&>\uFFFD\U0001F600"+`"`)
	made.ResourceID = strings.ToValidUTF8(made.ResourceID, "\uFFFD")
	requireDecodes(t, &made)
}

// TestActivityOfNobody: what the operator does may be about no customer.
func TestActivityOfNobody(t *testing.T) {
	t.Parallel()
	made, _ := leaf.Of(new(activityEvent(t, event.Activity{
		ActionType: "deadletter.discarded", ResourceType: "deadletter", ResourceID: "7", Outcome: "success", OccurredAt: stored(),
	}, subject.Activity("", "deadletter.discarded"), event.TypeActivity)))
	assert.Equal(t, []string{"deadletter.discarded", ""}, []string{made.Action, made.CustomerID})
	requireDecodes(t, &made)
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	elsewhere := journalEvent(event.Accepted, "{}")
	elsewhere.Subject = strings.Replace(elsewhere.Subject, subject.Shard("cust_001"), "99", 1)
	wild := journalEvent(event.Accepted, "{}")
	wild.Subject = "galley.execution.00.cüst." + execution + ".accepted"
	notJSON, mismatched := published(t), published(t)
	notJSON.Data = []byte("{")
	mismatched.Subject = subject.Activity("cust_002", "recipe.published")
	none := leaf.Event{Stream: "ACTIVITY", Sequence: 1, Stored: stored(), Subject: "galley.activity.\xff"}
	cases := []struct {
		name, customer, reason string
		event                  leaf.Event
	}{
		{"no id", "cust_001", "ce-id", journalEvent(event.Accepted, "{}", event.HeaderID, "")},
		{"long id", "cust_001", "ce-id", journalEvent(event.Accepted, "{}", event.HeaderID, strings.Repeat("x", 201))},
		{"binary id", "cust_001", "ce-id", journalEvent(event.Accepted, "{}", event.HeaderID, "\x00")},
		{"other id", "cust_001", "is not the event's", journalEvent(event.Accepted, "{}", event.HeaderID, "other/accepted")},
		{"other type", "cust_001", "ce-type", journalEvent(event.Accepted, "{}", event.HeaderType, event.Funded.Type())},
		{"unclear time", "cust_001", "ce-time", journalEvent(event.Accepted, "{}", event.HeaderTime, "12:00")},
		{"time before time", "cust_001", "ce-time", journalEvent(event.Accepted, "{}", event.HeaderTime, "0001-01-01T00:00:00+01:00")},
		{"amount", "cust_001", "ce-microcredits", journalEvent(event.Accepted, "{}", event.HeaderCredits, "0.5")},
		{"no status", "cust_001", "ce-status", journalEvent(event.Completed, "{}")},
		{"status", "cust_001", "ce-status", journalEvent(event.Completed, "{}", event.HeaderStatus, "running")},
		{"kind", "cust_001", "not logged", journalEvent(event.Started, "{}")},
		{"unknown kind", "cust_001", "unknown kind", journalEvent("exploded", "{}")},
		{"shard", "cust_001", "not that of an execution", elsewhere},
		{"customer", "", "not that of an execution", wild},
		{"activity data", "cust_001", "not JSON", notJSON},
		{"activity subject", "cust_002", "not that of the activity", mismatched},
		{"id of an execution", "cust_001", "kept for executions", with(published(t), event.HeaderID, execution+"/completed")},
		{"id of a place", "cust_001", "kept for malformed", with(rejected(t, "cust_001", ""), event.HeaderID, "ACTIVITY/1/0011223344556677")},
		{"nothing", "", "ce-id", none},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			made, payload := leaf.Of(&test.event)
			assert.Equal(t, leaf.ActionMalformed, made.Action)
			assert.Equal(t, test.customer, made.CustomerID)
			assert.Equal(t, stored(), made.Time)
			again, repeated := leaf.Of(&test.event)
			assert.Equal(t, []any{made, payload}, []any{again, repeated})
			requireDecodes(t, &made)
			assert.True(t, payload.Kept)
			var said leaf.Malformed
			require.NoError(t, json.Unmarshal(payload.Data, &said))
			assert.Contains(t, said.Reason, test.reason)
			assert.Equal(t, strings.ToValidUTF8(test.event.Subject, "\uFFFD"), said.Subject)
			assert.Equal(t, test.event.Data, said.Data)
		})
	}
}

func TestForeignTextIsBounded(t *testing.T) {
	t.Parallel()
	made, _ := leaf.Of(new(rejected(t, "not a customer", strings.Repeat("ä", 1000)+"\x00")))
	assert.Equal(t, leaf.ActionRejected, made.Action)
	assert.Empty(t, made.CustomerID)

	input := journalEvent(event.Accepted, "{}", event.HeaderActor, "a\nb:"+strings.Repeat("x", 300), event.HeaderTraceParent, "00-zz")
	made, _ = leaf.Of(&input)
	assert.Equal(t, leaf.ActionAccepted, made.Action)
	assert.Equal(t, event.Actor{Type: "a\uFFFDb", ID: strings.Repeat("x", 256)}, made.Actor)
	assert.Empty(t, made.TraceID)

	made, _ = leaf.Of(new(with(rejected(t, "cust_001", ""), event.HeaderTime, "", event.HeaderActor, "somebody")))
	assert.Equal(t, "RUNS/9", made.ResourceID)
	signal := activityEvent(t, event.Rejection{CustomerID: "cust_001", Subject: "galley.signal.cust_001.e1.paid", MessageID: "x", Sequence: 4},
		subject.RunRejected("cust_001"), event.TypeRunRejected)
	of, _ := leaf.Of(&signal)
	assert.Equal(t, "SIGNALS/4", of.ResourceID)
	assert.Equal(t, stored(), made.Time)
	assert.Equal(t, event.Actor{ID: "somebody"}, made.Actor)
}

// TestFreeTextIsNotInTheLeaf: what somebody writes freely can be erased.
func TestFreeTextIsNotInTheLeaf(t *testing.T) {
	t.Parallel()
	const name = "ada.lovelace"
	rejection := rejected(t, "cust_001", name+"@example.com")
	malformed := journalEvent(event.Accepted, `{"of":"`+name+`"}`, event.HeaderID, name, event.HeaderType, name)
	elsewhere := published(t)
	elsewhere.Subject += "." + name
	for _, input := range []leaf.Event{rejection, malformed, elsewhere} {
		made, payload := leaf.Of(&input)
		assert.NotContains(t, string(made.AppendJSON(nil)), name)
		assert.Contains(t, string(payload.Data), name)
		assert.True(t, payload.Kept)
	}
}

// FuzzOf: whatever is published, its leaf is JSON that says what the leaf says, and is text that Postgres stores.
func FuzzOf(f *testing.F) {
	f.Add("galley.execution.00.c.e.accepted", "e/accepted", event.Accepted.Type(), "2026-01-02T03:04:05Z", "a:b", "7", []byte(`{}`))
	f.Add("galley.run.rejected.c", "1", event.TypeRunRejected, "", "", "", []byte(`{"message_id":"\u0000","sequence":3}`))
	f.Add("galley.activity.c.a.b", "1", event.TypeActivity, "", "", "", []byte(`{"customer_id":"c","action_type":"a.b","outcome":"\ud800"}`))
	f.Fuzz(func(t *testing.T, name, id, kind, when, actor, credits string, data []byte) {
		input := leaf.Event{
			Stream: "S", Sequence: 1, Stored: stored(), Subject: name, Data: data,
			Header: nats.Header{
				event.HeaderID: {id}, event.HeaderType: {kind}, event.HeaderTime: {when}, event.HeaderActor: {actor},
				event.HeaderCredits: {credits}, event.HeaderSteps: {kind}, event.HeaderStatus: {actor}, event.HeaderCode: {id}, event.HeaderTraceParent: {when},
			},
		}
		made, _ := leaf.Of(&input)
		requireDecodes(t, &made)
		for _, text := range []string{
			made.EventID, made.Type, made.CustomerID, made.Actor.Type, made.Actor.ID, made.Action, made.ResourceType, made.ResourceID,
			made.Outcome, made.ErrorCode, made.TraceID,
		} {
			require.True(t, utf8.ValidString(text))
			require.False(t, strings.ContainsFunc(text, unicode.IsControl), "%q", text)
			require.LessOrEqual(t, len(text), 256)
		}
		require.NotEmpty(t, made.EventID)
	})
}

func BenchmarkOf(b *testing.B) {
	input := journalEvent(event.Completed, strings.Repeat("x", 2000), event.HeaderStatus, "success")
	var buffer []byte
	b.ReportAllocs()
	for b.Loop() {
		made, _ := leaf.Of(&input)
		buffer = made.AppendJSON(buffer[:0])
	}
}

// TestParseTakesTheCanonicalFormOnly: what a verifier accepts has one spelling, also in the first version.
func TestParseTakesTheCanonicalFormOnly(t *testing.T) {
	t.Parallel()
	made, _ := leaf.Of(new(published(t)))
	made.CustomerSequence, made.Previous = 2, tree.LeafHash([]byte("x"))
	good := string(made.AppendJSON(nil))
	_, err := leaf.Parse([]byte(good))
	require.NoError(t, err)
	old := made
	old.Version, old.Subject, old.Reason = leaf.Unchained, "galley.activity.x", "no id"
	parsed, err := leaf.Parse(old.AppendJSON(nil))
	require.NoError(t, err)
	assert.Equal(t, []any{leaf.Unchained, "no id"}, []any{parsed.Version, parsed.Reason})
	assert.Contains(t, string(old.AppendJSON(nil)), `"data_sha256"`)
	for name, changed := range map[string]string{
		"white space":        strings.Replace(good, `,"type"`, `, "type"`, 1),
		"member more":        strings.Replace(good, `{"v":2`, `{"v":2,"x":1`, 1),
		"member twice":       strings.Replace(good, `{"v":2`, `{"v":2,"v":2`, 1),
		"other order":        strings.Replace(good, `"actor_type":"operator",`, ``, 1),
		"other escapes":      strings.Replace(good, `Zoë`, `Zo\u00eb`, 1),
		"uppercase digest":   strings.ToUpper(good[len(good)-20:]),
		"unknown version":    strings.Replace(good, `{"v":2`, `{"v":3`, 1),
		"something after it": good + "\n",
		"member of before":   strings.Replace(good, `,"data_digest"`, `,"reason":"no id","data_digest"`, 1),
		"nothing":            "",
	} {
		_, err := leaf.Parse([]byte(changed))
		assert.Error(t, err, name)
	}
}
