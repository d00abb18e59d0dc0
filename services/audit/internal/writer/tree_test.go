package writer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/leaf"
	"github.com/galley-engine/galley/services/audit/internal/publish"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/internal/tree"
	"github.com/galley-engine/galley/services/audit/migrations"
)

// requireTree makes the tree anew from the leaves and compares it, and the customers' chains, with what is stored.
func requireTree(t *testing.T, e *audittest.Env) {
	t.Helper()
	rows, err := e.DB.Query(t.Context(), `SELECT sequence, customer_sequence, leaf FROM audit.events ORDER BY sequence`)
	require.NoError(t, err)
	var edge tree.Edge
	complete := map[tree.TileID][]byte{}
	chains := map[string]place{}
	var sequence int64
	var own *int64
	var stored []byte
	_, err = pgx.ForEachRow(rows, []any{&sequence, &own, &stored}, func() error {
		hash := tree.LeafHash(stored)
		for _, tile := range edge.Append(hash) {
			complete[tree.TileID{Level: tile.Level, Index: tile.Index}] = tile.Hashes
		}
		if own == nil {
			return nil
		}
		made, err := leaf.Parse(stored)
		require.NoError(t, err)
		end := chains[made.CustomerID]
		require.Equal(t, end.sequence+1, made.CustomerSequence)
		require.Equal(t, made.CustomerSequence, *own)
		require.Equal(t, end.hash, made.Previous)
		chains[made.CustomerID] = place{sequence: made.CustomerSequence, hash: hash}
		return nil
	})
	require.NoError(t, err)
	head, err := storedtree.Load(t.Context(), e.DB)
	require.NoError(t, err)
	assert.Equal(t, edge.Size(), head.Edge.Size())
	assert.Equal(t, edge.Root(), head.Root)
	assert.Equal(t, edge.Root(), head.Edge.Root())
	rows, err = e.DB.Query(t.Context(), `SELECT level, index, hashes FROM audit.tiles`)
	require.NoError(t, err)
	var id tree.TileID
	var hashes []byte
	_, err = pgx.ForEachRow(rows, []any{&id.Level, &id.Index, &hashes}, func() error {
		require.Equal(t, complete[id], hashes, "%v", id)
		delete(complete, id)
		return nil
	})
	require.NoError(t, err)
	assert.Empty(t, complete, "tiles that are missing")
}

// requireHeads opens every signed tree head and proves that each is consistent with the next.
func requireHeads(t *testing.T, e *audittest.Env) []tree.Head {
	t.Helper()
	rows, err := e.DB.Query(t.Context(), `SELECT size, note::bytea FROM audit.tree_heads ORDER BY size`)
	require.NoError(t, err)
	stored, err := pgx.CollectRows(rows, pgx.RowToStructByPos[storedtree.SignedHead])
	require.NoError(t, err)
	view, err := storedtree.View(t.Context(), e.DB)
	require.NoError(t, err)
	heads := make([]tree.Head, len(stored))
	for i, signed := range stored {
		heads[i], err = tree.OpenHead(signed.Note, e.Key.Verifier)
		require.NoError(t, err)
		root, err := view.RootAt(signed.Size)
		require.NoError(t, err)
		require.Equal(t, root, heads[i].Root, "size %d", signed.Size)
	}
	return heads
}

func awaitSigned(t *testing.T, e *audittest.Env, size int) {
	t.Helper()
	require.Eventually(t, func() bool {
		published, err := publish.NewNATS(e.Bus).Published(t.Context())
		return err == nil && published.Size >= int64(size)
	}, patience, tick)
}

func TestTreeAndChains(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	var want []string
	for customer := range 7 {
		want = append(want, e.Execute(t, fmt.Sprintf("cust_%03d", customer), 0, 60)...)
	}
	stop := audittest.Start(t, newWriter(t, e).Run)
	e.Await(t, len(want))
	for i := range 30 {
		e.Activity(t, "cust_003", fmt.Sprintf("activity-%d", i))
		e.Activity(t, "", fmt.Sprintf("nobody-%d", i))
	}
	e.Await(t, len(want)+60)
	awaitSigned(t, e, len(want)+60)
	stop()
	requireTree(t, e)
	heads := requireHeads(t, e)
	require.NotEmpty(t, heads)
	published, err := publish.NewNATS(e.Bus).Published(t.Context())
	require.NoError(t, err)
	head, err := tree.OpenHead(published.Note, e.Key.Verifier)
	require.NoError(t, err)
	assert.Equal(t, heads[len(heads)-1], head)

	// Another process goes on with the same chains.
	want = append(want, e.Execute(t, "cust_003", 100, 100)...)
	audittest.Start(t, newWriter(t, e).Run)
	e.Await(t, len(want)+60)
	requireTree(t, e)
}

