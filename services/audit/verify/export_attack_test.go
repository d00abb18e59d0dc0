package verify_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/tree"
	"github.com/galley-engine/galley/services/audit/verify"
)

func decoded(tb testing.TB, text []byte) []audit.Line {
	tb.Helper()
	var lines []audit.Line
	for one := range bytes.SplitSeq(bytes.TrimSpace(text), []byte("\n")) {
		var line audit.Line
		require.NoError(tb, json.Unmarshal(one, &line))
		lines = append(lines, line)
	}
	return lines
}

func encoded(tb testing.TB, lines []audit.Line) []byte {
	tb.Helper()
	var text []byte
	for i := range lines {
		one, err := json.Marshal(&lines[i])
		require.NoError(tb, err)
		text = append(append(text, one...), '\n')
	}
	return text
}

// at finds the line of a leaf by its index, or that of a tile of level 0.
func at(lines []audit.Line, kind audit.Kind, index int64) int {
	return slices.IndexFunc(lines, func(l audit.Line) bool { return l.Kind == kind && l.Index == index && l.Level == 0 })
}

// without gives the lines without some.
func without(lines []audit.Line, drop func(l *audit.Line) bool) []audit.Line {
	return slices.DeleteFunc(slices.Clone(lines), func(l audit.Line) bool { return drop(&l) })
}

type exportAttack struct {
	do   func(lines []audit.Line) []audit.Line
	want []place
}

func attackExports(t *testing.T, e *audittest.Env, customer string, attacks map[string]exportAttack) {
	t.Helper()
	text := exported(t, e, customer)
	require.Empty(t, places(t, export(t, e, text)))
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, attack.want, places(t, export(t, e, encoded(t, attack.do(decoded(t, text))))))
		})
	}
}

func dropTiles(l *audit.Line) bool { return l.Kind == audit.KindTile }

// TestAttacksOnAnExportOfTheLog: the log has 700 rows and heads of 256, 300 and 700.
func TestAttacksOnAnExportOfTheLog(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	e.Fill(t, 700, 256, 300)
	fail := func(l *audit.Line) { l.Leaf = strings.Replace(l.Leaf, "success", "failed", 1) }
	attackExports(t, e, audit.Everyone, map[string]exportAttack{
		"without tiles": {func(lines []audit.Line) []audit.Line { return without(lines, dropTiles) }, nil},
		"a leaf": {
			func(lines []audit.Line) []audit.Line { fail(&lines[at(lines, audit.KindLeaf, 99)]); return lines },
			[]place{{code: verify.RowChanged, sequence: 100}},
		},
		"a leaf, without tiles": {
			func(lines []audit.Line) []audit.Line {
				fail(&lines[at(lines, audit.KindLeaf, 270)])
				return without(lines, dropTiles)
			},
			[]place{{code: verify.LogRewritten, sequence: 257, to: 300, size: 300}, {code: verify.ChainBroken, sequence: 273}},
		},
		"a leaf left out": {
			func(lines []audit.Line) []audit.Line {
				return without(lines, func(l *audit.Line) bool { return l.Kind == audit.KindLeaf && l.Index == 99 })
			},
			[]place{{code: verify.RowMissing, sequence: 100}},
		},
		"a leaf left out, and the others moved up": {
			func(lines []audit.Line) []audit.Line {
				lines = without(lines, func(l *audit.Line) bool { return l.Kind == audit.KindLeaf && l.Index == 99 })
				for i := range lines {
					if lines[i].Kind == audit.KindLeaf && lines[i].Index > 99 {
						lines[i].Index--
					}
				}
				return lines
			},
			[]place{{code: verify.RowMissing, sequence: 100}},
		},
		"leaves swapped": {
			func(lines []audit.Line) []audit.Line {
				i, j := at(lines, audit.KindLeaf, 99), at(lines, audit.KindLeaf, 600)
				lines[i], lines[j] = lines[j], lines[i]
				lines[i].Index, lines[j].Index = lines[j].Index, lines[i].Index
				return lines
			},
			[]place{{code: verify.RowsSwapped, sequence: 100, to: 601}},
		},
		"the last leaves left out": {
			func(lines []audit.Line) []audit.Line {
				return without(lines, func(l *audit.Line) bool { return l.Kind == audit.KindLeaf && l.Index >= 690 })
			},
			[]place{{code: verify.LogTruncated, sequence: 691, to: 700}},
		},
		"an older head": {
			func(lines []audit.Line) []audit.Line { return lines[:len(lines)-1] },
			[]place{{code: verify.RowAdded, sequence: 301, to: 700}},
		},
		"cut off": {
			func(lines []audit.Line) []audit.Line { return lines[:len(lines)-3] },
			[]place{{code: verify.HeadMissing}},
		},
		"a head": {
			func(lines []audit.Line) []audit.Line {
				lines[len(lines)-1].Note = strings.Replace(lines[len(lines)-1].Note, "\n700\n", "\n699\n", 1)
				return lines
			},
			[]place{{code: verify.RowAdded, sequence: 301, to: 700}, {code: verify.HeadNotSigned, size: 699}},
		},
		"a tile": {
			func(lines []audit.Line) []audit.Line {
				lines[at(lines, audit.KindTile, 1)].Hashes[77] ^= 1
				return lines
			},
			[]place{{code: verify.TileChanged, tile: "0/1"}},
		},
		"a tile at the end": {
			func(lines []audit.Line) []audit.Line {
				lines[at(lines, audit.KindTile, 2)].Hashes[77] ^= 1
				return lines
			},
			[]place{{code: verify.TileChanged, tile: "0/2"}},
		},
		"data": {
			func(lines []audit.Line) []audit.Line { lines[at(lines, audit.KindLeaf, 98)].Data[5] ^= 1; return lines },
			[]place{{code: verify.PayloadChanged, sequence: 99}},
		},
		"a leaf twice": {
			func(lines []audit.Line) []audit.Line { return slices.Insert(lines, 5, lines[4]) },
			[]place{{code: verify.ExportMalformed}},
		},
		"no first line": {
			func(lines []audit.Line) []audit.Line { return lines[1:] }, []place{{code: verify.ExportMalformed}},
		},
		"another format": {
			func(lines []audit.Line) []audit.Line { lines[0].Format = 2; return lines }, []place{{code: verify.ExportMalformed}},
		},
		"another log": {
			func(lines []audit.Line) []audit.Line { lines[0].Origin = "galley-other"; return lines }, []place{{code: verify.ExportMalformed}},
		},
		"as a customer's": {
			func(lines []audit.Line) []audit.Line {
				lines[0].CustomerID = "cust_001"
				return without(lines, func(l *audit.Line) bool { return l.Kind == audit.KindLeaf && l.Index > 1 })
			},
			[]place{{code: verify.ForeignLeaf, sequence: 1}},
		},
	})
}

