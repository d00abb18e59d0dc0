package verify_test

import (
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/services/audit/internal/leaf"
	"github.com/galley-engine/galley/services/audit/internal/tree"
	"github.com/galley-engine/galley/services/audit/migrations"
	"github.com/galley-engine/galley/services/audit/verify"
)

// rewrite is what the owner of the tables does who knows how all of this works: change leaves, and make chains, tree and heads anew.
func (w *written) rewrite(tb testing.TB, key tree.Key, change func(sequence int64, l *leaf.Leaf)) {
	tb.Helper()
	rows, err := w.DB.Query(tb.Context(), `SELECT leaf FROM audit.events ORDER BY sequence`)
	require.NoError(tb, err)
	leaves, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	require.NoError(tb, err)
	rows, err = w.DB.Query(tb.Context(), `SELECT size FROM audit.tree_heads`)
	require.NoError(tb, err)
	sizes, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(tb, err)
	heads := map[int64]bool{}
	for _, size := range sizes {
		heads[size] = true
	}
	w.do(tb, `TRUNCATE audit.tiles, audit.tree_heads`)
	w.do(tb, `SELECT 1`)
	var edge tree.Edge
	var batch pgx.Batch
	for _, table := range []string{"events", "tiles", "tree_heads", "payloads"} {
		batch.Queue(`ALTER TABLE audit.` + table + ` DISABLE TRIGGER ALL`)
	}
	chains := map[string]tree.Hash{}
	counts := map[string]int64{}
	for i, stored := range leaves {
		sequence := int64(i) + 1
		made, err := leaf.Parse(stored)
		require.NoError(tb, err)
		counts[made.CustomerID]++
		made.CustomerSequence, made.Previous = counts[made.CustomerID], chains[made.CustomerID]
		change(sequence, &made)
		encoded := made.AppendJSON(nil)
		hash := tree.LeafHash(encoded)
		chains[made.CustomerID] = hash
		for _, tile := range edge.Append(hash) {
			batch.Queue(`INSERT INTO audit.tiles VALUES ($1, $2, $3)`, tile.Level, tile.Index, tile.Hashes)
		}
		batch.Queue(`UPDATE audit.events SET leaf = $2, outcome = $3, customer_id = $4, customer_sequence = $5 WHERE sequence = $1`,
			sequence, encoded, made.Outcome, made.CustomerID, made.CustomerSequence)
		if heads[sequence] {
			head := tree.Head{Origin: key.Signer.Name(), Size: sequence, Root: edge.Root(), Time: time.Now().UTC().Truncate(time.Millisecond)}
			signed, err := head.Sign(key.Signer)
			require.NoError(tb, err)
			batch.Queue(`INSERT INTO audit.tree_heads VALUES ($1, $2, $3)`, sequence, head.Time, string(signed))
		}
	}
	root := edge.Root()
	batch.Queue(`UPDATE audit.head SET sequence = $1, tree_size = $1, root = $2, edge = $3`, edge.Size(), root[:], edge.AppendBinary(nil))
	for _, table := range []string{"events", "tiles", "tree_heads", "payloads"} {
		batch.Queue(`ALTER TABLE audit.` + table + ` ENABLE ALWAYS TRIGGER append_only`)
	}
	require.NoError(tb, w.DB.SendBatch(tb.Context(), &batch).Close())
}

func fail(at int64) func(sequence int64, l *leaf.Leaf) {
	return func(sequence int64, l *leaf.Leaf) {
		if sequence == at {
			l.Outcome = "failed"
		}
	}
}

// sameName is a new key with the log's name.
func sameName(tb testing.TB, key tree.Key) tree.Key {
	tb.Helper()
	secret, _, err := note.GenerateKey(rand.Reader, key.Signer.Name())
	require.NoError(tb, err)
	made, err := tree.ParseKey(secret)
	require.NoError(tb, err)
	return made
}