// TestTreeOfAnOldLog: rows from before the tree, which have no place in a chain, are its first leaves, byte for byte.
func TestTreeOfAnOldLog(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	const old = 25_000 // more than two transactions take
	_, err := e.DB.Exec(t.Context(), `
		INSERT INTO audit.events (sequence, recorded_at, occurred_at, event_id, customer_id, action_type, resource_type, resource_id,
			actor_type, actor_id, outcome, trace_id, leaf)
		SELECT i, now(), now(), 'old-' || i, 'cust_00' || i % 3, 'a.b', 'r', 'r', '', '', 'success', '', convert_to('{"v":1,"i":' || i || '}', 'UTF8')
		FROM generate_series(1, $1) AS i`, old)
	require.NoError(t, err)
	_, err = e.DB.Exec(t.Context(), `UPDATE audit.head SET sequence = $1`, old)
	require.NoError(t, err)
	want := e.Execute(t, "cust_001", 0, 20)
	stop := audittest.Start(t, newWriter(t, e).Run)
	e.Await(t, old+len(want))
	stop()
	head, err := storedtree.Load(t.Context(), e.DB)
	require.NoError(t, err)
	assert.EqualValues(t, old+len(want), head.Rows)
	var last, first []byte
	require.NoError(t, e.DB.QueryRow(t.Context(), `SELECT leaf FROM audit.events WHERE customer_id = 'cust_001' AND customer_sequence IS NULL
		ORDER BY sequence DESC LIMIT 1`).Scan(&last))
	require.NoError(t, e.DB.QueryRow(t.Context(), `SELECT leaf FROM audit.events WHERE customer_id = 'cust_001' AND customer_sequence = 1`).
		Scan(&first))
	made, err := leaf.Parse(first)
	require.NoError(t, err)
	assert.Equal(t, tree.LeafHash(last), made.Previous)
	var edge tree.Edge
	hashes, err := rowsAfter(t.Context(), e.DB, 0, old+len(want))
	require.NoError(t, err)
	for _, hash := range hashes {
		edge.Append(hash)
	}
	assert.Equal(t, edge.Root(), head.Root)
}

// rewind does what somebody can who owns the database.
func rewind(t *testing.T, e *audittest.Env) {
	t.Helper()
	_, err := e.DB.Exec(t.Context(), `ALTER TABLE audit.events DISABLE TRIGGER ALL; ALTER TABLE audit.tree_heads DISABLE TRIGGER ALL;
		ALTER TABLE audit.tiles DISABLE TRIGGER ALL; ALTER TABLE audit.payloads DISABLE TRIGGER ALL; TRUNCATE audit.events, audit.payloads, audit.tiles, audit.tree_heads, audit.positions;
		UPDATE audit.head SET sequence = 0, tree_size = 0, edge = '', root = sha256('')`)
	require.NoError(t, err)
}

// TestNothingIsSignedAfterALogWasRewound: a database that was put back to an older state is not what was published, and neither is one
// that was written anew.
func TestNothingIsSignedAfterALogWasRewound(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	e.Execute(t, "cust_001", 0, 100)
	stop := audittest.Start(t, newWriter(t, e).Run)
	awaitSigned(t, e, 300)
	stop()
	rewind(t, e)
	e.Execute(t, "cust_001", 100, 100)
	w := newWriter(t, e)
	audittest.Start(t, w.Run)
	e.Await(t, 600) // the log is written all the same
	require.Eventually(t, func() bool { return w.signer.Fault() != nil }, patience, tick)
	require.ErrorIs(t, w.signer.Fault(), ErrRewound)
	assert.Empty(t, requireHeads(t, e))
}

// outside is a place that tree heads are published in, which fails as it is told.
type outside struct {
	publish.NATS

	asked, given atomic.Pointer[error]
}

func failing(with *atomic.Pointer[error], or error) error {
	if err := with.Load(); err != nil {
		return *err
	}
	return or
}

func (o *outside) Published(ctx context.Context) (storedtree.SignedHead, error) {
	head, err := o.NATS.Published(ctx)
	return head, failing(&o.asked, err)
}

func (o *outside) Publish(ctx context.Context, head storedtree.SignedHead) error {
	if err := failing(&o.given, nil); err != nil {
		return err
	}
	return o.NATS.Publish(ctx, head)
}