// TestAttacksOnAnExportOfACustomer: cust_002 has rows 3, 11, 19 and so on, 88 of them.
func TestAttacksOnAnExportOfACustomer(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	e.Fill(t, 700, 256, 300)
	leaf := func(n int64) func(l *audit.Line) bool {
		return func(l *audit.Line) bool { return l.Kind == audit.KindLeaf && l.Index == 8*n+2 }
	}
	others := decoded(t, exported(t, e, "cust_001"))
	attackExports(t, e, "cust_002", map[string]exportAttack{
		"a leaf": {
			func(lines []audit.Line) []audit.Line {
				l := &lines[at(lines, audit.KindLeaf, 82)]
				l.Leaf = strings.Replace(l.Leaf, "success", "failed", 1)
				return lines
			},
			[]place{{code: verify.LeafNotIncluded, sequence: 83}},
		},
		"a leaf left out": {
			func(lines []audit.Line) []audit.Line { return without(lines, leaf(10)) },
			[]place{{code: verify.ChainBroken, sequence: 91}},
		},
		"the first leaf left out": {
			func(lines []audit.Line) []audit.Line { return without(lines, leaf(0)) },
			[]place{{code: verify.ChainBroken, sequence: 11}},
		},
		"a leaf of somebody else": {
			func(lines []audit.Line) []audit.Line { return slices.Insert(lines, 1, others[1]) },
			[]place{{code: verify.ForeignLeaf, sequence: 2}},
		},
		"a leaf in another place": {
			func(lines []audit.Line) []audit.Line { lines[at(lines, audit.KindLeaf, 82)].Index = 83; return lines },
			[]place{{code: verify.LeafNotIncluded, sequence: 84}},
		},
		"leaves in another order": {
			func(lines []audit.Line) []audit.Line { lines[3], lines[4] = lines[4], lines[3]; return lines },
			[]place{{code: verify.ExportMalformed}, {code: verify.ChainBroken, sequence: 27}},
		},
		"a leaf after the end": {
			func(lines []audit.Line) []audit.Line {
				i := at(lines, audit.KindTile, 0)
				added := lines[i-1]
				added.Index = 700
				return slices.Insert(lines, i, added)
			},
			[]place{{code: verify.LeafNotIncluded, sequence: 701}},
		},
		"a tile": {
			func(lines []audit.Line) []audit.Line {
				lines[at(lines, audit.KindTile, 1)].Hashes[77] ^= 1
				return lines
			},
			[]place{{code: verify.TileChanged, tile: "0/1"}, {code: verify.LeafNotIncluded, sequence: 259}},
		},
		"a tile left out": {
			func(lines []audit.Line) []audit.Line {
				return slices.Delete(lines, at(lines, audit.KindTile, 1), at(lines, audit.KindTile, 1)+1)
			},
			[]place{{code: verify.TileMissing, tile: "0/1"}, {code: verify.LeafNotIncluded, sequence: 259}},
		},
		"a tile at the end": {
			func(lines []audit.Line) []audit.Line {
				lines[at(lines, audit.KindTile, 2)].Hashes[77] ^= 1
				return lines
			},
			[]place{{code: verify.LeafNotIncluded, sequence: 3}},
		},
		"no head": {
			func(lines []audit.Line) []audit.Line { return lines[:len(lines)-1] }, []place{{code: verify.HeadMissing}},
		},
		"a head of another key": {
			func(lines []audit.Line) []audit.Line {
				head, err := tree.UnverifiedHead([]byte(lines[len(lines)-1].Note))
				require.NoError(t, err)
				signed, err := head.Sign(sameName(t, e.Key).Signer)
				require.NoError(t, err)
				lines[len(lines)-1].Note = string(signed)
				return lines
			},
			[]place{{code: verify.HeadMissing}, {code: verify.HeadNotSigned, size: 700}},
		},
		"data": {
			func(lines []audit.Line) []audit.Line { lines[at(lines, audit.KindLeaf, 2)].Data[5] ^= 1; return lines },
			[]place{{code: verify.PayloadChanged, sequence: 3}},
		},
	})
}