// TestRewrittenLog: everything in the database fits together again. Only what is outside of it tells: the key, or a published head.
func TestRewrittenLog(t *testing.T) {
	t.Parallel()
	log := write(t)
	outside := log.outside(t)
	other, err := tree.ParseKey(tree.NewKey())
	require.NoError(t, err)
	for name, key := range map[string]tree.Key{"new key": other, "new key, same name": sameName(t, log.Key)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := log.clone(t)
			w.rewrite(t, key, fail(40))
			report := w.verify(t, outside)
			found := places(t, report)
			require.Len(t, found, 2)
			assert.Equal(t, verify.LogRewritten, found[0].code)
			assert.LessOrEqual(t, found[0].size, int64(110))
			assert.EqualValues(t, 1, found[0].sequence)
			assert.GreaterOrEqual(t, found[0].to, int64(40))
			assert.Equal(t, verify.HeadNotSigned, found[1].code)
			assert.Zero(t, report.SignedSize)
			report = w.verify(t, nil)
			found = places(t, report)
			require.Len(t, found, 1)
			assert.Equal(t, verify.HeadNotSigned, found[0].code)
		})
	}
	t.Run("stolen key", func(t *testing.T) {
		t.Parallel()
		w := log.clone(t)
		w.rewrite(t, w.Key, fail(600))
		found := places(t, w.verify(t, outside))
		require.Len(t, found, 1)
		assert.Equal(t, verify.LogRewritten, found[0].code)
		assert.GreaterOrEqual(t, found[0].sequence, int64(221))
		assert.LessOrEqual(t, found[0].sequence, int64(600))
		assert.GreaterOrEqual(t, found[0].to, int64(600))
		assert.Empty(t, places(t, w.verify(t, nil)), "nothing in the database tells")
		newest := outside[len(outside)-1:]
		assert.Equal(t, []place{{code: verify.LogRewritten, sequence: 1, to: 654, size: 654}}, places(t, w.verify(t, newest)))
	})
	t.Run("stolen key, a customer's leaves removed", func(t *testing.T) {
		t.Parallel()
		w := log.clone(t)
		w.do(t, `CREATE TABLE kept AS SELECT *, row_number() OVER (ORDER BY sequence) AS n FROM audit.events WHERE customer_id <> 'cust_001';
			TRUNCATE audit.events, audit.payloads; ALTER TABLE kept ALTER sequence DROP NOT NULL; UPDATE kept SET sequence = n; ALTER TABLE kept DROP n;
			INSERT INTO audit.events SELECT * FROM kept; DELETE FROM audit.tree_heads WHERE size > (SELECT count(*) FROM kept)`)
		w.rewrite(t, w.Key, func(int64, *leaf.Leaf) {})
		assert.Empty(t, places(t, w.verify(t, nil)), "nothing in the database tells")
		found := places(t, w.verify(t, outside))
		require.NotEmpty(t, found)
		codes := map[verify.Code]bool{}
		for _, f := range found {
			codes[f.code] = true
		}
		assert.True(t, codes[verify.LogTruncated])
		assert.True(t, codes[verify.LogRewritten])
	})
	t.Run("stolen key, end cut off", func(t *testing.T) {
		t.Parallel()
		w := log.clone(t)
		w.do(t, `DELETE FROM audit.events WHERE sequence > 300; DELETE FROM audit.payloads WHERE sequence > 300;
			DELETE FROM audit.tree_heads WHERE size > 300`)
		w.rewrite(t, w.Key, func(int64, *leaf.Leaf) {})
		assert.Empty(t, places(t, w.verify(t, nil)), "nothing in the database tells")
		found := places(t, w.verify(t, outside))
		require.NotEmpty(t, found)
		assert.Equal(t, place{code: verify.LogTruncated, sequence: 301, to: 654}, found[0])
		for _, f := range found[1:] {
			assert.Equal(t, verify.HeadMissing, f.code)
		}
	})
}

// TestFormerKeys: a log that was given a new key has heads of both.
func TestFormerKeys(t *testing.T) {
	t.Parallel()
	w := write(t)
	former := w.Key
	var err error
	w.Key, err = tree.ParseKey(tree.NewKey())
	require.NoError(t, err)
	stop := run(t, w.Env)
	w.grow(t, 100, 10)
	stop()
	outside := w.outside(t)
	report, err := verify.Database(t.Context(), w.DB, verify.Options{Key: w.Key.Public, Former: []string{former.Public}, Published: outside})
	require.NoError(t, err)
	assert.Empty(t, places(t, report))
	assert.EqualValues(t, w.rows, report.SignedSize)
	assert.Zero(t, report.FormerHeads)
	all := report.Heads
	report = w.verify(t, outside)
	assert.Empty(t, places(t, report))
	assert.GreaterOrEqual(t, report.FormerHeads, int64(3))
	assert.Equal(t, all, report.Heads+report.FormerHeads)
	assert.Positive(t, report.Unchecked)
	assert.Empty(t, places(t, export(t, w.Env, exported(t, w.Env, audit.Everyone))))
	w.do(t, `UPDATE audit.tree_heads SET note = regexp_replace(note, E'\n220\n....', E'\n220\nAAAA') WHERE size = 220`)
	assert.Equal(t, []place{{code: verify.HeadNotSigned, size: 220}}, places(t, w.verify(t, nil)))
}

