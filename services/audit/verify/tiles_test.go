package verify_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/verify"
)

// flipped changes one byte of a tile.
func flipped(level, index, offset int) string {
	return fmt.Sprintf(`UPDATE audit.tiles SET hashes = set_byte(hashes, %[3]d, get_byte(hashes, %[3]d) # 1) WHERE level = %[1]d AND index = %[2]d;`,
		level, index, offset)
}

// TestTilesOfSeveralLevels attacks a log with 257 complete tiles of leaves and 208 leaves more, one complete tile above them and one that is
// not, and one of a third level. Its heads are few.
func TestTilesOfSeveralLevels(t *testing.T) {
	t.Parallel()
	log := &written{Env: audittest.New(t), rows: 66_000}
	log.Fill(t, log.rows, 1, 256, 40_000)
	report := log.verify(t, nil)
	require.Empty(t, places(t, report))
	require.EqualValues(t, 4, report.Heads)
	// changed edits a row so that the leaf stays one that can be read.
	changed := func(row int) string {
		return fmt.Sprintf(`UPDATE audit.events SET outcome = 'failed', leaf = convert_to(replace(convert_from(leaf, 'UTF8'), 'success', 'failed'), 'UTF8')
			WHERE sequence = %d;`, row)
	}
	// follows makes the hash in the tile of level 0 be that of the row.
	follows := func(row int) string {
		tile, place := (row-1)/256, (row-1)%256
		return fmt.Sprintf(`UPDATE audit.tiles SET hashes = substring(hashes FOR %[1]d) || (SELECT sha256('\x00' || leaf) FROM audit.events
			WHERE sequence = %[2]d) || substring(hashes FROM %[1]d + 33) WHERE level = 0 AND index = %[3]d;`, place*32, row, tile)
	}
	most := verify.Rows{From: 1, To: 65_000}
	report = log.verify(t, nil, most)
	require.Empty(t, places(t, report))
	require.EqualValues(t, (65_000/256-1)*256, report.Skipped, "but the tile of the newest head")
	require.EqualValues(t, 66_000, report.Leaves+report.Skipped)
	// Whatever is done above the leaves is found whichever rows are skipped.
	above := map[string]bool{
		"a tile of their roots": true, "a tile of their roots, late": true, "the edge": true, "the top of the edge": true,
		"delete a tile of roots": true, "a range with all tiles": true, "most of the log": true,
	}
	for name, attack := range map[string]struct {
		do   string
		want []place
	}{
		"a tile of leaves":            {flipped(0, 100, 500), []place{{code: verify.TileChanged, tile: "0/100"}}},
		"a tile of leaves, late":      {flipped(0, 256, 500), []place{{code: verify.TileChanged, tile: "0/256"}}},
		"a tile of their roots":       {flipped(1, 0, 500), []place{{code: verify.TileChanged, tile: "1/0"}}},
		"a tile of their roots, late": {flipped(1, 0, 8000), []place{{code: verify.TileChanged, tile: "1/0"}}},
		"the edge": {
			`UPDATE audit.head SET edge = set_byte(edge, 208 * 32, get_byte(edge, 208 * 32) # 1)`, []place{{code: verify.EdgeChanged}},
		},
		"the top of the edge": {
			`UPDATE audit.head SET edge = set_byte(edge, 209 * 32, get_byte(edge, 209 * 32) # 1)`, []place{{code: verify.EdgeChanged}},
		},
		"delete a tile of roots": {`DELETE FROM audit.tiles WHERE level = 1`, []place{{code: verify.TileMissing, tile: "1/0"}}},
		"delete all tiles of leaves but one": {
			`DELETE FROM audit.tiles WHERE level = 0 AND index > 3 AND index <> 8`, nil, // looked at below
		},
		"a row":        {changed(30_000), []place{{code: verify.RowChanged, sequence: 30_000}}},
		"the last row": {changed(66_000), []place{{code: verify.RowChanged, sequence: 66_000}}},
		"a row and a tile elsewhere": {
			changed(30_000) + flipped(0, 100, 500) + flipped(0, 200, 500),
			[]place{{code: verify.TileChanged, tile: "0/100"}, {code: verify.RowChanged, sequence: 30_000}, {code: verify.TileChanged, tile: "0/200"}},
		},
		"a row and its tile": {
			changed(30_000) + follows(30_000),
			[]place{
				{code: verify.LogRewritten, sequence: 29_953, to: 30_208, tile: "0/117"},
				{code: verify.ChainBroken, sequence: 30_002},
			},
		},
		"two rows and their tiles, and another tile": {
			changed(30_000) + follows(30_000) + changed(50_000) + follows(50_000) + flipped(0, 200, 500),
			[]place{
				{code: verify.LogRewritten, sequence: 29_953, to: 30_208, tile: "0/117"},
				{code: verify.ChainBroken, sequence: 30_002},
				{code: verify.LogRewritten, sequence: 49_921, to: 50_176, tile: "0/195"},
				{code: verify.ChainBroken, sequence: 50_002},
				{code: verify.TileChanged, tile: "0/200"},
			},
		},
		"a row and its tile, behind the last head": {
			`DELETE FROM audit.tree_heads WHERE size = 66000;` + changed(65_700) + follows(65_700),
			[]place{{code: verify.EdgeChanged}, {code: verify.ChainBroken, sequence: 65_702}},
		},
		"a range of several pages": {
			`DELETE FROM audit.events WHERE sequence BETWEEN 1000 AND 60000; DELETE FROM audit.payloads WHERE sequence BETWEEN 1000 AND 60000`,
			[]place{{code: verify.RowMissing, sequence: 1000, to: 60_000}},
		},
		"a range of several pages with its tiles": {
			`DELETE FROM audit.events WHERE sequence BETWEEN 1025 AND 59904; DELETE FROM audit.payloads WHERE sequence BETWEEN 1025 AND 59904;
				DELETE FROM audit.tiles WHERE level = 0 AND index BETWEEN 4 AND 233; UPDATE audit.tiles SET hashes = hashes WHERE level = 1`,
			[]place{
				{code: verify.RowMissing, sequence: 1025, to: 59_904},
				{code: verify.ChainBroken, sequence: 59_905},
				{code: verify.ChainBroken, sequence: 59_906},
				{code: verify.ChainBroken, sequence: 59_907},
				{code: verify.ChainBroken, sequence: 60_007},
			},
		},
		"a range with all tiles": {
			`DELETE FROM audit.events WHERE sequence BETWEEN 1025 AND 59904; DELETE FROM audit.payloads WHERE sequence BETWEEN 1025 AND 59904;
				DELETE FROM audit.tiles WHERE level = 1 OR index BETWEEN 4 AND 233`,
			[]place{
				{code: verify.RowMissing, sequence: 1025, to: 59_904},
				{code: verify.ChainBroken, sequence: 59_905},
				{code: verify.ChainBroken, sequence: 59_906},
				{code: verify.ChainBroken, sequence: 59_907},
				{code: verify.ChainBroken, sequence: 60_007},
			},
		},
		"most of the log": {
			`DELETE FROM audit.events WHERE sequence > 1000; DELETE FROM audit.payloads WHERE sequence > 1000; DELETE FROM audit.tiles WHERE index > 3`,
			[]place{{code: verify.LogTruncated, sequence: 1001, to: 66_000}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := log.clone(t)
			w.do(t, attack.do)
			report := w.verify(t, nil)
			if attack.want == nil {
				assert.Len(t, report.Findings, verify.DefaultMaxFindings)
				assert.EqualValues(t, 257-5-verify.DefaultMaxFindings, report.Unlisted)
				assert.Equal(t, verify.TileMissing, report.Findings[0].Code)
				assert.NotEmpty(t, report.Root)
				return
			}
			assert.Equal(t, attack.want, places(t, report))
			if above[name] {
				report = w.verify(t, nil, most)
				assert.Equal(t, attack.want, places(t, report))
				assert.Zero(t, report.Skipped)
			}
		})
	}
}