// TestExportAndPublishedHeads compares exports with heads that are known from elsewhere.
func TestExportAndPublishedHeads(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	e.Fill(t, 700, 256, 300)
	for customer, checked := range map[string]int{audit.Everyone: 2, "cust_002": 2, "cust_004": 1} {
		text := exported(t, e, customer)
		lines := decoded(t, exported(t, e, audit.Everyone))
		same, older := lines[len(lines)-1].Note, lines[len(lines)-2].Note
		report, err := verify.Export(t.Context(), bytes.NewReader(text), verify.Options{Key: e.Key.Public, Published: []string{same, older}})
		require.NoError(t, err)
		assert.Empty(t, places(t, report))
		assert.Equal(t, checked, report.Published, customer)
		assert.Equal(t, 2-checked, report.Unchecked, customer)

		forged, err := tree.Head{Origin: e.Key.Signer.Name(), Size: 700, Time: time.Now()}.Sign(e.Key.Signer)
		require.NoError(t, err)
		newer, err := tree.Head{Origin: e.Key.Signer.Name(), Size: 701, Time: time.Now()}.Sign(e.Key.Signer)
		require.NoError(t, err)
		report, err = verify.Export(t.Context(), bytes.NewReader(text),
			verify.Options{Key: e.Key.Public, Published: []string{string(newer), string(forged)}})
		require.NoError(t, err)
		found := places(t, report)
		require.Len(t, found, 1)
		assert.Equal(t, verify.LogRewritten, found[0].code)
		assert.Equal(t, 1, report.Unchecked)
	}
}

// TestEveryChangeOfAnExportIsFound flips a bit anywhere. Whatever still decodes to the same lines is the same export.
func TestEveryChangeOfAnExportIsFound(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	e.Fill(t, 300, 100)
	for _, customer := range []string{audit.Everyone, "cust_002"} {
		text := exported(t, e, customer)
		want := decoded(t, text)
		rapid.Check(t, func(r *rapid.T) {
			changed := flip(r, text)
			report := export(t, e, changed)
			if report.Whole() {
				got := decoded(t, changed)
				require.Equal(t, essence(withPayloadsOf(got, want)), essence(got))
			}
		})
	}
}

// withPayloadsOf is the lines without the payloads that the others have not: those may be erased.
func withPayloadsOf(others, lines []audit.Line) []audit.Line {
	made := slices.Clone(lines)
	for i := range made {
		if i < len(others) && (len(others[i].Salt) == 0 || len(others[i].Data) == 0) {
			made[i].Salt, made[i].Data = nil, nil
		}
	}
	return made
}

