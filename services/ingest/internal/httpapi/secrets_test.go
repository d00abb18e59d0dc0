package httpapi_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/secret"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
)

const secrets = "/api/v1/secrets" //nolint:gosec // a path

func (s *server) secret(t *testing.T, customer, name string) string {
	t.Helper()
	keys, err := secret.ParseKeys(secretsKey)
	require.NoError(t, err)
	value, err := secret.NewStore(s.bus.JS, keys, clock.System).Get(t.Context(), customer, name)
	require.NoError(t, err)
	return value
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	alice, bob := s.customer(t, "alice"), s.customer(t, "bob")
	var list struct{ Items []map[string]any }
	s.call(t, alice, "GET", secrets, nil).into(t, &list)
	require.Empty(t, list.Items)
	require.NotNil(t, list.Items)

	const value = "hunter2 \"ü\n"
	for _, name := range []string{"token", "pin"} {
		set := s.call(t, alice, "PUT", secrets+"/"+name, map[string]any{"value": value})
		require.Equal(t, []any{204, ""}, []any{set.status, string(set.body)})
	}
	require.Equal(t, value, s.secret(t, "alice", "token"))
	require.Equal(t, 204, s.call(t, operatorKey, "PUT", secrets+"/token?customer_id=bob", `{"value":"of bob"}`).status)
	require.Equal(t, "of bob", s.secret(t, "bob", "token"))

	listed := s.call(t, alice, "GET", secrets, nil)
	listed.into(t, &list)
	require.NotContains(t, string(listed.body), "hunter2")
	require.Len(t, list.Items, 2)
	for i, name := range []string{"pin", "token"} {
		require.Len(t, list.Items[i], 3)
		require.Equal(t, name, list.Items[i]["name"])
		require.WithinDuration(t, time.Now(), parse(t, list.Items[i]["created_at"]), time.Minute)
		require.Equal(t, list.Items[i]["created_at"], list.Items[i]["updated_at"])
	}
	require.Equal(t, 204, s.call(t, alice, "PUT", secrets+"/pin", `{"value":"1234"}`).status)
	s.call(t, operatorKey, "GET", secrets+"?customer_id=alice", nil).into(t, &list)
	require.True(t, parse(t, list.Items[0]["created_at"]).Before(parse(t, list.Items[0]["updated_at"])))

	require.Equal(t, 404, s.call(t, bob, "DELETE", secrets+"/pin", nil).status)
	require.Equal(t, 204, s.call(t, alice, "DELETE", secrets+"/pin", nil).status)
	gone := s.call(t, alice, "DELETE", secrets+"/pin", nil).problem(t)
	require.Equal(t, []any{404, `the secret "pin" is not set`}, []any{gone.Status, gone.Detail})
	s.call(t, bob, "GET", secrets, nil).into(t, &list)
	require.Len(t, list.Items, 1)
	for _, call := range []*reply{
		s.call(t, operatorKey, "PUT", secrets+"/token?customer_id=carol", `{"value":"x"}`),
		s.call(t, operatorKey, "GET", secrets+"?customer_id=carol", nil),
		s.call(t, operatorKey, "DELETE", secrets+"/token?customer_id=carol", nil),
	} {
		require.Equal(t, []any{404, `there is no customer "carol"`}, []any{call.status, call.problem(t).Detail})
	}
}

func parse(t *testing.T, value any) time.Time {
	t.Helper()
	text, _ := value.(string)
	parsed, err := time.Parse(time.RFC3339Nano, text)
	require.NoError(t, err)
	require.Equal(t, time.UTC, parsed.Location())
	return parsed
}

// The audit log learns that a secret was set, and nothing of its value.
func TestSecretActivities(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	alice := s.customer(t, "alice")
	require.Equal(t, 204, s.call(t, alice, "PUT", secrets+"/token", `{"value":"hunter2"}`).status)
	require.Equal(t, 204, s.call(t, alice, "DELETE", secrets+"/token", nil).status)
	require.Equal(t, 404, s.call(t, alice, "DELETE", secrets+"/token", nil).status)
	consumer, err := s.bus.JS.CreateConsumer(t.Context(), subject.StreamActivity, jetstream.ConsumerConfig{
		FilterSubject: subject.Activity("alice", "secret.*"), AckPolicy: jetstream.AckNonePolicy,
	})
	require.NoError(t, err)
	for _, told := range [][2]string{
		{"secret.set", `{"after":{"value":"[redacted]"}}`}, {"secret.deleted", `{"before":{"value":"[redacted]"}}`},
	} {
		message, err := consumer.Next(jetstream.FetchMaxWait(30 * time.Second))
		require.NoError(t, err)
		var activity event.Activity
		require.NoError(t, json.Unmarshal(message.Data(), &activity))
		require.Equal(t, []any{told[0], "secret", "token", "api_key", "success", told[1]}, []any{
			activity.ActionType, activity.ResourceType, activity.ResourceID, activity.Actor.Type, activity.Outcome, string(activity.Changes),
		})
		require.NotContains(t, string(message.Data()), "hunter2")
	}
	info, err := consumer.Info(t.Context())
	require.NoError(t, err)
	require.Zero(t, info.NumPending, "a refusal is no activity")
}

