package endtoend_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/tests/internal/harness"
)

// headOf reads a tree head without looking at its signature.
func headOf(t *testing.T, note string) (size uint64, root []byte) {
	t.Helper()
	lines := strings.Split(note, "\n")
	require.Greater(t, len(lines), 4, note)
	size, err := strconv.ParseUint(lines[1], 10, 64)
	require.NoError(t, err)
	root, err = base64.StdEncoding.DecodeString(lines[2])
	require.NoError(t, err)
	return size, root
}

func get[Answer any](t *testing.T, s *scene, path string) (answer Answer) {
	t.Helper()
	got := s.call(t, http.MethodGet, path, nil)
	require.Equal(t, http.StatusOK, got.Status, "%s", got)
	require.NoError(t, json.Unmarshal(got.Body, &answer))
	return answer
}

// testProofs checks what the audit log proves over HTTP with an implementation that is not galley's.
func testProofs(t *testing.T, s *scene) {
	id := s.response(t, greeted()).ExecutionID
	included := get[audit.Inclusion](t, s, "/audit/proof?event_id="+id+"/completed")
	size, root := headOf(t, included.Note)
	require.Contains(t, included.Leaf, `"event_id":"`+id+`/completed","type":"`+event.Completed.Type()+`"`)
	require.NoError(t, proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(included.Index), size, //nolint:gosec // it is not negative
		rfc6962.DefaultHasher.HashLeaf([]byte(included.Leaf)), included.Path, root))

	s.response(t, greeted())
	var consistent audit.Consistency
	eventually(t, "a newer tree head", func() bool {
		consistent = get[audit.Consistency](t, s, "/audit/consistency?from="+strconv.FormatUint(size, 10))
		newer, _ := headOf(t, consistent.Note)
		return newer > size
	})
	newer, newerRoot := headOf(t, consistent.Note)
	require.NoError(t, proof.VerifyConsistency(rfc6962.DefaultHasher, size, newer, consistent.Path, root, newerRoot))
	head := get[query.AuditTreeHeadReply](t, s, "/audit/tree-head")
	require.Empty(t, head.Fault)
	require.GreaterOrEqual(t, uint64(head.Size), newer) //nolint:gosec // it is not negative

	other := s.newScene(t, 0)
	refused(t, other.call(t, http.MethodGet, "/audit/proof?event_id="+id+"/completed", nil), http.StatusNotFound, "NOT_FOUND")
	refused(t, s.call(t, http.MethodGet, "/audit/export?customer_id="+other.customer, nil), http.StatusForbidden, "FORBIDDEN")
	s.exports(t, audit.Inclusion{EventID: included.EventID, Leaf: included.Leaf, Index: included.Index})
}

// exports looks at an export for the shape that it promises; what is in it is verified by galley's own tests, and by an example.
func (s *scene) exports(t *testing.T, known audit.Inclusion) {
	t.Helper()
	got := s.call(t, http.MethodGet, "/audit/export", nil)
	require.Equal(t, http.StatusOK, got.Status, "%s", got)
	require.Equal(t, "application/x-ndjson", got.Header.Get("Content-Type"))
	var lines []audit.Line
	for text := range bytes.Lines(got.Body) {
		var line audit.Line
		require.NoError(t, json.Unmarshal(text, &line))
		lines = append(lines, line)
	}
	require.Equal(t, audit.KindLog, lines[0].Kind)
	require.Equal(t, s.customer, lines[0].CustomerID)
	last := lines[len(lines)-1]
	require.Equal(t, audit.KindHead, last.Kind)
	found := false
	for _, line := range lines {
		if line.Kind == audit.KindLeaf {
			require.Contains(t, line.Leaf, `"customer_id":"`+s.customer+`"`)
			found = found || line.Index == known.Index && line.Leaf == known.Leaf
		}
	}
	require.True(t, found, "%s is in the export", known.EventID)
	operator := s.installation.Operator()
	eventually(t, "the export is in the log", func() bool {
		answer, err := operator.Call(t.Context(), http.MethodGet, harness.API+"/audit/events?action_type=audit.exported&customer_id="+s.customer, nil)
		require.NoError(t, err)
		return bytes.Contains(answer.Body, []byte(`"audit.exported"`))
	})
}
