package proof_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/proof"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/internal/tree"
	"github.com/galley-engine/galley/services/audit/internal/writer"
	"github.com/galley-engine/galley/services/audit/migrations"
	"github.com/galley-engine/galley/services/audit/verify"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func noFault() error { return nil }

func newProver(t *testing.T, e *audittest.Env, fault func() error, now time.Time) *proof.Prover {
	t.Helper()
	return proof.New(proof.Deps{
		Pool: e.Pool(t, migrations.Reader), Key: e.Key, Fault: fault, Clock: func() time.Time { return now }, Log: zerolog.Nop(),
	})
}

// large has tiles of three levels.
const large = 66_000

// TestProofs: what is given out convinces the verifier, for any event and any two sizes.
func TestProofs(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	e.Fill(t, large, 1, 256, 40_000, 65_536)
	p := newProver(t, e, noFault, audittest.FilledAt())
	view, err := storedtree.View(t.Context(), e.DB)
	require.NoError(t, err)
	options := verify.Options{Key: e.Key.Public}
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(1, large).Draw(t, "event")
		customer := audittest.FilledCustomer(i)
		if customer == "" || rapid.Bool().Draw(t, "as operator") {
			customer = audit.Everyone
		}
		made, err := p.Inclusion(ctx, query.AuditInclusionRequest{CustomerID: customer, EventID: audittest.FilledEvent(i)})
		require.NoError(t, err)
		included, err := verify.Inclusion(&made, options)
		require.NoError(t, err)
		assert.EqualValues(t, []int64{int64(i - 1), large}, []int64{included.Index, included.Head.Size})

		older := rapid.Int64Range(1, large).Draw(t, "older")
		newer := rapid.SampledFrom([]int64{0, 40_000, 65_536, large}).Draw(t, "newer")
		if newer != 0 && older > newer {
			return
		}
		proved, err := p.Consistency(ctx, query.AuditConsistencyRequest{Older: older, Newer: newer})
		require.NoError(t, err)
		root, err := view.RootAt(older)
		require.NoError(t, err)
		note, err := tree.Head{Origin: e.Key.Signer.Name(), Size: older, Root: root, Time: time.Unix(1, 0)}.Sign(e.Key.Signer)
		require.NoError(t, err)
		_, err = verify.Consistency(string(note), &proved, options)
		require.NoError(t, err)
	})
}

func refused(t *testing.T, err error) problem.Error {
	t.Helper()
	var found *problem.Error
	require.ErrorAs(t, err, &found)
	return *found
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	e.Fill(t, 100, 50)
	p := newProver(t, e, noFault, audittest.FilledAt())
	for name, test := range map[string]struct {
		request query.AuditInclusionRequest
		code    problem.Code
	}{
		"no customer":     {query.AuditInclusionRequest{EventID: audittest.FilledEvent(2)}, problem.InvalidRequest},
		"no event":        {query.AuditInclusionRequest{CustomerID: "cust_001"}, problem.InvalidRequest},
		"no text":         {query.AuditInclusionRequest{CustomerID: "cust_001", EventID: "a\x00"}, problem.InvalidRequest},
		"unknown event":   {query.AuditInclusionRequest{CustomerID: "cust_001", EventID: "x"}, problem.NotFound},
		"another's event": {query.AuditInclusionRequest{CustomerID: "cust_001", EventID: audittest.FilledEvent(3)}, problem.NotFound},
		"nobody's event":  {query.AuditInclusionRequest{CustomerID: "cust_001", EventID: audittest.FilledEvent(1)}, problem.NotFound},
	} {
		_, err := p.Inclusion(t.Context(), test.request)
		assert.Equal(t, test.code, refused(t, err).Code, name)
	}
	for name, test := range map[string]struct {
		request query.AuditConsistencyRequest
		code    problem.Code
	}{
		"nothing":           {query.AuditConsistencyRequest{}, problem.InvalidRequest},
		"more than it has":  {query.AuditConsistencyRequest{Older: 101}, problem.InvalidRequest},
		"more than newer":   {query.AuditConsistencyRequest{Older: 51, Newer: 50}, problem.InvalidRequest},
		"no head of a size": {query.AuditConsistencyRequest{Older: 1, Newer: 51}, problem.NotFound},
	} {
		_, err := p.Consistency(t.Context(), test.request)
		assert.Equal(t, test.code, refused(t, err).Code, name)
	}
}

// TestWaitsForARow: a proof may be asked for a little before the row is written.
func TestWaitsForARow(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	p := newProver(t, e, noFault, audittest.FilledAt()).Patiently(time.Minute)
	done := make(chan error, 1)
	go func() {
		_, err := p.Inclusion(context.WithoutCancel(t.Context()), query.AuditInclusionRequest{
			CustomerID: audit.Everyone, EventID: audittest.FilledEvent(1),
		})
		done <- err
	}()
	e.Fill(t, 3)
	require.NoError(t, <-done)
}