func TestSecretRefusals(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	const value = `hunter2-hunter2`
	for name, test := range map[string]struct {
		method, path, body string
		status             int
		places             string
	}{
		"no JSON":          {"PUT", "/a", value, 400, ""},
		"broken JSON":      {"PUT", "/a", `{"value":"` + value + `"hunter2}`, 400, ""},
		"not UTF-8":        {"PUT", "/a", `{"value":"` + value + "\xff\"}", 400, ""},
		"empty body":       {"PUT", "/a", "", 400, ""},
		"array":            {"PUT", "/a", `["` + value + `"]`, 422, ""},
		"missing":          {"PUT", "/a", `{}`, 422, "/value"},
		"null":             {"PUT", "/a", `{"value":null}`, 422, "/value"},
		"wrong type":       {"PUT", "/a", `{"value":["` + value + `"]}`, 422, "/value"},
		"empty":            {"PUT", "/a", `{"value":""}`, 422, "/value"},
		"too long":         {"PUT", "/a", `{"value":"` + value + strings.Repeat("x", 16<<10) + `"}`, 422, "/value"},
		"unknown fields":   {"PUT", "/a", `{"value":"` + value + `","Value":"` + value + `","x":"` + value + `"}`, 422, "/Value /x"},
		"name with dot":    {"PUT", "/a.b", `{"value":"` + value + `"}`, 422, "path:/name"},
		"name with dash":   {"PUT", "/a-b", `{"value":"` + value + `"}`, 422, "path:/name"},
		"name with digit":  {"PUT", "/1a", `{"value":"` + value + `"}`, 422, "path:/name"},
		"wildcard":         {"PUT", "/%3E", `{"value":"` + value + `"}`, 422, "path:/name"},
		"long name":        {"PUT", "/" + strings.Repeat("a", 65), `{"value":"` + value + `"}`, 422, "path:/name"},
		"delete, bad name": {"DELETE", "/*", "", 422, "path:/name"},
		"parameter":        {"PUT", "/a?value=x", `{"value":"` + value + `"}`, 422, "query:/value"},
		"other customer":   {"PUT", "/a?customer_id=bob", `{"value":"` + value + `"}`, 403, ""},
		"bad customer":     {"PUT", "/a?customer_id=*", `{"value":"` + value + `"}`, 422, "query:/customer_id"},
		"reading":          {"GET", "/a", "", 405, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := s.call(t, key, test.method, secrets+test.path, test.body)
			p := got.problem(t)
			require.Equal(t, []any{test.status, test.places}, []any{p.Status, places(p)}, string(got.body))
			require.NotContains(t, string(got.body), "unter")
		})
	}
}

func TestTooManySecrets(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	bucket, err := s.bus.JS.KeyValue(t.Context(), subject.BucketSecrets)
	require.NoError(t, err)
	for i := range secret.MaxSecrets {
		_, err := bucket.Put(t.Context(), subject.SecretKey("alice", "s"+strings.Repeat("x", i%60)+string(rune('a'+i/60))), []byte("{}"))
		require.NoError(t, err)
	}
	p := s.call(t, key, "PUT", secrets+"/more", `{"value":"x"}`).problem(t)
	require.Equal(t, []any{409, "a customer has at most 200 secrets"}, []any{p.Status, p.Detail})
}

func TestNoKeyForSecrets(t *testing.T) {
	t.Parallel()
	s := newServerWith(t, "")
	key := s.customer(t, "alice")
	ready(t, s, "billing", "executor", "audit")
	require.Equal(t, 200, s.call(t, "", "GET", "/ready", nil).status)
	for _, got := range []*reply{
		s.call(t, key, "PUT", secrets+"/token", `{"value":"hunter2"}`),
		s.call(t, key, "GET", secrets, nil),
		s.call(t, key, "DELETE", secrets+"/token", nil),
	} {
		p := got.problem(t)
		require.Equal(t, []any{503, string(problem.Unavailable), false, ""}, []any{p.Status, p.Code, p.Retryable, got.header.Get("Retry-After")})
		require.Contains(t, p.Detail, "GALLEY_SECRETS_KEY")
	}
	require.NotContains(t, s.log.String(), "hunter2")
}

// Whatever fails on the way, the value is nowhere but in the bucket, sealed: not in the log at its most talkative, not in an answer,
// not in the database, not in a stream.
func TestSecretValuesAreNowhere(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	const body = `{"value":"hunter2-hunter2"}`
	require.Equal(t, 204, s.call(t, key, "PUT", secrets+"/token", body).status)
	streams := s.bus.JS.ListStreams(t.Context())
	for info := range streams.Info() {
		stream, err := s.bus.JS.Stream(t.Context(), info.Config.Name)
		require.NoError(t, err)
		for sequence := uint64(1); sequence <= info.State.LastSeq; sequence++ {
			message, err := stream.GetMsg(t.Context(), sequence)
			if err == nil {
				require.NotContains(t, string(message.Data), "hunter2", message.Subject)
			}
		}
	}
	require.NoError(t, streams.Err())
	var held int
	require.NoError(t, s.admin.QueryRow(t.Context(), `SELECT count(*) FROM ingest.outbox AS o WHERE o::text LIKE '%hunter2%'`).Scan(&held))
	require.Zero(t, held)

	require.NoError(t, s.bus.JS.DeleteKeyValue(t.Context(), subject.BucketSecrets))
	got := s.call(t, key, "PUT", secrets+"/token", body)
	require.Equal(t, 503, got.status)
	require.NotContains(t, string(got.body), "hunter2")
	require.Contains(t, s.log.String(), "request failed")
	require.NotContains(t, s.log.String(), "hunter2")
}