// TestWhyNothingIsSigned: what the signer tells other processes changes with its fault, ends with it, and does not outlive it for long.
func TestWhyNothingIsSigned(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	writers, readers := e.Pool(t, migrations.Role), e.Pool(t, migrations.Reader)
	told := func(origin string) Fault {
		fault, err := ToldFault(t.Context(), readers, origin)
		require.NoError(t, err)
		return fault
	}
	name := e.Key.Signer.Name()
	becomes := func(want Fault) {
		t.Helper()
		require.Eventually(t, func() bool { return told(name) == want }, patience, tick)
	}
	down := new(errors.New("dial tcp 10.0.0.1"))
	at := &outside{NATS: *publish.NewNATS(e.Bus)}
	start := func() (*Signer, func()) {
		signer := NewSigner(writers, e.Key, at, clock.System, zerolog.Nop())
		return signer, audittest.Start(t, New(writers, e.Bus, signer, clock.System, zerolog.Nop()).Run)
	}

	at.asked.Store(down)
	signer, stop := start()
	becomes(FaultUnanswered)
	assert.True(t, signer.Leads())
	assert.Equal(t, FaultNone, told("another log"))
	at.asked.Store(nil)
	becomes(FaultNone)
	require.NoError(t, signer.Fault())

	at.given.Store(down)
	e.Execute(t, "cust_001", 0, 1)
	becomes(FaultFailing)
	stop()
	assert.Equal(t, FaultFailing, told(name))
	assert.False(t, signer.Leads())
	require.NoError(t, signer.Fault(), "it is no matter of this process any more")
	_, err := e.DB.Exec(t.Context(), `UPDATE audit.signing_fault SET told_at = told_at - interval '1 minute'`)
	require.NoError(t, err)
	assert.Equal(t, FaultNone, told(name), "nobody repeats it")

	start()
	becomes(FaultFailing)
	at.given.Store(nil)
	becomes(FaultNone)
}

// TestNewKeyIsANewLog: under another name the log goes on, whatever was published under the old one; under the old name with another key it
// does not.
func TestNewKeyIsANewLog(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	e.Execute(t, "cust_001", 0, 10)
	stop := audittest.Start(t, newWriter(t, e).Run)
	awaitSigned(t, e, 30)
	stop()

	old := e.Key
	secret, _, err := note.GenerateKey(rand.Reader, old.Signer.Name())
	require.NoError(t, err)
	e.Key, err = tree.ParseKey(secret)
	require.NoError(t, err)
	e.Execute(t, "cust_001", 10, 10)
	w := newWriter(t, e)
	stop = audittest.Start(t, w.Run)
	require.Eventually(t, func() bool { return w.signer.Fault() != nil }, patience, tick)
	require.ErrorIs(t, w.signer.Fault(), ErrRewound)
	stop()

	e.Key, err = tree.ParseKey(tree.NewKey())
	require.NoError(t, err)
	audittest.Start(t, newWriter(t, e).Run)
	awaitSigned(t, e, 60)
	published, err := publish.NewNATS(e.Bus).Published(t.Context())
	require.NoError(t, err)
	head, err := tree.OpenHead(published.Note, e.Key.Verifier)
	require.NoError(t, err)
	assert.NotEqual(t, old.Signer.Name(), head.Origin)
}

// TestOtherPlacesCatchWhatWasRewound: somebody who puts back the database, and NATS with it, does not have the directory, or the bucket.
func TestOtherPlacesCatchWhatWasRewound(t *testing.T) {
	t.Parallel()
	t.Run("directory", func(t *testing.T) {
		t.Parallel()
		e, dir := audittest.New(t), t.TempDir()
		requireCaught(t, e, func() publish.Publisher { return publish.NewDirectory(dir, e.Key.Verifier) })
	})
	t.Run("bucket", func(t *testing.T) {
		t.Parallel()
		e, store := audittest.New(t), audittest.NewStore(t)
		requireCaught(t, e, func() publish.Publisher { return store.Bucket(t, store.Settings(""), e.Key.Verifier) })
	})
}

// requireCaught publishes on NATS and in the place, and puts back all but the place.
func requireCaught(t *testing.T, e *audittest.Env, open func() publish.Publisher) {
	t.Helper()
	start := func(messages *bus.Bus) (w *Writer, stop func()) {
		all := publish.NewAll(e.Key.Verifier, zerolog.New(zerolog.NewTestWriter(t)))
		all.Add("nats", publish.NewNATS(messages))
		all.Add("other", open())
		stopAll := audittest.Start(t, all.Run)
		log := zerolog.New(zerolog.NewTestWriter(t))
		pool := e.Pool(t, migrations.Role)
		w = New(pool, messages, NewSigner(pool, e.Key, all, clock.System, log), clock.System, log)
		stopWriter := audittest.Start(t, w.Run)
		return w, func() { stopWriter(); stopAll() }
	}
	inPlace := func() int64 {
		found, err := open().Published(t.Context())
		require.NoError(t, err)
		return found.Size
	}
	e.Execute(t, "cust_001", 0, 100)
	_, stop := start(e.Bus)
	awaitSigned(t, e, 300)
	require.Eventually(t, func() bool { return inPlace() == 300 }, patience, tick)
	stop()

	rewind(t, e)
	other := audittest.On(t, testkit.Postgres(t)) // for its NATS, in which nothing was published
	other.Execute(t, "cust_001", 200, 200)
	w, stop := start(other.Bus)
	e.Await(t, 600) // longer than what was published
	require.Eventually(t, func() bool { return w.signer.Fault() != nil }, patience, tick)
	require.ErrorIs(t, w.signer.Fault(), ErrRewound)
	stop()
	assert.Empty(t, requireHeads(t, e))
	assert.EqualValues(t, 300, inPlace())
	published, err := publish.NewNATS(other.Bus).Published(t.Context())
	require.NoError(t, err)
	assert.Zero(t, published.Size)
}
