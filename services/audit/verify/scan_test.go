package verify

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/audit/internal/leaf"
)

// requireAgreement: what scan reads, leaf.Parse reads in the same way.
func requireAgreement(t require.TestingT, text []byte) bool {
	read, ok := scan(string(text))
	if !ok {
		return false
	}
	parsed, err := leaf.Parse(text)
	require.NoError(t, err, "%q", text)
	require.Equal(t, parsed.AppendJSON(nil), read.AppendJSON(nil))
	require.Equal(t, parsed, read)
	return true
}

func golden(tb testing.TB) [][]byte {
	tb.Helper()
	names, err := filepath.Glob("../internal/leaf/testdata/*.json")
	require.NoError(tb, err)
	require.NotEmpty(tb, names)
	var texts [][]byte
	for _, name := range names {
		text, err := os.ReadFile(name)
		require.NoError(tb, err)
		if text[len(text)-1] == '\n' {
			text = text[:len(text)-1]
		}
		texts = append(texts, text)
	}
	return texts
}

// TestScanKnowsTheLeaves: it would be slow otherwise.
func TestScanKnowsTheLeaves(t *testing.T) {
	t.Parallel()
	known := 0
	for _, text := range golden(t) {
		_, err := parse(text)
		require.NoError(t, err)
		if requireAgreement(t, text) {
			known++
		}
	}
	assert.GreaterOrEqual(t, known, len(golden(t))-1, "one has a string with escapes")
}

func TestScanAgreesWithParse(t *testing.T) {
	t.Parallel()
	texts := golden(t)
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[ -~é\n]{0,12}`)
		made := leaf.Leaf{
			Version: rapid.IntRange(1, 3).Draw(t, "version"), EventID: word.Draw(t, "event"), Type: word.Draw(t, "type"),
			Time:       time.Unix(rapid.Int64Range(0, 1<<36).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC(),
			CustomerID: word.Draw(t, "customer"), CustomerSequence: rapid.Int64().Draw(t, "own"),
			Actor: event.Actor{Type: word.Draw(t, "actor type"), ID: word.Draw(t, "actor")}, Action: word.Draw(t, "action"),
			ErrorCode: word.Draw(t, "code"), Priced: rapid.Bool().Draw(t, "priced"), Credits: rapid.Int64().Draw(t, "credits"),
			Steps: word.Draw(t, "steps"), TraceID: word.Draw(t, "trace"),
		}
		made.Previous[3], made.Digest[5] = rapid.Byte().Draw(t, "previous"), rapid.Byte().Draw(t, "digest")
		requireAgreement(t, made.AppendJSON(nil))

		changed := append([]byte{}, rapid.SampledFrom(texts).Draw(t, "text")...)
		i := rapid.IntRange(0, len(changed)-1).Draw(t, "place")
		switch rapid.IntRange(0, 2).Draw(t, "change") {
		case 0:
			changed[i] = rapid.Byte().Draw(t, "byte")
		case 1:
			changed = append(changed[:i], changed[i+1:]...)
		default:
			changed = fmt.Appendf(nil, "%s%c%s", changed[:i], rapid.SampledFrom([]byte(`0123456789abcdefABCDEF"{},:+-.eZ `)).Draw(t, "byte"), changed[i:])
		}
		requireAgreement(t, changed)
	})
}

func FuzzScan(f *testing.F) {
	for _, text := range golden(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) { requireAgreement(t, text) })
}