// essence is the lines without what a verification does not go by.
func essence(lines []audit.Line) []audit.Line {
	made := slices.Clone(lines)
	for i := range made {
		made[i].PublicKey, made[i].ExportedAt = "", nil
		if made[i].Kind == audit.KindHead || made[i].Kind == audit.KindLog {
			made[i].Index = 0
		}
		if len(made[i].Data) == 0 || len(made[i].Salt) == 0 {
			made[i].Salt, made[i].Data = nil, nil
		}
	}
	return made
}

// FuzzExport: whatever an export holds, verification ends with a report, and what is not whole has findings.
func FuzzExport(f *testing.F) {
	key, err := tree.ParseKey(tree.NewKey())
	require.NoError(f, err)
	first := `{"kind":"log","format":1,"customer_id":"*","origin":"` + key.Signer.Name() + `"}` + "\n"
	var edge tree.Edge
	encoded := `{"v":2,"event_id":"e","type":"t","time":"2026-01-02T03:04:05Z","customer_id":"c","customer_sequence":1,"actor_type":"",` +
		`"actor_id":"","action_type":"a","resource_type":"r","resource_id":"r","outcome":"success","data_digest":"` + strings.Repeat("0", 64) + `"}`
	edge.Append(tree.LeafHash([]byte(encoded)))
	head := tree.Head{Origin: key.Signer.Name(), Size: 1, Root: edge.Root(), Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	note, err := head.Sign(key.Signer)
	require.NoError(f, err)
	head.Size = 1 << 47
	vast, err := head.Sign(key.Signer)
	require.NoError(f, err)
	line := func(l audit.Line) string {
		text, err := json.Marshal(&l)
		require.NoError(f, err)
		return string(text) + "\n"
	}
	leaf := line(audit.Line{Kind: audit.KindLeaf, Leaf: encoded})
	last := line(audit.Line{Kind: audit.KindHead, Note: string(note)})
	f.Add(first + leaf + last)
	f.Add(strings.Replace(first, "*", "c", 1) + leaf + line(audit.Line{Kind: audit.KindTile, Hashes: make([]byte, 32)}) + last)
	f.Add(strings.Replace(first, "*", "c", 1) + leaf + line(audit.Line{Kind: audit.KindTile, Hashes: make([]byte, 32)}) +
		line(audit.Line{Kind: audit.KindHead, Note: string(vast)}))
	f.Add(first + line(audit.Line{Kind: audit.KindLeaf, Leaf: encoded, Index: 1<<48 - 1}) + line(audit.Line{Kind: audit.KindTile, Level: 6, Hashes: make([]byte, 8192)}) +
		line(audit.Line{Kind: audit.KindHead, Note: string(vast)}))
	f.Fuzz(func(t *testing.T, text string) {
		report, err := verify.Export(t.Context(), strings.NewReader(text), verify.Options{Key: key.Public, Workers: 1, MaxFindings: 5})
		require.NoError(t, err)
		require.LessOrEqual(t, len(report.Findings), 5)
		if report.Whole() {
			require.Positive(t, report.Heads)
		}
	})
}

func TestUnreadableExports(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	for name, text := range map[string]string{
		"empty": "", "blank": "\n\n", "not JSON": "galley", "another kind": `{"kind":"x"}`, "a list": "[]\n[]",
		"deep": strings.Repeat("[", 1<<20), "no head": `{"kind":"log","format":1,"customer_id":"*","origin":"` + e.Key.Signer.Name() + `"}`,
	} {
		report := export(t, e, []byte(text))
		assert.NotEmpty(t, report.Findings, name)
	}
	long := io.MultiReader(strings.NewReader(`{"kind":"log","format":1,"customer_id":"*"}`+"\n"), io.LimitReader(endless{}, 100<<20))
	report, err := verify.Export(t.Context(), long, verify.Options{Key: e.Key.Public})
	require.NoError(t, err)
	assert.True(t, slices.ContainsFunc(report.Findings, func(f verify.Finding) bool { return f.Code == verify.ExportMalformed && f.Line == 2 }))
	broken := errors.New("the disk is gone")
	_, err = verify.Export(t.Context(), iotest.ErrReader(broken), verify.Options{Key: e.Key.Public})
	require.ErrorIs(t, err, broken)
}

// endless is a line that does not end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
