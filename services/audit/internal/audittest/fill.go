package audittest

import (
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require" //nolint:depguard // this package is for tests

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/audit/internal/leaf"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// filler makes rows as the writer does, without the streams that it has them from.
type filler struct {
	edge           tree.Edge
	chains         map[string]leaf.Leaf
	ends           map[string]tree.Hash
	rows, payloads [][]any
	tiles, heads   [][]any
}

// FilledAt is when the rows of Fill were recorded.
func FilledAt() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// FilledEvent is the id of the event of row i (from 1) that Fill made.
func FilledEvent(i int) string { return fmt.Sprintf("filled-%d", i) }

// FilledCustomer is whose row i is: of four customers one has half of the rows, one every eighth, one every 2000th, and nobody the rest.
func FilledCustomer(i int) string {
	switch {
	case i%2000 == 7:
		return "cust_003"
	case i%8 == 3:
		return "cust_002"
	case i%2 == 0:
		return "cust_001"
	}
	return ""
}

// Fill makes a log of n rows in one go, with tree heads at the sizes and at n. Every third row has data beside it.
func (e *Env) Fill(tb testing.TB, n int, sizes ...int) {
	tb.Helper()
	f := filler{chains: map[string]leaf.Leaf{}, ends: map[string]tree.Hash{}}
	sizes = append(sizes, n)
	for i := 1; i <= n; i++ {
		f.add(i)
		if slices.Contains(sizes, i) {
			head := tree.Head{Origin: e.Key.Signer.Name(), Size: int64(i), Root: f.edge.Root(), Time: FilledAt()}
			signed, err := head.Sign(e.Key.Signer)
			require.NoError(tb, err)
			f.heads = append(f.heads, []any{int64(i), head.Time, string(signed)})
		}
	}
	for table, rows := range map[string][][]any{"events": f.rows, "payloads": f.payloads, "tiles": f.tiles, "tree_heads": f.heads} {
		columns := map[string][]string{
			"events": {
				"sequence", "occurred_at", "recorded_at", "event_id", "customer_id", "customer_sequence", "action_type", "resource_type",
				"resource_id", "actor_type", "actor_id", "outcome", "trace_id", "leaf",
			},
			"payloads": {"sequence", "customer_id", "salt", "data"}, "tiles": {"level", "index", "hashes"}, "tree_heads": {"size", "signed_at", "note"},
		}[table]
		_, err := e.DB.CopyFrom(tb.Context(), pgx.Identifier{"audit", table}, columns, pgx.CopyFromRows(rows))
		require.NoError(tb, err)
	}
	root := f.edge.Root()
	_, err := e.DB.Exec(tb.Context(), `UPDATE audit.head SET sequence = $1, tree_size = $1, root = $2, edge = $3`,
		n, root[:], f.edge.AppendBinary(nil))
	require.NoError(tb, err)
}

func (f *filler) add(i int) {
	customer := FilledCustomer(i)
	last := f.chains[customer]
	l := leaf.Leaf{
		Version: leaf.Version, EventID: FilledEvent(i), Type: event.TypeActivity, Time: FilledAt(), CustomerID: customer,
		CustomerSequence: last.CustomerSequence + 1, Previous: f.ends[customer], Actor: event.Actor{Type: "api_key", ID: "key_1"},
		Action: "recipe.published", ResourceType: "recipe", ResourceID: fmt.Sprintf("recipe-%d", i%100), Outcome: "success",
	}
	salt := make([]byte, leaf.SaltSize)
	_, _ = rand.Read(salt) // it never fails: it ends the process instead
	var data []byte
	if i%3 == 0 {
		data = fmt.Appendf(nil, `{"changes":{"after":{"version":%d}}}`, i)
	}
	l.Digest = leaf.Digest(salt, data)
	encoded := l.AppendJSON(nil)
	hash := tree.LeafHash(encoded)
	for _, tile := range f.edge.Append(hash) {
		f.tiles = append(f.tiles, []any{int16(tile.Level), tile.Index, tile.Hashes}) //nolint:gosec // a tree has few levels
	}
	f.chains[customer], f.ends[customer] = l, hash
	f.rows = append(f.rows, []any{
		int64(i), l.Time, FilledAt().Add(time.Duration(i) * time.Millisecond), l.EventID, l.CustomerID, l.CustomerSequence, l.Action, l.ResourceType,
		l.ResourceID, l.Actor.Type, l.Actor.ID, l.Outcome, l.TraceID, encoded,
	})
	f.payloads = append(f.payloads, []any{int64(i), l.CustomerID, salt, data})
}
