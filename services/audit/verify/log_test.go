package verify_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/leaf"
	"github.com/galley-engine/galley/services/audit/internal/tree"
	"github.com/galley-engine/galley/services/audit/migrations"
	"github.com/galley-engine/galley/services/audit/verify"
)

func TestEmptyLog(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	report, err := verify.Database(t.Context(), e.DB, verify.Options{Key: e.Key.Public})
	require.NoError(t, err)
	assert.Empty(t, report.Findings)
	assert.Equal(t, tree.EmptyRoot().String(), report.Root)
	assert.Zero(t, report.Leaves)
}

// TestWhileTheLogGrows verifies again and again while a writer appends and heads are signed.
func TestWhileTheLogGrows(t *testing.T) {
	t.Parallel()
	w := &written{Env: audittest.New(t)}
	run(t, w.Env)
	const rounds = 60
	sizes := map[int64]bool{}
	for round := range rounds {
		w.Execute(t, "cust_001", round*20, 20)
		outside := w.outside(t)
		report := w.verify(t, outside)
		require.Empty(t, places(t, report))
		sizes[report.Size] = true
	}
	assert.Greater(t, len(sizes), rounds/4, "it did grow")
	w.Await(t, rounds*60)
	assert.Empty(t, places(t, w.verify(t, w.outside(t))))
}

// TestErasure: what is erased is missed by nobody. Proofs from before hold, and the log is whole.
func TestErasure(t *testing.T) {
	t.Parallel()
	w := write(t)
	prover := newProver(t, w.Env)
	before, err := prover.Inclusion(t.Context(), query.AuditInclusionRequest{CustomerID: "cust_004", EventID: "activity-0-3"})
	require.NoError(t, err)
	options := verify.Options{Key: w.Key.Public}
	included, err := verify.Inclusion(&before, options)
	require.NoError(t, err)
	assert.Equal(t, verify.PayloadChecked, included.Payload)

	tx, err := w.Pool(t, migrations.Eraser).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT set_config('app.customer', 'cust_004', true)`)
	require.NoError(t, err)
	erased, err := tx.Exec(t.Context(), `DELETE FROM audit.payloads WHERE customer_id = 'cust_004'`)
	require.NoError(t, err)
	require.EqualValues(t, 60, erased.RowsAffected())
	require.NoError(t, tx.Commit(t.Context()))

	report := w.verify(t, w.outside(t))
	assert.Empty(t, places(t, report))
	assert.EqualValues(t, 60, report.PayloadsErased)
	assert.Zero(t, report.PayloadsChecked)
	again, err := verify.Inclusion(&before, options)
	require.NoError(t, err)
	assert.Equal(t, included, again)
	after, err := prover.Inclusion(t.Context(), query.AuditInclusionRequest{CustomerID: "cust_004", EventID: "activity-0-3"})
	require.NoError(t, err)
	included, err = verify.Inclusion(&after, options)
	require.NoError(t, err)
	assert.Equal(t, verify.PayloadErased, included.Payload)
	for _, customer := range []string{audit.Everyone, "cust_004"} {
		assert.Empty(t, places(t, export(t, w.Env, exported(t, w.Env, customer))))
	}
}

// TestOldLog: leaves of version 1 are the first ones, and have no place in a chain.
func TestOldLog(t *testing.T) {
	t.Parallel()
	w := &written{Env: audittest.New(t)}
	const old = 700
	first := "old-a" + audittest.FilledEvent(0)
	var batch pgx.Batch
	for i := range old {
		l := leaf.Leaf{
			Version: leaf.Unchained, EventID: "old-" + string(rune('a'+i%26)) + audittest.FilledEvent(i), Type: "t", Time: audittest.FilledAt(),
			CustomerID: "cust_001", Action: "a.b", ResourceType: "r", ResourceID: "r", Outcome: "success",
		}
		batch.Queue(`INSERT INTO audit.events (sequence, recorded_at, occurred_at, event_id, customer_id, action_type, resource_type, resource_id,
				actor_type, actor_id, outcome, trace_id, leaf) VALUES ($1, now(), $2, $3, $4, 'a.b', 'r', 'r', '', '', 'success', '', $5)`,
			i+1, l.Time, l.EventID, l.CustomerID, l.AppendJSON(nil))
	}
	batch.Queue(`UPDATE audit.head SET sequence = $1`, old)
	require.NoError(t, w.DB.SendBatch(t.Context(), &batch).Close())
	report := w.verify(t, nil)
	assert.Empty(t, places(t, report), "the tree is not there yet")
	assert.EqualValues(t, old, report.Leaves)

	w.rows = old
	stop := run(t, w.Env)
	w.grow(t, 0, 20)
	stop()
	report = w.verify(t, w.outside(t))
	assert.Empty(t, places(t, report))
	assert.EqualValues(t, w.rows, report.SignedSize)
	assert.Zero(t, report.PayloadsErased, "they never had any")
	assert.EqualValues(t, w.rows-old, report.PayloadsChecked+report.PayloadsElsewhere)
	included, err := newProver(t, w.Env).Inclusion(t.Context(), query.AuditInclusionRequest{CustomerID: "cust_001", EventID: first})
	require.NoError(t, err)
	proved, err := verify.Inclusion(&included, verify.Options{Key: w.Key.Public})
	require.NoError(t, err)
	assert.Equal(t, verify.PayloadNone, proved.Payload)
	for _, customer := range []string{audit.Everyone, "cust_001", "cust_002"} {
		assert.Empty(t, places(t, export(t, w.Env, exported(t, w.Env, customer))))
	}
}

// TestCalledOff: a verification ends with its context, and says so.
func TestCalledOff(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	e.Fill(t, 20_000)
	text := exported(t, e, audit.Everyone)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := verify.Database(ctx, e.DB, verify.Options{Key: e.Key.Public})
	require.ErrorIs(t, err, context.Canceled)
	_, err = verify.Export(ctx, bytes.NewReader(text), verify.Options{Key: e.Key.Public})
	require.ErrorIs(t, err, context.Canceled)

	// In the midst of it.
	ctx, cancel = context.WithCancel(t.Context())
	half := io.MultiReader(bytes.NewReader(text[:len(text)/2]), reads(func() { cancel() }), bytes.NewReader(text[len(text)/2:]))
	_, err = verify.Export(ctx, half, verify.Options{Key: e.Key.Public})
	require.ErrorIs(t, err, context.Canceled)
}

// reads is an empty reader that tells when it is read.
type reads func()

func (r reads) Read([]byte) (int, error) {
	r()
	return 0, io.EOF
}

// TestErrors: what cannot be verified at all is an error, and no report.
func TestErrors(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	_, err := verify.Database(t.Context(), e.DB, verify.Options{Key: "galley"})
	require.ErrorIs(t, err, verify.ErrKey)
	_, err = verify.Database(t.Context(), e.DB, verify.Options{Key: e.Key.Public, Former: []string{""}})
	require.ErrorIs(t, err, verify.ErrKey)
	_, err = e.DB.Exec(t.Context(), `DROP TABLE audit.tree_heads`)
	require.NoError(t, err)
	_, err = verify.Database(t.Context(), e.DB, verify.Options{Key: e.Key.Public})
	require.ErrorContains(t, err, "audit.tree_heads")
}
