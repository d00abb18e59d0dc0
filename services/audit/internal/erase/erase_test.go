package erase_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/erase"
	"github.com/galley-engine/galley/services/audit/internal/leaf"
	"github.com/galley-engine/galley/services/audit/internal/publish"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/internal/tree"
	"github.com/galley-engine/galley/services/audit/internal/writer"
	"github.com/galley-engine/galley/services/audit/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type world struct {
	*audittest.Env

	eraser *erase.Eraser
	outbox *outbox.Outbox
}

func newWorld(t *testing.T) *world {
	t.Helper()
	e := audittest.New(t)
	events := outbox.New(e.Pool(t, migrations.Role), e.Bus.JS, query.ServiceAudit, zerolog.Nop())
	return &world{e, erase.New(e.Pool(t, migrations.Eraser), events, clock.System), events}
}

func (w *world) write(t *testing.T) (stop func()) {
	t.Helper()
	pool := w.Pool(t, migrations.Role)
	signer := writer.NewSigner(pool, w.Key, publish.NewNATS(w.Bus), clock.System, zerolog.Nop())
	return audittest.Start(t, writer.New(pool, w.Bus, signer, clock.System, zerolog.Nop()).Run)
}

// act publishes an activity about a lead by an actor.
func (w *world) act(t *testing.T, customer, id, lead, actor string) {
	t.Helper()
	data, err := json.Marshal(event.Activity{
		CustomerID: customer, ActionType: "note.called", ResourceType: "lead", ResourceID: lead,
		Actor: event.Actor{Type: "api_key", ID: actor}, Changes: json.RawMessage(`{"after":{"email":"` + lead + `@example.com"}}`), Outcome: "success",
	})
	require.NoError(t, err)
	w.Publish(t, subject.Activity(customer, "note.called"), nats.Header{event.HeaderID: {id}, event.HeaderType: {event.TypeActivity}}, data)
}

// payloads are the event ids of a customer's rows that have a payload.
func (w *world) payloads(t *testing.T, customer string) []string {
	t.Helper()
	rows, err := w.DB.Query(t.Context(), `SELECT event_id FROM audit.events JOIN audit.payloads USING (sequence, customer_id)
		WHERE customer_id = $1 ORDER BY sequence`, customer)
	require.NoError(t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return ids
}

func (w *world) erase(t *testing.T, request query.AuditErasureRequest) (erased int64, calls int) {
	t.Helper()
	for {
		reply, err := w.eraser.Erase(t.Context(), request)
		require.NoError(t, err)
		erased += reply.Erased
		calls++
		if reply.Next == 0 {
			return erased, calls
		}
		require.Greater(t, reply.Next, request.After)
		request.After = reply.Next
	}
}

func (w *world) leaves(t *testing.T) [][]byte {
	t.Helper()
	rows, err := w.DB.Query(t.Context(), `SELECT leaf FROM audit.events ORDER BY sequence`)
	require.NoError(t, err)
	leaves, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	require.NoError(t, err)
	return leaves
}

func TestErase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.act(t, "cust_001", "a1", "ada", "key_1")
	w.act(t, "cust_001", "a2", "bob", "key_1")
	w.act(t, "cust_001", "a3", "ada", "key_2")
	w.act(t, "cust_002", "b1", "ada", "key_1")
	w.Execute(t, "cust_001", 0, 2)
	stop := w.write(t)
	const rows = 10
	w.Await(t, rows)
	view, err := storedtree.View(t.Context(), w.DB)
	require.NoError(t, err)
	before := w.leaves(t)
	proofs := make([]tlog.RecordProof, rows)
	for i := range proofs {
		proofs[i], err = tlog.ProveRecord(rows, int64(i), hashes(before))
		require.NoError(t, err)
	}
	root, err := view.RootAt(rows)
	require.NoError(t, err)

	ask := query.AuditErasureRequest{CustomerID: "cust_001", Actor: event.Actor{Type: "operator", ID: "operator"}}
	byID, byResource, byActor := ask, ask, ask
	byID.EventIDs = []string{"a2", "b1", "cust_001-000001/accepted", "never"}
	byResource.ResourceType, byResource.ResourceID = "lead", "ada"
	byActor.ActorID = "key_1"
	erased, _ := w.erase(t, byID)
	assert.EqualValues(t, 2, erased, "b1 is another customer's")
	assert.Equal(t, []string{"b1"}, w.payloads(t, "cust_002"))
	erased, _ = w.erase(t, byID)
	assert.Zero(t, erased, "it is idempotent")
	erased, _ = w.erase(t, byResource)
	assert.EqualValues(t, 2, erased)
	byResource.ResourceType, byResource.ResourceID = "execution", "cust_001-000000"
	erased, _ = w.erase(t, byResource)
	assert.EqualValues(t, 3, erased)
	erased, _ = w.erase(t, byActor)
	assert.EqualValues(t, 2, erased, "what is left of the executions")
	assert.Empty(t, w.payloads(t, "cust_001"))
	assert.Equal(t, before, w.leaves(t))

	// Nothing that was proved is less true.
	for i, proof := range proofs {
		require.NoError(t, tlog.CheckRecord(proof, rows, root, int64(i), tlog.RecordHash(before[i])))
	}

	// The erasures are rows themselves, which can be erased in turn.
	audittest.Start(t, w.outbox.Run)
	w.Await(t, rows+5)
	last, err := leaf.Parse(w.leaves(t)[rows])
	require.NoError(t, err)
	assert.Equal(t, []string{event.ActionAuditErased, "audit", "cust_001", "operator"}, []string{last.Action, last.ResourceType, last.ResourceID, last.Actor.ID})
	var data string
	require.NoError(t, w.DB.QueryRow(t.Context(), `SELECT convert_from(data, 'UTF8') FROM audit.payloads WHERE sequence = $1`, rows+1).Scan(&data))
	assert.Contains(t, data, `"changes":{"after":{"erased":2,"event_ids":["a2","b1","cust_001-000001/accepted","never"]}}`)

	// What comes again stays erased: a repetition, and the whole stream after the positions were lost.
	w.act(t, "cust_001", "a1", "ada", "key_1")
	w.act(t, "cust_001", "a4", "ada", "key_1")
	w.Await(t, rows+6)
	stop()
	_, err = w.DB.Exec(t.Context(), `UPDATE audit.positions SET sequence = 1`)
	require.NoError(t, err)
	w.write(t)
	w.act(t, "cust_001", "a5", "ada", "key_1")
	w.Await(t, rows+7)
	left := w.payloads(t, "cust_001")
	require.Len(t, left, 7)
	assert.Equal(t, []string{"a4", "a5"}, left[5:])
}

