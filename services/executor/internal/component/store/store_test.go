package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/store"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const patience = 30 * time.Second

type fixture struct {
	server     *testkit.NATSServer
	bus        *bus.Bus
	components component.Registry
}

func setUp(t *testing.T) *fixture {
	t.Helper()
	server := testkit.NATS(t)
	// As in a process of galley, nothing is buffered while the server is away.
	messages, err := bus.New(server.Conn(t, nats.ReconnectBufSize(-1)), bus.Settings{Replicas: 1, JournalRetention: 72 * time.Hour}, zerolog.Nop())
	require.NoError(t, err)
	require.NoError(t, messages.Provision(t.Context()))
	return &fixture{server, messages, store.New(messages).Components()}
}

// step is a step of an execution of a customer.
type step struct{ customer, id string }

func (f *fixture) execute(ctx context.Context, from step, kind recipe.Kind, with string) (map[string]any, error) {
	call := &component.Call{Execution: subject.Execution{Customer: from.customer, ID: "e1"}, Step: from.id, Kind: kind}
	if err := json.Unmarshal([]byte(with), &call.With); err != nil {
		return nil, err
	}
	runner, _ := f.components.Find(kind)
	result, err := runner.Execute(ctx, call)
	output, _ := result.Output.(map[string]any)
	return output, err
}

func (f *fixture) does(t *testing.T, from step, kind recipe.Kind, with string) map[string]any {
	t.Helper()
	output, err := f.execute(t.Context(), from, kind, with)
	require.NoError(t, err)
	return output
}

func (f *fixture) fails(t *testing.T, from step, kind recipe.Kind, with string) *problem.Error {
	t.Helper()
	output, err := f.execute(t.Context(), from, kind, with)
	var failed *problem.Error
	require.ErrorAs(t, err, &failed)
	require.Nil(t, output)
	return failed
}

func alice(id string) step { return step{"alice", id} }

func TestValues(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	nothing := f.does(t, alice("a"), store.KindGet, `{"key": "leads.berlin"}`)
	assert.Equal(t, map[string]any{"key": "leads.berlin", "found": false, "value": nil, "revision": 0.0}, nothing)
	nothing = f.does(t, alice("a"), store.KindGet, `{"key": "leads.berlin", "default": [1]}`)
	assert.Equal(t, []any{1.0}, nothing["value"])

	for i, value := range []string{`"text <&>"`, `0`, `false`, `""`, `[]`, `{"a": [null, {"b": 1.5}]}`} {
		from := alice(fmt.Sprintf("set%d", i))
		set := f.does(t, from, store.KindSet, `{"key": "leads.berlin", "value": `+value+`}`)
		got := f.does(t, from, store.KindGet, `{"key": "leads.berlin", "default": "other"}`)
		text, err := json.Marshal(got["value"])
		require.NoError(t, err)
		assert.JSONEq(t, value, string(text))
		assert.Equal(t, true, got["found"])
		assert.Equal(t, set["revision"], got["revision"])
	}
	assert.Equal(t, true, f.does(t, alice("d"), store.KindDelete, `{"key": "leads.berlin"}`)["deleted"])
	assert.Equal(t, false, f.does(t, alice("d2"), store.KindDelete, `{"key": "leads.berlin"}`)["deleted"])
	assert.Equal(t, false, f.does(t, alice("a"), store.KindGet, `{"key": "leads.berlin"}`)["found"])
	// The bucket is an ordinary one.
	bucket, err := f.bus.JS.KeyValue(t.Context(), subject.BucketStore)
	require.NoError(t, err)
	f.does(t, alice("again"), store.KindSet, `{"key": "leads.berlin", "value": 1, "if_revision": 0}`)
	found, err := bucket.Get(t.Context(), "alice.leads.berlin")
	require.NoError(t, err)
	assert.Equal(t, "1", string(found.Value()))
}