// TestWaitsForAHead: an event that no head covers yet gets its proof as soon as one does, and a clear answer when none comes.
func TestWaitsForAHead(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	p := newProver(t, e, noFault, audittest.FilledAt())
	_, err := p.Consistency(t.Context(), query.AuditConsistencyRequest{Older: 1})
	assert.True(t, refused(t, err).Retryable, "nothing is signed yet")

	e.Fill(t, 100)
	var note string
	require.NoError(t, e.DB.QueryRow(t.Context(), `SELECT note FROM audit.tree_heads`).Scan(&note))
	_, err = e.DB.Exec(t.Context(), `ALTER TABLE audit.tree_heads DISABLE TRIGGER ALL; DELETE FROM audit.tree_heads`)
	require.NoError(t, err)
	request := query.AuditInclusionRequest{CustomerID: "cust_001", EventID: audittest.FilledEvent(100)}
	_, err = p.Inclusion(t.Context(), request)
	assert.Equal(t, problem.Error{
		Code: problem.Unavailable, Retryable: true, Message: "no signed tree head covers it yet; there is a new one each second",
	}, refused(t, err))

	_, err = newProver(t, e, func() error { return writer.ErrRewound }, audittest.FilledAt()).Inclusion(t.Context(), request)
	assert.False(t, refused(t, err).Retryable, "that does not pass")
	say(t, e, writer.FaultRewound)
	_, err = p.Inclusion(t.Context(), request)
	assert.False(t, refused(t, err).Retryable, "whoever says so")
	say(t, e, writer.FaultNone)

	p.Patiently(time.Minute)
	done := make(chan error, 1)
	go func() {
		_, err := p.Inclusion(context.WithoutCancel(t.Context()), request)
		done <- err
	}()
	_, err = e.DB.Exec(t.Context(), `INSERT INTO audit.tree_heads (size, signed_at, note) VALUES (100, now(), $1)`, note)
	require.NoError(t, err)
	require.NoError(t, <-done)
}

// say has the signer of another process tell why nothing is signed.
func say(t *testing.T, e *audittest.Env, fault writer.Fault) {
	t.Helper()
	_, err := e.DB.Exec(t.Context(), `UPDATE audit.signing_fault SET origin = $1, fault = $2, told_at = now()`, e.Key.Signer.Name(), fault)
	require.NoError(t, err)
}

func TestTreeHead(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	now := audittest.FilledAt().Add(time.Second)
	ask := func(fault error, at time.Time) query.AuditTreeHeadReply {
		reply, err := newProver(t, e, func() error { return fault }, at).TreeHead(t.Context(), query.AuditTreeHeadRequest{})
		require.NoError(t, err)
		return reply
	}
	assert.Equal(t, query.AuditTreeHeadReply{Origin: e.Key.Signer.Name(), PublicKey: e.Key.Public}, ask(nil, now))
	e.Fill(t, 300)
	reply := ask(nil, now)
	head, err := tree.OpenHead([]byte(reply.Note), e.Key.Verifier)
	require.NoError(t, err)
	assert.Equal(t, query.AuditTreeHeadReply{
		Origin: e.Key.Signer.Name(), PublicKey: e.Key.Public, Rows: 300, Size: 300, Root: head.Root.String(), SignedAt: &head.Time, Note: reply.Note,
	}, reply)
	assert.Empty(t, ask(errors.New("dial tcp 10.0.0.1"), now).Fault, "everything is signed")
	assert.Contains(t, ask(writer.ErrRewound, now).Fault, "is not the one whose tree head was published")
	say(t, e, writer.FaultFailing)
	assert.Empty(t, ask(nil, now).Fault, "everything is signed")
	say(t, e, writer.FaultRewound)
	assert.Equal(t, ask(writer.ErrRewound, now), ask(nil, now))
	say(t, e, writer.FaultNone)

	_, err = e.DB.Exec(t.Context(), `UPDATE audit.head SET sequence = 299, tree_size = 0, edge = ''`)
	require.NoError(t, err)
	assert.Equal(t, "the newest tree head covers 300 rows, and the log has 299", ask(nil, now).Fault)
	_, err = e.DB.Exec(t.Context(), `UPDATE audit.head SET sequence = 301`)
	require.NoError(t, err)
	assert.Equal(t, "row 301 is missing", ask(nil, now).Fault)
	_, err = e.DB.Exec(t.Context(), `UPDATE audit.head SET sequence = 300;
		ALTER TABLE audit.tree_heads DISABLE TRIGGER ALL; DELETE FROM audit.tree_heads`)
	require.NoError(t, err)
	assert.Empty(t, ask(nil, now).Fault, "it will be soon")
	assert.Equal(t, "no row was signed since 2026-01-02T03:04:05Z", ask(errors.New("dial tcp 10.0.0.1"), now).Fault)
	assert.Equal(t, "no row was signed since 2026-01-02T03:04:05Z", ask(nil, now.Add(time.Minute)).Fault)
	say(t, e, writer.FaultFailing)
	assert.Equal(t, "no row was signed since 2026-01-02T03:04:05Z", ask(nil, now).Fault)
	say(t, e, writer.FaultUnanswered)
	assert.Equal(t, "no row was signed since 2026-01-02T03:04:05Z: no place that tree heads are published in answers", ask(nil, now).Fault)
}

// TestDamagedTree: no proof is made out of a tree that is not the one that was signed.
func TestDamagedTree(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	e.Fill(t, 1000)
	_, err := e.DB.Exec(t.Context(), `ALTER TABLE audit.tiles DISABLE TRIGGER ALL;
		UPDATE audit.tiles SET hashes = set_byte(hashes, 77, get_byte(hashes, 77) # 1) WHERE level = 0 AND index = 0`)
	require.NoError(t, err)
	p := newProver(t, e, noFault, audittest.FilledAt())
	_, err = p.Inclusion(t.Context(), query.AuditInclusionRequest{CustomerID: audit.Everyone, EventID: audittest.FilledEvent(10)})
	assert.Equal(t, problem.Internal, refused(t, err).Code)
	_, err = p.Inclusion(t.Context(), query.AuditInclusionRequest{CustomerID: audit.Everyone, EventID: audittest.FilledEvent(900)})
	require.NoError(t, err)
}
