package verify_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/leaf"
	"github.com/galley-engine/galley/services/audit/internal/tree"
	"github.com/galley-engine/galley/services/audit/verify"
)

// stretched is a log of 20,000 rows for verifications that skip some. It is cut into stretches of 4,096 rows, of which four are old.
const (
	stretched = 20_000
	stretch   = 4096
	stretches = 4
)

func newStretched(tb testing.TB) *written {
	tb.Helper()
	return newSigned(tb, stretched, 1, 256, 4500, 5000, 9000)
}

// newSigned is a log of some rows, with tree heads of these sizes and of all rows.
func newSigned(tb testing.TB, rows int, heads ...int) *written {
	tb.Helper()
	log := &written{Env: audittest.New(tb), rows: rows}
	log.Fill(tb, rows, heads...)
	return log
}

// but skips all old stretches but one.
func but(turn int) []verify.Rows {
	var skip []verify.Rows
	for i := range stretches {
		if i != turn {
			skip = append(skip, verify.Rows{From: int64(i)*stretch + 1, To: int64(i+1) * stretch})
		}
	}
	return skip
}

// TestSkippedRows: an untouched log is whole whatever is skipped, and what the report counts is what was asked for.
func TestSkippedRows(t *testing.T) {
	t.Parallel()
	const rows = 5_000 // each of many verifications reads most of them
	log := newSigned(t, rows, 1, 256, 1100, 3000)
	whole := log.verify(t, nil)
	require.Empty(t, places(t, whole))
	require.Zero(t, whole.Skipped)
	rapid.Check(t, func(r *rapid.T) {
		sequence := rapid.OneOf(rapid.Int64Range(-300, rows+300), rapid.Int64())
		var skip []verify.Rows
		asked := map[int64]bool{} // tiles
		for range rapid.IntRange(0, 6).Draw(r, "ranges") {
			some := verify.Rows{From: sequence.Draw(r, "from"), To: sequence.Draw(r, "to")}
			skip = append(skip, some)
			for tile := range int64(rows / 256) {
				if some.From <= tile*256+1 && (tile+1)*256 <= some.To {
					asked[tile] = true
				}
			}
		}
		report := log.verify(t, nil, skip...)
		require.Empty(r, report.Findings, "%v", skip)
		require.EqualValues(r, rows, report.Leaves+report.Skipped)
		require.LessOrEqual(r, report.Skipped, int64(len(asked))*256)
		require.GreaterOrEqual(r, report.Skipped, int64(len(asked)-len(skip))*256, "a tile of each range may be read for its head")
		require.Equal(r, whole.Root, report.Root)
		require.Equal(r, whole.SignedSize, report.SignedSize)
	})
}

// TestRowsThatAreAlwaysRead: those that no tree head covers, those at published tree heads, and all when nothing is signed.
func TestRowsThatAreAlwaysRead(t *testing.T) {
	t.Parallel()
	log := newStretched(t)
	everything := verify.Rows{From: math.MinInt64, To: math.MaxInt64}
	report := log.verify(t, nil, everything)
	assert.Empty(t, places(t, report))
	assert.EqualValues(t, stretched-stretched%256-256, report.Skipped, "but the tile that is not complete, and that of the head of size 9000")
	assert.EqualValues(t, 2, report.Heads)

	var notes []string
	for _, size := range []int64{4500, 9000} {
		var note string
		require.NoError(t, log.DB.QueryRow(t.Context(), `SELECT note FROM audit.tree_heads WHERE size = $1`, size).Scan(&note))
		notes = append(notes, note)
	}
	report = log.verify(t, notes, everything)
	assert.Empty(t, places(t, report))
	assert.EqualValues(t, stretched-stretched%256-2*256, report.Skipped)
	assert.Equal(t, 2, report.Published)
	assert.EqualValues(t, 3, report.Heads)

	w := log.clone(t)
	w.do(t, `DELETE FROM audit.tree_heads WHERE size > 5000`)
	report = w.verify(t, nil, everything)
	assert.Empty(t, places(t, report))
	assert.EqualValues(t, 5000-5000%256-256, report.Skipped)
	w.do(t, `DELETE FROM audit.tree_heads`)
	report = w.verify(t, nil, everything)
	assert.Zero(t, report.Skipped)
	assert.EqualValues(t, stretched, report.Leaves)
}