func TestRevisions(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	none := f.fails(t, alice("early"), store.KindSet, `{"key": "k", "value": 1, "if_revision": 7}`)
	assert.Equal(t, problem.Error{Code: problem.Conflict, Message: "there is no value under k"}, *none)
	first := f.does(t, alice("first"), store.KindSet, `{"key": "k", "value": 1, "if_revision": 0}`)
	taken := f.fails(t, alice("second"), store.KindSet, `{"key": "k", "value": 2, "if_revision": 0}`)
	assert.Equal(t, problem.Error{Code: problem.Conflict, Message: fmt.Sprintf("the value under k has revision %v", first["revision"])}, *taken)
	second := f.does(t, alice("third"), store.KindSet, fmt.Sprintf(`{"key": "k", "value": 3, "if_revision": %v}`, first["revision"]))
	assert.Greater(t, second["revision"], first["revision"])

	old := fmt.Sprintf(`{"key": "k", "if_revision": %v}`, first["revision"])
	assert.Equal(t, problem.Conflict, f.fails(t, alice("d1"), store.KindDelete, old).Code)
	current := fmt.Sprintf(`{"key": "k", "if_revision": %v}`, second["revision"])
	assert.Equal(t, true, f.does(t, alice("d2"), store.KindDelete, current)["deleted"])
	assert.Equal(t, false, f.does(t, alice("d3"), store.KindDelete, current)["deleted"], "what is gone is no conflict")
	assert.Equal(t, problem.Conflict, f.fails(t, alice("late"), store.KindSet, fmt.Sprintf(`{"key": "k", "value": 3, "if_revision": %v}`, second["revision"])).Code)
}

// What was done before a crash is recognised, unless somebody has changed it since.
func TestAnotherAttempt(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	const create = `{"key": "k", "value": 1, "if_revision": 0}`
	created := f.does(t, alice("create"), store.KindSet, create)
	assert.Equal(t, created, f.does(t, alice("create"), store.KindSet, create))

	change := fmt.Sprintf(`{"key": "k", "value": 2, "if_revision": %v}`, created["revision"])
	changed := f.does(t, alice("change"), store.KindSet, change)
	assert.Equal(t, changed, f.does(t, alice("change"), store.KindSet, change))
	assert.Equal(t, problem.Conflict, f.fails(t, alice("create"), store.KindSet, create).Code)

	const put = `{"key": "k", "value": 3}`
	assert.Equal(t, f.does(t, alice("put"), store.KindSet, put), f.does(t, alice("put"), store.KindSet, put), "it is not written twice")

	const remove = `{"key": "k"}`
	assert.Equal(t, true, f.does(t, alice("remove"), store.KindDelete, remove)["deleted"])
	assert.Equal(t, true, f.does(t, alice("remove"), store.KindDelete, remove)["deleted"])
	f.does(t, alice("put"), store.KindSet, put)
	assert.Equal(t, 3.0, f.does(t, alice("get"), store.KindGet, remove)["value"])
}

// Two workers may have the same step for a moment; both get what the one that was faster has done.
func TestTheSameStepTwiceAtOnce(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	for i := range 20 {
		var group sync.WaitGroup
		outputs, errs := make([]map[string]any, 2), make([]error, 2)
		for worker := range 2 {
			group.Go(func() {
				outputs[worker], errs[worker] = f.execute(t.Context(), alice("s"), store.KindSet, fmt.Sprintf(`{"key": "k%d", "value": 1, "if_revision": 0}`, i))
			})
		}
		group.Wait()
		require.NoError(t, errs[0])
		require.NoError(t, errs[1])
		assert.Equal(t, outputs[0], outputs[1])
	}
}

