package webhook_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/testkit"
	standard "github.com/galley-engine/galley/pkg/webhook"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/tree"
	"github.com/galley-engine/galley/services/audit/internal/webhook"
	"github.com/galley-engine/galley/services/audit/migrations"
)

const (
	patience = 60 * time.Second
	tick     = 10 * time.Millisecond
)

func TestMain(m *testing.M) { testkit.Main(m) }

type world struct {
	*audittest.Env

	writers *pgxpool.Pool
	store   *webhook.Store
	// warned gets the warnings of the deliverer.
	warned chan string
	// seconds is the time, in seconds after the start.
	seconds atomic.Int64
}

func (w *world) now() time.Time {
	return time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC).Add(time.Duration(w.seconds.Load()) * time.Second)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Env: audittest.New(t), warned: make(chan string, 100)}
	w.writers = w.Pool(t, migrations.Role)
	w.begin(t)
	return w
}

// begin makes the store, with the key that the log has now.
func (w *world) begin(t *testing.T) {
	t.Helper()
	events := outbox.New(w.writers, w.Bus.JS, query.ServiceAudit, zerolog.Nop())
	w.store = webhook.NewStore(w.Pool(t, migrations.Webhook), w.Key, events, w.now)
}

func (w *world) deliver(t *testing.T, allowed ...string) (stop func()) {
	t.Helper()
	network, err := outbound.New(allowed, w.now)
	require.NoError(t, err)
	t.Cleanup(network.Close)
	log := zerolog.New(zerolog.NewTestWriter(t)).Hook(zerolog.HookFunc(func(_ *zerolog.Event, level zerolog.Level, message string) {
		if level == zerolog.WarnLevel {
			w.warned <- message
		}
	}))
	return audittest.Start(t, webhook.NewDeliverer(w.writers, w.Key, network, w.now, log).Often().Run)
}

// grow signs a head of the size.
func (w *world) grow(t *testing.T, size int64) {
	t.Helper()
	head := tree.Head{Origin: w.Key.Signer.Name(), Size: size, Root: tree.LeafHash(fmt.Append(nil, size)), Time: w.now()}
	signed, err := head.Sign(w.Key.Signer)
	require.NoError(t, err)
	_, err = w.DB.Exec(t.Context(), `INSERT INTO audit.tree_heads (size, signed_at, note) VALUES ($1, $2, $3)`, size, w.now(), string(signed))
	require.NoError(t, err)
}

func (w *world) show(t *testing.T, customer string) query.AuditWebhook {
	t.Helper()
	hook, err := w.store.Show(t.Context(), query.AuditWebhookRequest{CustomerID: customer})
	require.NoError(t, err)
	return hook
}

// receiver takes tree heads, with the status that it is told.
type receiver struct {
	*httptest.Server

	status atomic.Int64
	after  string
	got    chan delivery
}

type delivery struct {
	id, timestamp, signature string
	body                     []byte
	size                     int64
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{got: make(chan delivery, 100)}
	r.status.Store(http.StatusNoContent)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		assert.NoError(t, err)
		var told struct {
			Type string         `json:"type"`
			Data event.TreeHead `json:"data"`
		}
		assert.NoError(t, json.Unmarshal(body, &told))
		assert.Equal(t, webhook.Type, told.Type)
		header := request.Header
		r.got <- delivery{
			header.Get(standard.HeaderID), header.Get(standard.HeaderTimestamp), header.Get(standard.HeaderSignature), body, told.Data.Size,
		}
		if r.after != "" {
			w.Header().Set("Retry-After", r.after)
		}
		w.WriteHeader(int(r.status.Load()))
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) host() string { return strings.TrimPrefix(r.URL, "http://") }

func (w *world) set(t *testing.T, request query.AuditWebhookSetRequest) query.AuditWebhookSetReply {
	t.Helper()
	reply, err := w.store.Set(t.Context(), request)
	require.NoError(t, err)
	return reply
}

