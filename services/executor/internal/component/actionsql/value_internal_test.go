package actionsql

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func text(text string) any { return text }

func TestWhatIsNoArray(t *testing.T) {
	t.Parallel()
	for _, broken := range []string{
		"", "x", "{", "}", "{,}", "{a,}", "{a", `{"a`, `{"a\`, `{"a"b}`, `{a"b}`, `{a}b`, "[", "[0:1]", "[0:1]=", "{{a}", "{{a},b", `{a\b}`,
		strings.Repeat("{", 7) + "a" + strings.Repeat("}", 7), strings.Repeat("{", 100_000),
	} {
		_, ok := parseArray(broken, text)
		assert.False(t, ok, broken)
		assert.Equal(t, broken, decode(pgtype.TextArrayOID, []byte(broken)), "it stays a text")
	}
}

func FuzzArray(f *testing.F) {
	for _, seed := range []string{`["a", null, ["b\"\\", "{}"], "NULL", ""]`, `[]`, `[[["x"]]]`, `[" ,"]`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, document string) {
		_, _ = parseArray(document, text)
		var list []any
		if json.Unmarshal([]byte(document), &list) != nil || !onlyTexts(list, 1) {
			return
		}
		got, ok := parseArray(arrayLiteral(list, pgtype.TextOID), text)
		require.True(t, ok)
		if !reflect.DeepEqual(any(list), got) {
			t.Fatalf("%#v became %#v", list, got)
		}
	})
}

func onlyTexts(list []any, depth int) bool {
	for _, item := range list {
		switch item := item.(type) {
		case nil, string:
		case []any:
			if !onlyTexts(item, depth+1) {
				return false
			}
		default:
			return false
		}
	}
	return depth <= maxDimensions
}

// FuzzDecode: whatever a server sends for a value can be written as JSON.
func FuzzDecode(f *testing.F) {
	for _, oid := range []uint32{
		pgtype.BoolOID, pgtype.Int8OID, pgtype.NumericOID, pgtype.Float8OID, pgtype.JSONOID, pgtype.TimestamptzOID, pgtype.TimestampOID,
		pgtype.ByteaOID, pgtype.TextOID, pgtype.Int4ArrayOID, pgtype.ByteaArrayOID, 0,
	} {
		for _, value := range []string{"", "1", "-1e5", "NaN", `\x0`, `{1,NULL}`, "2026-01-02 03:04:05+00", "\xff", "0x1p-2", "infinity"} {
			f.Add(oid, []byte(value))
		}
	}
	f.Fuzz(func(t *testing.T, oid uint32, value []byte) {
		_, err := json.Marshal(decode(oid, value))
		require.NoError(t, err)
	})
}

// TestWire: messages are told apart wherever the network cuts them.
func TestWire(t *testing.T) {
	t.Parallel()
	stream := "Z\x00\x00\x00\x05I" + "D\x00\x00\x00\x09GGGGG" + "S\x00\x00\x00\x04" + "H\x00\x00\x00\x07\x00\x00\x00"
	for size := 1; size <= len(stream); size++ {
		w := &wire{reader: strings.NewReader(stream)}
		var err error
		read := 0
		for err == nil {
			var n int
			n, err = w.Read(make([]byte, size))
			read += n
		}
		require.ErrorIs(t, err, errCopy)
		assert.LessOrEqual(t, read, 25)
		assert.Greater(t, read, 25-size)
	}
}