func TestCounterOfMany(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	const workers, each = 4, 10
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			for done, try := 0, 0; done < each; try++ {
				from := alice(fmt.Sprintf("w%d-%d", worker, try))
				got, err := f.execute(t.Context(), from, store.KindGet, `{"key": "count", "default": 0}`)
				if !assert.NoError(t, err) {
					return
				}
				count, _ := got["value"].(float64)
				_, err = f.execute(t.Context(), from, store.KindSet, fmt.Sprintf(`{"key": "count", "value": %v, "if_revision": %v}`, count+1, got["revision"]))
				if err == nil {
					done++
				} else if failed, ok := err.(*problem.Error); !ok || failed.Code != problem.Conflict { //nolint:errorlint // it is one itself
					assert.NoError(t, err)
					return
				}
			}
		})
	}
	group.Wait()
	assert.EqualValues(t, workers*each, f.does(t, alice("end"), store.KindGet, `{"key": "count"}`)["value"])
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.does(t, alice("a"), store.KindSet, `{"key": "short", "value": 1, "ttl": "1s"}`)
	f.does(t, alice("a"), store.KindSet, `{"key": "renewed", "value": 1, "ttl": "1s"}`)
	f.does(t, alice("b"), store.KindSet, `{"key": "renewed", "value": 2}`)
	require.Eventually(t, func() bool {
		got, err := f.execute(t.Context(), alice("c"), store.KindGet, `{"key": "short"}`)
		return err == nil && got["found"] == false
	}, patience, 20*time.Millisecond)
	f.does(t, alice("d"), store.KindSet, `{"key": "short", "value": 2, "if_revision": 0}`)
	assert.Equal(t, false, f.does(t, alice("e"), store.KindDelete, `{"key": "other"}`)["deleted"])
	assert.Equal(t, 2.0, f.does(t, alice("f"), store.KindGet, `{"key": "renewed"}`)["value"])

	bucket, err := f.bus.JS.KeyValue(t.Context(), subject.BucketStore)
	require.NoError(t, err)
	status, err := bucket.Status(t.Context())
	require.NoError(t, err)
	require.Positive(t, status.LimitMarkerTTL())
	for text, whole := range map[string]string{"1500ms": "2s", "1h0.5s": "1h0m1s", "8760h": "8760h0m0s"} {
		f.does(t, alice("ttl"+whole), store.KindSet, `{"key": "t", "value": 1, "ttl": "`+text+`"}`)
		stored, err := bus.Stored(t.Context(), f.bus.Conn, "KV_store", bus.StoredRequest{LastBySubject: "$KV.store.alice.t"})
		require.NoError(t, err)
		assert.Equal(t, whole, stored.Header.Get("Nats-TTL"))
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	keys := []string{
		"", ".", "a.", ".a", "a..b", "a.b.c.d.e", "*", ">", "a.*", "a.>", "$KV", "a b", "ä", "a\n", "a\x00", "../bob/k", "-a", "a._b",
		strings.Repeat("x", 65), "a." + strings.Repeat("x", 65),
	}
	for _, key := range keys {
		text, err := json.Marshal(key)
		require.NoError(t, err)
		for kind := range f.components {
			failed := f.fails(t, alice("a"), kind, fmt.Sprintf(`{"key": %s, "value": 1}`, text))
			assert.Equal(t, problem.Error{Code: problem.ComponentError, Message: "key must be one to four ids with a dot between each two"}, *failed, "%q", key)
		}
	}
	for _, ttl := range []string{"0s", "999ms", "-1s", "8761h", "1d", "x", "1", "99999999999h"} {
		failed := f.fails(t, alice("a"), store.KindSet, `{"key": "k", "value": 1, "ttl": "`+ttl+`"}`)
		assert.Equal(t, "ttl must be a duration from 1s to 8760h", failed.Message, ttl)
	}
	large := f.fails(t, alice("a"), store.KindSet, `{"key": "k", "value": "`+strings.Repeat("x", store.MaxValue-1)+`"}`)
	assert.Equal(t, problem.StateTooLarge, large.Code)
	f.does(t, alice("a"), store.KindSet, `{"key": "k", "value": "`+strings.Repeat("<", store.MaxValue-2)+`"}`)
	assert.Equal(t, problem.ComponentError, f.fails(t, alice("a"), store.KindSet, `{"key": "k", "value": null}`).Code)
	for _, with := range []string{`1`, `[]`, `"a"`, `{"key": 1}`, `{"key": "k", "value": 1, "if_revision": -1}`, `{"key": "k", "if_revision": "1"}`} {
		_, err := f.execute(t.Context(), alice("a"), store.KindSet, with)
		require.Error(t, err, with)
	}
	// Others may write to the bucket too.
	_, err := f.bus.JS.Publish(t.Context(), "$KV.store.alice.raw", []byte("not json"))
	require.NoError(t, err)
	assert.Equal(t, problem.ComponentError, f.fails(t, alice("a"), store.KindGet, `{"key": "raw"}`).Code)
	f.does(t, alice("a"), store.KindSet, `{"key": "raw", "value": 1}`)
}