// hashes reads the stored hashes of the tree over leaves.
func hashes(leaves [][]byte) tlog.HashReader {
	var stored []tlog.Hash
	read := func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			found[i] = stored[index]
		}
		return found, nil
	}
	for i, one := range leaves {
		more, err := tlog.StoredHashesForRecordHash(int64(i), tree.LeafHash(one), tlog.HashReaderFunc(read))
		if err != nil {
			panic(err)
		}
		stored = append(stored, more...)
	}
	return tlog.HashReaderFunc(read)
}

// TestEraseInBatches: each batch is bounded, and says in its own transaction what it has erased.
func TestEraseInBatches(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.eraser.Limit(7, 10)
	const leads = 40
	for i := range leads {
		w.act(t, "cust_001", fmt.Sprintf("a%d", i), "ada", fmt.Sprintf("key_%d", i%2))
	}
	stop := w.write(t)
	w.Await(t, leads)
	stop()
	byActor := query.AuditErasureRequest{CustomerID: "cust_001", ActorID: "key_1"}
	erased, calls := w.erase(t, byActor)
	assert.Equal(t, []int64{20, 5}, []int64{erased, int64(calls)})
	byResource := query.AuditErasureRequest{CustomerID: "cust_001", ResourceType: "lead", ResourceID: "ada"}
	erased, calls = w.erase(t, byResource)
	assert.Equal(t, []int64{20, 6}, []int64{erased, int64(calls)})
	rows, err := w.DB.Query(t.Context(), `SELECT (convert_from(data, 'UTF8')::jsonb #>> '{changes,after,erased}')::bigint FROM audit.outbox`)
	require.NoError(t, err)
	told, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(t, err)
	var sum int64
	for _, one := range told {
		sum += one
	}
	assert.EqualValues(t, leads, sum)
}

func TestEraseRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, request := range map[string]query.AuditErasureRequest{
		"no customer":     {EventIDs: []string{"a"}},
		"everybody":       {CustomerID: "*", EventIDs: []string{"a"}},
		"nothing":         {CustomerID: "cust_001"},
		"two ways":        {CustomerID: "cust_001", EventIDs: []string{"a"}, ActorID: "b"},
		"half a resource": {CustomerID: "cust_001", ResourceID: "a"},
		"the other half":  {CustomerID: "cust_001", ResourceType: "a"},
		"too many":        {CustomerID: "cust_001", EventIDs: make([]string, query.MaxErasedEvents+1)},
		"long":            {CustomerID: "cust_001", ActorID: strings.Repeat("x", 257)},
		"no text":         {CustomerID: "cust_001", ActorID: "\xff"},
		"a zero":          {CustomerID: "cust_001", ActorID: "a\x00"},
		"before it all":   {CustomerID: "cust_001", ActorID: "a", After: -1},
	} {
		_, err := w.eraser.Erase(t.Context(), request)
		var refused *problem.Error
		require.ErrorAs(t, err, &refused, name)
		assert.Equal(t, problem.InvalidRequest, refused.Code, name)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.eraser.Erase(ctx, query.AuditErasureRequest{CustomerID: "cust_001", ActorID: "a"})
	require.ErrorIs(t, err, context.Canceled)
}
