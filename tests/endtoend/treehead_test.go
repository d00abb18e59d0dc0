package endtoend_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
)

// testTreeHeads: whoever subscribes hears how the log stands, and that it has grown.
func testTreeHeads(t *testing.T, s *scene) {
	heads := s.subscribe(t, subject.TreeHead)
	completions := s.completions(t)
	var last event.TreeHead
	for range 2 {
		s.publishEvent(t, greeted())
		s.completed(t, completions)
		message := next(t, heads)
		require.NoError(t, s.rules.Check(message.Header, message.Data))
		var head event.TreeHead
		require.NoError(t, json.Unmarshal(message.Data, &head))
		require.Greater(t, head.Size, last.Size)
		require.Contains(t, head.Note, head.Root)
		last = head
	}
}