func TestCustomersShareNothing(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	bob := step{"bob", "a"}
	f.does(t, alice("a"), store.KindSet, `{"key": "a.b", "value": "of alice"}`)
	for _, key := range []string{"a.b", "alice.a.b", "b"} {
		assert.Equal(t, false, f.does(t, bob, store.KindGet, `{"key": "`+key+`"}`)["found"])
		assert.Equal(t, false, f.does(t, bob, store.KindDelete, `{"key": "`+key+`"}`)["deleted"])
		f.does(t, bob, store.KindSet, `{"key": "`+key+`", "value": "of bob", "if_revision": 0}`)
	}
	assert.Equal(t, "of alice", f.does(t, alice("a"), store.KindGet, `{"key": "a.b"}`)["value"])
}

func TestKeysAreLimited(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	for i := range store.MaxKeys - 1 {
		_, err := f.bus.JS.PublishAsync(fmt.Sprintf("$KV.store.alice.k%d", i), []byte("1"))
		require.NoError(t, err)
		if i%1000 == 0 { // not more than the client lets be under way
			<-f.bus.JS.PublishAsyncComplete()
		}
	}
	<-f.bus.JS.PublishAsyncComplete()
	f.does(t, alice("a"), store.KindSet, `{"key": "last", "value": 1}`)
	full := f.fails(t, alice("b"), store.KindSet, `{"key": "more", "value": 1}`)
	assert.Equal(t, problem.Error{Code: problem.StateTooLarge, Message: "the store has 10000 keys already, it can hold no further one"}, *full)
	f.does(t, alice("c"), store.KindSet, `{"key": "last", "value": 2}`)
	f.does(t, step{"bob", "a"}, store.KindSet, `{"key": "more", "value": 1}`)
}

func TestServerIsAway(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.does(t, alice("a"), store.KindSet, `{"key": "k", "value": 1}`)
	f.server.Shutdown()
	for kind := range f.components {
		failed := f.fails(t, alice("b"), kind, `{"key": "k", "value": 2}`)
		assert.Equal(t, problem.Error{Code: problem.Unavailable, Message: "the store cannot be reached at the moment", Retryable: true}, *failed)
	}
	f.server.Restart(t)
	require.Eventually(t, func() bool {
		got, err := f.execute(t.Context(), alice("c"), store.KindGet, `{"key": "k"}`)
		return err == nil && got["value"] == 1.0
	}, patience, 10*time.Millisecond)
}

func TestThereIsNoBucket(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	require.NoError(t, f.bus.JS.DeleteKeyValue(t.Context(), subject.BucketStore))
	for kind := range f.components {
		failed := f.fails(t, alice("b"), kind, `{"key": "k", "value": 2}`)
		assert.Equal(t, problem.Unavailable, failed.Code)
	}
}

func TestCutOff(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for kind := range f.components {
		_, err := f.execute(ctx, alice("a"), kind, `{"key": "k", "value": 1}`)
		require.Error(t, err)
	}
}