// forged is a published tree head that the key has signed and that is not of the log.
func (w *written) forged(tb testing.TB, size int64) string {
	tb.Helper()
	signed, err := tree.Head{Origin: w.Key.Signer.Name(), Size: size, Time: audittest.FilledAt()}.Sign(w.Key.Signer)
	require.NoError(tb, err)
	return string(signed)
}

// TestAttacksAndSkippedRows has all sorts of things done to rows of the second stretch, around row 6000. When it is read, they are found as if
// all were. Otherwise most are not.
func TestAttacksAndSkippedRows(t *testing.T) {
	t.Parallel()
	log := newStretched(t)
	const edited = `leaf = convert_to(replace(convert_from(leaf, 'UTF8'), 'success', 'failed'), 'UTF8')`
	const rehash = `UPDATE audit.tiles SET hashes = substring(hashes FOR 111 * 32) || (SELECT sha256('\x00' || leaf) FROM audit.events WHERE sequence = 6000)
		|| substring(hashes FROM 112 * 32 + 1) WHERE level = 0 AND index = 23;`
	renumbered := func(from, to, by int) string {
		return fmt.Sprintf(`UPDATE audit.events SET sequence = sequence + 1000000 WHERE sequence BETWEEN %[1]d AND %[2]d;
			UPDATE audit.payloads SET sequence = sequence + 1000000 WHERE sequence BETWEEN %[1]d AND %[2]d;
			UPDATE audit.events SET sequence = sequence - 1000000 + %[3]d WHERE sequence > 1000000;
			UPDATE audit.payloads SET sequence = sequence - 1000000 + %[3]d WHERE sequence > 1000000;`, from, to, by)
	}
	deleted := func(from, to int) string {
		return fmt.Sprintf(`DELETE FROM audit.events WHERE sequence BETWEEN %[1]d AND %[2]d; DELETE FROM audit.payloads WHERE sequence BETWEEN %[1]d AND %[2]d;`,
			from, to)
	}
	for name, attack := range map[string]struct {
		do    string
		codes []verify.Code
		// always says that it is found whatever is read.
		always bool
	}{
		"edit a leaf":                 {`UPDATE audit.events SET ` + edited + ` WHERE sequence = 6000`, []verify.Code{verify.RowChanged}, false},
		"edit a leaf and its columns": {`UPDATE audit.events SET outcome = 'failed', ` + edited + ` WHERE sequence = 6000`, []verify.Code{verify.RowChanged}, false},
		"edit a leaf and its tile": {
			`UPDATE audit.events SET outcome = 'failed', ` + edited + ` WHERE sequence = 6000;` + rehash, []verify.Code{verify.LogRewritten, verify.ChainBroken}, false,
		},
		"give a row to another customer": {
			`UPDATE audit.events SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), customer_id, 'cust_009'), 'UTF8'), customer_id = 'cust_009'
				WHERE sequence = 6000`, []verify.Code{verify.RowChanged}, false,
		},
		"spoil a leaf":   {`UPDATE audit.events SET leaf = leaf || ' ' WHERE sequence = 6000`, []verify.Code{verify.RowChanged}, false},
		"edit a column":  {`UPDATE audit.events SET outcome = 'failed' WHERE sequence = 6000`, []verify.Code{verify.ColumnDiffers}, false},
		"delete a row":   {deleted(6000, 6000), []verify.Code{verify.RowMissing}, false},
		"delete a range": {deleted(5200, 7000), []verify.Code{verify.RowMissing}, false},
		"delete a stretch": {
			deleted(stretch+1, 2*stretch), []verify.Code{verify.RowMissing}, true,
		},
		"swap two rows": {
			renumbered(6000, 6000, 100_000) + renumbered(6500, 6500, -500) + renumbered(106_000, 106_000, -99_500), []verify.Code{verify.RowsSwapped}, false,
		},
		"put rows in another order": {
			renumbered(6000, 6000, 100_000) + renumbered(6001, 6005, -1) + renumbered(106_000, 106_000, -99_995), []verify.Code{verify.RowsSwapped}, false,
		},
		"repeat a row": {
			`ALTER TABLE audit.events DROP CONSTRAINT events_pkey; DROP INDEX audit.events_event_id;
				INSERT INTO audit.events SELECT * FROM audit.events WHERE sequence = 6000`, []verify.Code{verify.RowRepeated}, false,
		},
		"change a payload":            {`UPDATE audit.payloads SET data = data || ' ' WHERE sequence = 6000`, []verify.Code{verify.PayloadChanged}, false},
		"change a payload's customer": {`UPDATE audit.payloads SET customer_id = 'x' WHERE sequence = 6000`, []verify.Code{verify.ColumnDiffers}, false},
		"move a payload": {
			`UPDATE audit.payloads SET sequence = 30000 WHERE sequence = 6000`, []verify.Code{verify.PayloadStray}, true,
		},
		"change a tile":           {flipped(0, 23, 500), []verify.Code{verify.TileChanged}, false},
		"delete a tile":           {`DELETE FROM audit.tiles WHERE index = 23`, []verify.Code{verify.TileMissing}, false},
		"change a tree head":      {`UPDATE audit.tree_heads SET note = replace(note, '4500', '4501') WHERE size = 4500`, []verify.Code{verify.HeadNotSigned}, false},
		"change a head's time":    {`UPDATE audit.tree_heads SET signed_at = now() WHERE size = 4500`, []verify.Code{verify.HeadMalformed}, false},
		"change the newest there": {`UPDATE audit.tree_heads SET note = replace(note, '5000', '5001') WHERE size = 5000`, []verify.Code{verify.HeadNotSigned}, true},
		"switch a trigger off":    {`ALTER TABLE audit.events DISABLE TRIGGER append_only`, []verify.Code{verify.TriggerDisabled}, true},
		"change the root":         {`UPDATE audit.head SET root = sha256('x')`, []verify.Code{verify.EdgeChanged}, true},
		"change the edge's top": {
			`UPDATE audit.head SET edge = set_byte(edge, octet_length(edge) - 1, get_byte(edge, octet_length(edge) - 1) # 1)`,
			[]verify.Code{verify.EdgeChanged},
			true,
		},
		"cut the end off":            {deleted(10_000, stretched), []verify.Code{verify.LogTruncated}, true},
		"add a row before the first": {`ALTER TABLE audit.events DROP CONSTRAINT events_sequence_check;` + renumbered(6000, 6000, -6001), []verify.Code{verify.RowAdded, verify.RowMissing}, true},
		"add the last row that there can be": {
			`INSERT INTO audit.events SELECT (jsonb_populate_record(e, '{"sequence": 9223372036854775807, "event_id": "x"}')).* FROM audit.events AS e
				WHERE sequence = 6000`, []verify.Code{verify.RowAdded}, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := log.clone(t)
			w.do(t, attack.do+`;`)
			if name == "switch a trigger off" {
				_, err := w.DB.Exec(t.Context(), attack.do)
				require.NoError(t, err)
			}
			want := places(t, w.verify(t, nil))
			var codes []verify.Code
			for _, found := range want {
				codes = append(codes, found.code)
			}
			require.Equal(t, attack.codes, codes)
			for turn := range stretches {
				report := w.verify(t, nil, but(turn)...)
				found := places(t, report)
				switch {
				case turn == 1 && name != "cut the end off":
					assert.Equal(t, want, found)
				case attack.always:
					assert.NotEmpty(t, found, turn)
				default:
					assert.Empty(t, found, turn)
				}
			}
		})
	}
}

