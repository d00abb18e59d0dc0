package catalogue_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
	"github.com/galley-engine/galley/services/ingest/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// world is a migrated database and a provisioned NATS server, with any number of processes on them.
type world struct {
	url  string
	nats *testkit.NATSServer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return worldOn(t, testkit.Postgres(t))
}

func worldOn(t *testing.T, url string) *world {
	t.Helper()
	w := &world{url: url, nats: testkit.NATS(t)}
	require.NoError(t, postgres.Migrate(t.Context(), url, migrations.Schema()))
	require.NoError(t, w.bus(t).Provision(t.Context()))
	return w
}

func (w *world) bus(t *testing.T) *bus.Bus {
	t.Helper()
	messages, err := bus.New(w.nats.Conn(t), bus.Settings{Replicas: 1, JournalRetention: 72 * time.Hour}, zerolog.Nop())
	require.NoError(t, err)
	return messages
}

func (w *world) pool(t *testing.T, role string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.PoolConfig{URL: w.url, Role: role, MaxConns: 8})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// process gives the catalogue of one process, which runs until the test ends.
func (w *world) process(t *testing.T, now clock.Clock, wrap ...func(jetstream.JetStream) jetstream.JetStream) *catalogue.Catalogue {
	t.Helper()
	messages := w.bus(t)
	js := messages.JS
	for _, around := range wrap {
		js = around(js)
	}
	events := outbox.New(w.pool(t, migrations.Role), messages.JS, "ingest", zerolog.Nop())
	c, err := catalogue.New(catalogue.Deps{
		Pool: w.pool(t, migrations.Reader), Conn: messages.Conn, JS: js, Outbox: events, Clock: now,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- lifecycle.Run(ctx, c.Run, events.Run) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	return c
}

func author() catalogue.Author {
	return catalogue.Author{Actor: event.Actor{Type: "operator", ID: "operator"}}
}

// customer makes a customer with an agent "cook" and gives its API key.
func customer(t *testing.T, c *catalogue.Catalogue, id string) string {
	t.Helper()
	_, key, err := c.CreateCustomer(t.Context(), catalogue.Customer{CustomerID: id, Name: "Name of " + id}, author())
	require.NoError(t, err)
	_, err = c.CreateAgent(t.Context(), catalogue.Agent{CustomerID: id, AgentID: "cook"}, author())
	require.NoError(t, err)
	return key.Secret
}

// soup is a recipe whose content is named by the text.
func soup(content string) []byte {
	return fmt.Appendf(nil, `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: cook, id: soup, description: %q}
spec:
  steps:
    - id: remember
      uses: state.set
      with: {said: "${vars.greeting}"}
`, content)
}

func requireCode(t *testing.T, code problem.Code, err error) {
	t.Helper()
	var refused *problem.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, code, refused.Code, err.Error())
}

func TestCustomersAndKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.process(t, clock.System)
	secret := customer(t, c, "alice")
	require.Regexp(t, `^gk_[A-Za-z0-9_-]{43}$`, secret)

	_, _, err := c.CreateCustomer(t.Context(), catalogue.Customer{CustomerID: "alice", Name: "again"}, author())
	requireCode(t, problem.Conflict, err)
	_, err = c.CreateAgent(t.Context(), catalogue.Agent{CustomerID: "alice", AgentID: "cook"}, author())
	requireCode(t, problem.Conflict, err)
	_, err = c.CreateAgent(t.Context(), catalogue.Agent{CustomerID: "nobody", AgentID: "cook"}, author())
	requireCode(t, problem.NotFound, err)
	_, err = c.CreateKey(t.Context(), "nobody", "k", author())
	requireCode(t, problem.NotFound, err)
	requireCode(t, problem.NotFound, c.SetVars(t.Context(), "nobody", []byte("{}"), author()))

	second, err := c.CreateKey(t.Context(), "alice", "second", author())
	require.NoError(t, err)
	for _, known := range []string{secret, second.Secret} {
		identity, err := c.Authenticate(t.Context(), known)
		require.NoError(t, err)
		require.Equal(t, "alice", identity.Customer)
	}
	for _, unknown := range []string{"", "gk_", secret[:len(secret)-1], secret + "x", "gk_" + strings.Repeat("A", 43), "xx_" + secret[3:]} {
		_, err := c.Authenticate(t.Context(), unknown)
		requireCode(t, problem.Unauthenticated, err)
	}
}

func TestRevokedKeyEndsWithinSeconds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := testkit.NewClock(time.Now())
	c := w.process(t, now.Now)
	secret := customer(t, c, "alice")
	_, err := c.Authenticate(t.Context(), secret)
	require.NoError(t, err)
	_, err = w.pool(t, "postgres").Exec(t.Context(), `UPDATE ingest.api_keys SET revoked_at = now()`)
	require.NoError(t, err)
	now.Advance(5 * time.Second)
	_, err = c.Authenticate(t.Context(), secret)
	requireCode(t, problem.Unauthenticated, err)
}

func TestKeysAreRevokedForGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, other := w.process(t, clock.System), w.process(t, clock.System)
	first := customer(t, c, "alice")
	second, err := c.CreateKey(t.Context(), "alice", "second", author())
	require.NoError(t, err)
	customer(t, c, "bob")
	for _, process := range []*catalogue.Catalogue{c, other} {
		_, err = process.Authenticate(t.Context(), second.Secret)
		require.NoError(t, err)
	}
	requireCode(t, problem.NotFound, c.RevokeKey(t.Context(), "bob", second.KeyID, author()))
	requireCode(t, problem.NotFound, c.RevokeKey(t.Context(), "alice", "key_of_nobody", author()))
	for range 2 {
		require.NoError(t, c.RevokeKey(t.Context(), "alice", second.KeyID, author()))
	}
	_, err = c.Authenticate(t.Context(), second.Secret)
	requireCode(t, problem.Unauthenticated, err)
	require.Eventually(t, func() bool {
		_, err := other.Authenticate(t.Context(), second.Secret)
		return err != nil
	}, 30*time.Second, time.Millisecond, "other processes hear of it")
	_, err = c.Authenticate(t.Context(), first)
	require.NoError(t, err)

	page, more, err := c.Keys(t.Context(), "alice", "", 10)
	require.NoError(t, err)
	require.False(t, more)
	revoked := map[string]bool{}
	for _, key := range page {
		revoked[key.Name] = key.RevokedAt != nil
	}
	require.Equal(t, map[string]bool{"first key": false, "second": true}, revoked)
	page, more, err = c.Keys(t.Context(), "alice", "", 1)
	require.NoError(t, err)
	require.Equal(t, []any{1, true}, []any{len(page), more})
	_, _, err = c.Keys(t.Context(), "carol", "", 1)
	requireCode(t, problem.NotFound, err)
	err = postgres.Transact(t.Context(), w.pool(t, migrations.Reader), "alice", func(tx pgx.Tx) error {
		tag, err := tx.Exec(t.Context(), `UPDATE ingest.api_keys SET revoked_at = now() + interval '1 year' WHERE key_id = $1`, second.KeyID)
		require.Zero(t, tag.RowsAffected(), "what is revoked stays revoked")
		return err
	})
	require.NoError(t, err)
}

func TestInvalidFieldsAreNamed(t *testing.T) {
	t.Parallel()
	c := newWorld(t).process(t, clock.System)
	long := strings.Repeat("x", 201)
	for name, test := range map[string]struct {
		call func() error
		want []string
	}{
		"customer": {func() error {
			_, _, err := c.CreateCustomer(t.Context(), catalogue.Customer{
				CustomerID: "a.b", Name: long, Vars: json.RawMessage(`{"1":1,"a/b":2,"ok":3}`),
			}, author())
			return err
		}, []string{"/customer_id", "/name", "/vars/1", "/vars/a~1b"}},
		"vars are no object": {func() error { return c.SetVars(t.Context(), "a", []byte("null"), author()) }, []string{""}},
		"vars are too large": {func() error {
			return c.SetVars(t.Context(), "a", []byte(`{"a":"`+strings.Repeat("x", 32<<10)+`"}`), author())
		}, []string{""}},
		"agent": {func() error {
			_, err := c.CreateAgent(t.Context(), catalogue.Agent{
				CustomerID: "a", AgentID: "ü", Name: "\x00", Description: "line\nbreak",
			}, author())
			return err
		}, []string{"/agent_id", "/name", "/description"}},
		"key": {func() error {
			_, err := c.CreateKey(t.Context(), "*", long, author())
			return err
		}, []string{"/customer_id", "/name"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.call()
			requireCode(t, problem.InvalidRequest, err)
			var invalid *catalogue.InvalidError
			require.ErrorAs(t, err, &invalid)
			paths := make([]string, 0, len(invalid.Violations))
			for _, violation := range invalid.Violations {
				paths = append(paths, violation.Path)
			}
			require.Equal(t, test.want, paths)
		})
	}
}

func TestActivitiesTellWhatWasDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.process(t, clock.System)
	customer(t, c, "alice")
	_, _, err := c.Publish(t.Context(), "alice", soup("a"), author())
	require.NoError(t, err)
	require.NoError(t, c.SetVars(t.Context(), "alice", []byte(`{"greeting":"secret value"}`), author()))

	js := w.bus(t).JS
	consumer, err := js.OrderedConsumer(t.Context(), subject.StreamActivity, jetstream.OrderedConsumerConfig{})
	require.NoError(t, err)
	var actions []string
	for len(actions) < 5 {
		message, err := consumer.Next(jetstream.FetchMaxWait(30 * time.Second))
		require.NoError(t, err)
		var activity event.Activity
		require.NoError(t, json.Unmarshal(message.Data(), &activity))
		require.Equal(t, subject.Activity("alice", activity.ActionType), message.Subject())
		require.Equal(t, "operator:operator", activity.Actor.String())
		require.NotContains(t, string(message.Data()), "secret value")
		actions = append(actions, activity.ActionType+" "+activity.ResourceID)
	}
	require.Regexp(t, `^\[customer.created alice api_key.created key_[0-9a-f]{16} agent.created cook `+
		`recipe.published cook/soup customer.updated alice\]$`, fmt.Sprint(actions))
}
