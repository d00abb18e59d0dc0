package httpapi_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/services/ingest/internal/watch"
)

func TestStuck(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	const path = "/api/v1/executions/stuck"
	p := s.call(t, key, "GET", path, nil).problem(t)
	require.Equal(t, []any{403, "FORBIDDEN"}, []any{p.Status, p.Code})
	require.JSONEq(t, `{"items":[]}`, string(s.call(t, operatorKey, "GET", path, nil).body))

	var want, got []string
	for range 3 {
		id := uuid.Must(uuid.NewV7()).String()
		_, err := s.admin.Exec(t.Context(), `INSERT INTO ingest.executions (execution_id, customer_id, agent_id, recipe_id, recipe_version, status,
			accepted_at) VALUES ($1, 'alice', 'cook', 'soup', 1, 'accepted', $2)`, id, time.Now().Add(-time.Hour))
		require.NoError(t, err)
		want = append(want, id)
	}
	for cursor := ""; ; {
		var page struct {
			Items []watch.Finding `json:"items"`
			Next  string          `json:"next_cursor"`
		}
		answer := s.call(t, operatorKey, "GET", path+"?limit=2&cursor="+cursor, nil)
		require.NoError(t, json.Unmarshal(answer.body, &page), "%s", answer.body)
		for _, item := range page.Items {
			require.Equal(t, []any{"alice", watch.Lost}, []any{item.CustomerID, item.Kind})
			got = append(got, item.ExecutionID)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	require.Equal(t, want, got)
}