// TestTriggers looks at what keeps the tables append-only, and how it can be passed by.
func TestTriggers(t *testing.T) {
	t.Parallel()
	log := write(t)
	for name, attack := range map[string]struct {
		do   string
		want []verify.Code
	}{
		"disabled":            {`ALTER TABLE audit.events DISABLE TRIGGER append_only`, []verify.Code{verify.TriggerDisabled}},
		"all disabled":        {`ALTER TABLE audit.tiles DISABLE TRIGGER ALL`, []verify.Code{verify.TriggerDisabled}},
		"not always":          {`ALTER TABLE audit.tree_heads ENABLE TRIGGER append_only`, []verify.Code{verify.TriggerDisabled}},
		"in replication only": {`ALTER TABLE audit.events ENABLE REPLICA TRIGGER append_only`, []verify.Code{verify.TriggerDisabled}},
		"dropped":             {`DROP TRIGGER append_only ON audit.payloads`, []verify.Code{verify.TriggerDisabled}},
		"made anew, for less": {
			`DROP TRIGGER append_only ON audit.events; CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit.events
				FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.events ENABLE ALWAYS TRIGGER append_only`,
			[]verify.Code{verify.TriggerDisabled},
		},
		"made anew, on a condition": {
			`DROP TRIGGER append_only ON audit.events; CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.events
				FOR EACH STATEMENT WHEN (false) EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.events ENABLE ALWAYS TRIGGER append_only`,
			[]verify.Code{verify.TriggerDisabled},
		},
		"function replaced": {
			`CREATE OR REPLACE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`,
			[]verify.Code{verify.TriggerDisabled, verify.TriggerDisabled, verify.TriggerDisabled, verify.TriggerDisabled},
		},
		"row-level security off":        {`ALTER TABLE audit.payloads DISABLE ROW LEVEL SECURITY`, []verify.Code{verify.RowSecurityDisabled}},
		"row-level security not forced": {`ALTER TABLE audit.events NO FORCE ROW LEVEL SECURITY`, []verify.Code{verify.RowSecurityDisabled}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := log.clone(t)
			_, err := w.DB.Exec(t.Context(), attack.do)
			require.NoError(t, err)
			var codes []verify.Code
			for _, found := range places(t, w.verify(t, nil)) {
				codes = append(codes, found.code)
			}
			assert.Equal(t, attack.want, codes)
		})
	}
	t.Run("as a replica", func(t *testing.T) {
		t.Parallel()
		w := log.clone(t)
		conn, err := w.DB.Acquire(t.Context())
		require.NoError(t, err)
		defer conn.Release()
		_, err = conn.Exec(t.Context(), `SET session_replication_role = replica`)
		require.NoError(t, err)
		for _, table := range []string{"events", "tiles", "tree_heads"} {
			_, err = conn.Exec(t.Context(), `DELETE FROM audit.`+table)
			require.ErrorContains(t, err, "append-only", table)
			_, err = conn.Exec(t.Context(), `TRUNCATE audit.`+table)
			require.ErrorContains(t, err, "append-only", table)
		}
		_, err = conn.Exec(t.Context(), `UPDATE audit.payloads SET data = ''`)
		require.ErrorContains(t, err, "append-only")
		assert.Empty(t, places(t, w.verify(t, nil)))
		_, err = conn.Exec(t.Context(), `ALTER TABLE audit.events ENABLE TRIGGER append_only; DELETE FROM audit.events WHERE sequence > 650`)
		require.NoError(t, err)
		assert.Equal(t, []place{{code: verify.TriggerDisabled}, {code: verify.LogTruncated, sequence: 651, to: 654}}, places(t, w.verify(t, nil)))
	})
	t.Run("as the writer", func(t *testing.T) {
		t.Parallel()
		w := log.clone(t)
		pool := w.Pool(t, migrations.Role)
		for _, statement := range []string{
			`UPDATE audit.events SET outcome = ''`, `DELETE FROM audit.events`, `DELETE FROM audit.tree_heads`, `UPDATE audit.tiles SET hashes = ''`,
			`TRUNCATE audit.events`, `DELETE FROM audit.payloads`, fmt.Sprintf(`ALTER TABLE audit.events DISABLE TRIGGER %s`, "append_only"),
		} {
			_, err := pool.Exec(t.Context(), statement)
			require.Error(t, err, statement)
		}
	})
}