func TestDelivery(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	set := query.AuditWebhookSetRequest{CustomerID: "cust_001", URL: r.URL + "/hook?token=hush", IntervalSeconds: 60}
	reply := w.set(t, set)
	stop := w.deliver(t, r.host())
	w.grow(t, 10)
	got := <-r.got
	assert.EqualValues(t, 10, got.size)
	key, err := standard.ParseSecret(reply.Secret)
	require.NoError(t, err)
	again, err := (&standard.Message{Address: mustParse(t, r.URL), ID: got.id, At: w.now(), Body: got.body}).Request(t.Context(), key)
	require.NoError(t, err)
	assert.Equal(t, again.Header.Get(standard.HeaderSignature), got.signature)

	// At most once in an interval, and only when the log has grown.
	delivered := func(size int64) func() bool {
		return func() bool { return w.show(t, "cust_001").DeliveredSize == size }
	}
	require.Eventually(t, delivered(10), patience, tick)
	w.grow(t, 20)
	w.grow(t, 30)
	w.seconds.Store(59)
	time.Sleep(50 * time.Millisecond) //nolint:forbidigo // nothing tells that nothing happens
	assert.Empty(t, r.got)
	w.seconds.Store(60)
	assert.EqualValues(t, 30, (<-r.got).size)
	require.Eventually(t, delivered(30), patience, tick)
	w.seconds.Store(600)
	time.Sleep(50 * time.Millisecond) //nolint:forbidigo // see above
	assert.Empty(t, r.got)

	// A failure is told, and tried again with more and more patience, with the newest head.
	r.status.Store(http.StatusInternalServerError)
	w.grow(t, 40)
	first := <-r.got
	require.Eventually(t, func() bool { return w.show(t, "cust_001").Failures == 1 }, patience, tick)
	hook := w.show(t, "cust_001")
	assert.Equal(t, "the other side answered 500 Internal Server Error", hook.LastError)
	assert.Equal(t, w.now().Add(30*time.Second), hook.NextAttempt)
	w.seconds.Add(30)
	second := <-r.got
	assert.Equal(t, first.id, second.id, "it is the same message")
	require.Eventually(t, func() bool { return w.show(t, "cust_001").Failures == 2 }, patience, tick)
	assert.Equal(t, w.now().Add(time.Minute), w.show(t, "cust_001").NextAttempt)
	stop()

	// What failed before a restart is not forgotten.
	w.grow(t, 50)
	r.status.Store(http.StatusOK)
	w.seconds.Add(60)
	w.deliver(t, r.host())
	third := <-r.got
	assert.EqualValues(t, 50, third.size)
	assert.NotEqual(t, first.id, third.id)
	require.Eventually(t, delivered(50), patience, tick)
	hook = w.show(t, "cust_001")
	assert.Equal(t, query.AuditWebhook{
		URL: set.URL, IntervalSeconds: 60, CreatedAt: hook.CreatedAt, UpdatedAt: hook.UpdatedAt, DeliveredSize: 50, DeliveredAt: new(w.now()),
		NextAttempt: w.now().Add(time.Minute),
	}, hook)
}

func (w *world) count(t *testing.T) webhook.Figures {
	t.Helper()
	found, err := webhook.Count(t.Context(), w.writers, w.Key.Signer.Name(), w.now())
	require.NoError(t, err)
	return found
}

// TestNewKeyOfTheLog: a secret that was shown under another key is not what deliveries would be signed with, so there are none until there is
// a new one.
func TestNewKeyOfTheLog(t *testing.T) {
	t.Parallel()
	w, r, other := newWorld(t), newReceiver(t), newReceiver(t)
	set := query.AuditWebhookSetRequest{CustomerID: "cust_001", URL: r.URL, IntervalSeconds: 3600}
	w.set(t, set)
	w.grow(t, 10)
	stop := w.deliver(t, r.host())
	assert.EqualValues(t, 10, (<-r.got).size)
	require.Eventually(t, func() bool { return w.show(t, "cust_001").DeliveredSize == 10 }, patience, tick)
	stop()
	assert.Empty(t, w.warned)

	former := w.Key
	var err error
	w.Key, err = tree.ParseKey(tree.NewKey())
	require.NoError(t, err)
	w.begin(t)
	w.set(t, query.AuditWebhookSetRequest{CustomerID: "cust_002", URL: other.URL, IntervalSeconds: 60})
	w.seconds.Store(4000)
	w.grow(t, 20)
	assert.Equal(t, webhook.Figures{Delivering: 1, Withheld: 1, Overdue: 4000}, w.count(t))
	stop = w.deliver(t, r.host(), other.host())
	assert.EqualValues(t, 20, (<-other.got).size)
	assert.Contains(t, <-w.warned, "nothing is delivered to webhooks with secrets of another one")
	assert.Contains(t, w.show(t, "cust_001").Withheld, "--new-secret")
	assert.Empty(t, w.show(t, "cust_002").Withheld)
	assert.Contains(t, w.set(t, set).Webhook.Withheld, "--new-secret", "what else is set changes nothing")
	w.grow(t, 30)
	w.seconds.Add(60)
	assert.EqualValues(t, 30, (<-other.got).size)
	assert.Empty(t, r.got)

	set.NewSecret = true
	reply := w.set(t, set)
	assert.Empty(t, reply.Webhook.Withheld)
	got := <-r.got
	assert.EqualValues(t, 30, got.size, "and at once")
	key, err := standard.ParseSecret(reply.Secret)
	require.NoError(t, err)
	again, err := (&standard.Message{Address: mustParse(t, r.URL), ID: got.id, At: w.now(), Body: got.body}).Request(t.Context(), key)
	require.NoError(t, err)
	assert.Equal(t, again.Header.Get(standard.HeaderSignature), got.signature)
	stop()
	assert.Empty(t, w.warned, "it is said once")

	// The former key was put back: its secrets are good again, the other's are not.
	w.Key = former
	w.begin(t)
	assert.NotEmpty(t, w.show(t, "cust_001").Withheld)
	assert.NotEmpty(t, w.show(t, "cust_002").Withheld)
}