// TestChangesBetweenStretches are not found as what they are before all is read, but they are found.
func TestChangesBetweenStretches(t *testing.T) {
	t.Parallel()
	log := newStretched(t)
	moved := func(from, to, by int) string {
		return fmt.Sprintf(`UPDATE audit.events SET sequence = sequence + 1000000 WHERE sequence BETWEEN %[1]d AND %[2]d;
			UPDATE audit.events SET sequence = sequence - 1000000 + %[3]d WHERE sequence > 1000000;`, from, to, by)
	}
	for name, attack := range map[string]struct {
		do    string
		turns []int
	}{
		"swap": {moved(6000, 6000, 100_000) + moved(10_000, 10_000, -4000) + moved(106_000, 106_000, -96_000), []int{1, 2}},
		"delete a row, and close the gap": {
			`DELETE FROM audit.events WHERE sequence = 6000;` + moved(6001, stretched, -1), []int{0, 1, 2, 3},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := log.clone(t)
			w.do(t, attack.do)
			for turn := range stretches {
				found := places(t, w.verify(t, nil, but(turn)...))
				assert.Equal(t, slices.Contains(attack.turns, turn), len(found) > 0, turn)
			}
		})
	}
}

// TestChainsAcrossSkippedRows: the first leaf of a customer that is read after a gap is compared with the last one in it. Of cust_003 those are
// rows 12007, in the third stretch, and 14007, in the fourth.
func TestChainsAcrossSkippedRows(t *testing.T) {
	t.Parallel()
	log := newStretched(t)
	skip := but(3)
	for name, attack := range map[string]struct {
		do   string
		want []place
	}{
		"nothing":                    {`SELECT 1`, nil},
		"an earlier leaf is deleted": {`DELETE FROM audit.events WHERE sequence = 10007`, nil},
		"the leaf is deleted":        {`DELETE FROM audit.events WHERE sequence = 12007`, []place{{code: verify.ChainBroken, sequence: 14_007}}},
		"all but the first are deleted": {
			`DELETE FROM audit.events WHERE customer_id = 'cust_003' AND sequence BETWEEN 257 AND 14006`, []place{{code: verify.ChainBroken, sequence: 14_007}},
		},
		"the leaf is changed": {
			`UPDATE audit.events SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), 'success', 'failed'), 'UTF8') WHERE sequence = 12007`,
			[]place{{code: verify.RowChanged, sequence: 12_007}},
		},
		"the leaf is given to somebody else": {
			`UPDATE audit.events SET customer_id = 'cust_009' WHERE sequence = 12007`, []place{{code: verify.ChainBroken, sequence: 14_007}},
		},
		"somebody else's leaf is given to the customer": {
			`UPDATE audit.events SET customer_id = 'cust_003' WHERE sequence = 12009`,
			[]place{{code: verify.ColumnDiffers, sequence: 12_009, columns: "customer_id "}},
		},
		"its tile is changed": {flipped(0, 46, 0), []place{{code: verify.TileChanged, tile: "0/46"}}},
		"its tile is deleted": {`DELETE FROM audit.tiles WHERE index = 46`, []place{{code: verify.TileMissing, tile: "0/46"}}},
		"a leaf that is read is given to somebody else": {
			`UPDATE audit.events SET customer_id = 'cust_003' WHERE sequence = 13000`,
			[]place{{code: verify.ColumnDiffers, sequence: 13_000, columns: "customer_id "}},
		},
		"the customer's name is no text": {
			`UPDATE audit.events SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), 'cust_003', '\u0000'), 'UTF8') WHERE sequence = 14007`,
			[]place{{code: verify.RowChanged, sequence: 14_007, columns: "customer_id payloads.customer_id "}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := log.clone(t)
			w.do(t, attack.do)
			assert.Equal(t, attack.want, places(t, w.verify(t, nil, skip...)))
		})
	}
	// The writer itself, or who has its key, leaves a leaf out: all that is stored fits together but for the chain.
	t.Run("a leaf was left out", func(t *testing.T) {
		t.Parallel()
		w := log.clone(t)
		w.rewrite(t, w.Key, func(sequence int64, l *leaf.Leaf) {
			if l.CustomerID == "cust_003" && sequence > 12_007 {
				l.CustomerSequence++
			}
		})
		want := []place{{code: verify.ChainBroken, sequence: 14_007}}
		assert.Equal(t, want, places(t, w.verify(t, nil)))
		assert.Equal(t, want, places(t, w.verify(t, nil, but(3)...)))
		assert.Empty(t, places(t, w.verify(t, nil, but(2)...)), "the leaf after it is not read")
	})
	// With the key, what is skipped can be written anew: published heads tell.
	t.Run("another log", func(t *testing.T) {
		t.Parallel()
		w := log.clone(t)
		w.rewrite(t, w.Key, fail(6000))
		assert.Empty(t, places(t, w.verify(t, nil, but(3)...)))
		found := places(t, w.verify(t, []string{w.forged(t, 9000)}, but(3)...))
		assert.Equal(t, []place{{code: verify.LogRewritten, sequence: 1, to: 9000, size: 9000}}, found)
	})
}