// TestWebhooksFromBefore: nothing tells that the key was ever another than the first one that looks.
func TestWebhooksFromBefore(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	w.set(t, query.AuditWebhookSetRequest{CustomerID: "cust_001", URL: r.URL})
	_, err := w.DB.Exec(t.Context(), `UPDATE audit.webhooks SET key_name = ''`)
	require.NoError(t, err)
	assert.Empty(t, w.show(t, "cust_001").Withheld)
	assert.Equal(t, webhook.Figures{Delivering: 1}, w.count(t))
	w.grow(t, 5)
	w.deliver(t, r.host())
	<-r.got
	w.Key, err = tree.ParseKey(tree.NewKey())
	require.NoError(t, err)
	w.begin(t)
	assert.NotEmpty(t, w.show(t, "cust_001").Withheld)
}

func TestFigures(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	assert.Equal(t, webhook.Figures{}, w.count(t))
	w.set(t, query.AuditWebhookSetRequest{CustomerID: "cust_001", URL: r.URL})
	w.seconds.Store(10)
	w.set(t, query.AuditWebhookSetRequest{CustomerID: "cust_002", URL: "http://127.0.0.1:1/inside"})
	w.seconds.Store(100)
	assert.Equal(t, webhook.Figures{Delivering: 2}, w.count(t), "there is nothing to deliver")
	w.grow(t, 5)
	assert.Equal(t, webhook.Figures{Delivering: 2, Overdue: 100}, w.count(t))
	w.deliver(t, r.host())
	require.Eventually(t, func() bool { return w.count(t) == webhook.Figures{Delivering: 1, Failing: 1} }, patience, tick)
}

// TestOneReceiverHoldsUpNoOther: nor does one that must not be called.
func TestOneReceiverHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	w, good := newWorld(t), newReceiver(t)
	hung := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-hung:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(slow.Close)
	t.Cleanup(func() { close(hung) })
	w.set(t, query.AuditWebhookSetRequest{CustomerID: "cust_001", URL: slow.URL})
	w.set(t, query.AuditWebhookSetRequest{CustomerID: "cust_002", URL: "http://127.0.0.1:1/inside"})
	w.set(t, query.AuditWebhookSetRequest{CustomerID: "cust_003", URL: good.URL})
	w.grow(t, 5)
	w.deliver(t, good.host(), strings.TrimPrefix(slow.URL, "http://"))
	assert.EqualValues(t, 5, (<-good.got).size)
	require.Eventually(t, func() bool { return w.show(t, "cust_002").Failures == 1 }, patience, tick)
	assert.Equal(t, "the address is not allowed: it is not a public one", w.show(t, "cust_002").LastError)
	require.Eventually(t, func() bool { return w.show(t, "cust_001").Failures == 1 }, patience, tick)
	assert.Equal(t, "no complete answer in time", w.show(t, "cust_001").LastError)
}

func TestPauses(t *testing.T) {
	t.Parallel()
	failed := errors.New("x")
	for failures, want := range map[int]time.Duration{0: 30 * time.Second, 1: time.Minute, 6: 32 * time.Minute, 7: time.Hour, 1000: time.Hour} {
		assert.Equal(t, want, webhook.PauseAfter(failures, time.Minute, failed), failures)
	}
	assert.Equal(t, 2*time.Hour, webhook.PauseAfter(1000, 2*time.Hour, failed))
	asked := &outbound.DelayError{Problem: problem.Failure(problem.RateLimited, ""), After: 3 * time.Hour}
	assert.Equal(t, 3*time.Hour, webhook.PauseAfter(0, time.Minute, asked))
	asked.After = 1000 * time.Hour
	assert.Equal(t, 24*time.Hour, webhook.PauseAfter(0, time.Minute, asked))
}

func TestSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	actor := event.Actor{Type: "api_key", ID: "key_1"}
	ask := query.AuditWebhookRequest{CustomerID: "cust_001"}
	none := func() {
		_, err := w.store.Show(t.Context(), ask)
		requireCode(t, err, problem.NotFound)
	}
	none()
	_, err := w.store.Delete(t.Context(), query.AuditWebhookDeleteRequest{CustomerID: "cust_001", Actor: actor})
	requireCode(t, err, problem.NotFound)

	set := query.AuditWebhookSetRequest{CustomerID: "cust_001", URL: "https://example.com/hook/hush?token=hush", Actor: actor}
	first := w.set(t, set)
	assert.NotEmpty(t, first.Secret)
	assert.EqualValues(t, query.DefaultWebhookInterval, first.Webhook.IntervalSeconds)
	assert.Empty(t, w.set(t, set).Secret, "it is shown once")
	w.seconds.Add(10)
	set.IntervalSeconds = 120
	assert.Empty(t, w.set(t, set).Secret)
	set.NewSecret = true
	second := w.set(t, set)
	assert.NotEqual(t, first.Secret, second.Secret)
	assert.Equal(t, first.Webhook.CreatedAt, second.Webhook.CreatedAt)
	assert.Equal(t, second.Webhook, w.show(t, "cust_001"))
	other := w.set(t, query.AuditWebhookSetRequest{CustomerID: "cust_002", URL: set.URL})
	assert.NotEqual(t, other.Secret, second.Secret)

	deleted, err := w.store.Delete(t.Context(), query.AuditWebhookDeleteRequest{CustomerID: "cust_001", Actor: actor})
	require.NoError(t, err)
	assert.Equal(t, second.Webhook, deleted)
	none()
	assert.Equal(t, set.URL, w.show(t, "cust_002").URL)

	rows, err := w.DB.Query(t.Context(), `SELECT convert_from(data, 'UTF8')::jsonb ->> 'action_type', (convert_from(data, 'UTF8')::jsonb -> 'changes')::text
		FROM audit.outbox WHERE convert_from(data, 'UTF8')::jsonb ->> 'customer_id' = 'cust_001' ORDER BY id`)
	require.NoError(t, err)
	type row struct{ Action, Changes string }
	told, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	require.NoError(t, err)
	require.Len(t, told, 4, "what changes nothing is not told")
	const all = `{"url": "[redacted]", "host": "https://example.com", "secret": "[redacted]", "interval_seconds": `
	assert.Equal(t, []row{
		{event.ActionAuditWebhookSet, `{"after": ` + all + `3600}}`},
		{event.ActionAuditWebhookSet, `{"after": {"interval_seconds": 120}, "before": {"interval_seconds": 3600}}`},
		{event.ActionAuditWebhookSet, `{"after": {"secret": "[redacted]"}, "before": {"secret": "[redacted]"}}`},
		{event.ActionAuditWebhookDeleted, `{"before": ` + all + `120}}`},
	}, told)
	var stored string
	require.NoError(t, w.DB.QueryRow(t.Context(), `SELECT string_agg(hook::text, '') FROM audit.webhooks AS hook`).Scan(&stored))
	assert.NotContains(t, stored, strings.TrimPrefix(other.Secret, "whsec_"))
}

// TestOneSecret: of those who set it first at the same time, one gets the secret.
func TestOneSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var setting sync.WaitGroup
	var secrets atomic.Int64
	for i := range 8 {
		setting.Go(func() {
			set := query.AuditWebhookSetRequest{CustomerID: "cust_001", URL: fmt.Sprintf("https://example.com/%d", i)}
			reply, err := w.store.Set(t.Context(), set)
			assert.NoError(t, err)
			if reply.Secret != "" {
				secrets.Add(1)
			}
		})
	}
	setting.Wait()
	assert.EqualValues(t, 1, secrets.Load())
}

func TestSettingsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, set := range map[string]query.AuditWebhookSetRequest{
		"no customer": {URL: "https://example.com"},
		"no url":      {CustomerID: "cust_001"},
		"a user name": {CustomerID: "cust_001", URL: "https://a:b@example.com"}, //nolint:gosec // made up
		"a long url":  {CustomerID: "cust_001", URL: "https://example.com/" + strings.Repeat("x", 2048)},
		"too often":   {CustomerID: "cust_001", URL: "https://example.com", IntervalSeconds: 59},
		"too rarely":  {CustomerID: "cust_001", URL: "https://example.com", IntervalSeconds: query.MaxWebhookInterval + 1},
	} {
		_, err := w.store.Set(t.Context(), set)
		requireCode(t, err, problem.InvalidRequest)
		assert.NotContains(t, err.Error(), "a:b", name)
	}
	_, err := w.store.Show(t.Context(), query.AuditWebhookRequest{CustomerID: "*"})
	requireCode(t, err, problem.InvalidRequest)
	_, err = w.store.Delete(t.Context(), query.AuditWebhookDeleteRequest{CustomerID: "*"})
	requireCode(t, err, problem.InvalidRequest)
}

func mustParse(t *testing.T, text string) *url.URL {
	t.Helper()
	address, err := standard.ParseAddress(text)
	require.NoError(t, err)
	return address
}

func requireCode(t *testing.T, err error, code problem.Code) {
	t.Helper()
	var refused *problem.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, code, refused.Code)
}
