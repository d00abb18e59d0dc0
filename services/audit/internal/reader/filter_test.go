package reader_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/reader"
	"github.com/galley-engine/galley/services/audit/migrations"
)

// start is when the rows of mixed were recorded, ten a second.
func start() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

const mixedRows = 900

// mixed gives a log with rows of all sorts: executions, of which some fail, and what was done by several to several things.
func mixed(t *testing.T) *audittest.Env {
	t.Helper()
	e := audittest.New(t)
	_, err := e.DB.Exec(t.Context(), `
		WITH made AS (
			SELECT i, hash % 7 < 4 AS executed, hash / 8 % 40 AS resource, hash / 1000 % 5 AS actor, hash / 10000 % 9 AS fate, hash / 100000 % 4 AS owner,
				(ARRAY['accepted', 'debited', 'completed'])[1 + hash / 1000000 % 3] AS step, hash / 10000000 % 3 AS verb
			FROM (SELECT i, abs(hashint4(i)::bigint) AS hash FROM generate_series(1, $1) AS i) AS hashed
		), rows AS (
			SELECT i, CASE WHEN executed THEN 'execution.' || step ELSE (ARRAY['recipe.published', 'key.created', 'execution.cancelled'])[1 + verb] END AS action,
				CASE WHEN executed OR verb = 2 THEN 'execution' ELSE (ARRAY['recipe', 'key'])[1 + verb] END AS resource_type,
				CASE WHEN executed THEN 'x' || i / 3 ELSE 'x' || resource END AS resource,
				CASE WHEN executed THEN 'x' || i / 3 || '/' || step || i ELSE 'event-' || i END AS event, actor, fate,
				CASE owner WHEN 3 THEN '' ELSE 'cust_00' || owner END AS customer
			FROM made
		)
		INSERT INTO audit.events (sequence, recorded_at, occurred_at, event_id, customer_id, action_type, resource_type, resource_id,
			actor_type, actor_id, outcome, trace_id, leaf)
		SELECT i, $2::timestamptz + i * interval '100 ms', now(), event, customer, action, resource_type, resource,
			CASE WHEN actor < 3 THEN 'api_key' ELSE 'operator' END, 'actor-' || actor,
			CASE fate WHEN 0 THEN 'failed' WHEN 1 THEN 'partial' ELSE 'success' END, '', convert_to('{"v":1,"steps":"s-' || i || '"}', 'UTF8')
		FROM rows`, mixedRows, start())
	require.NoError(t, err)
	_, err = e.DB.Exec(t.Context(), `UPDATE audit.head SET sequence = $1`, mixedRows)
	require.NoError(t, err)
	return e
}

// pages reads all pages of what is asked for.
func pages(ctx context.Context, t require.TestingT, r *reader.Reader, request query.AuditEventsRequest) (found []query.AuditEvent, count int) {
	for {
		page, err := r.Events(ctx, request)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page.Events), request.Limit)
		found = append(found, page.Events...)
		count++
		if page.Next == 0 {
			return found, count
		}
		require.True(t, request.Before == 0 || page.Next < request.Before, "it goes on")
		request.Before = page.Next
	}
}

func matches(request *query.AuditEventsRequest, e *query.AuditEvent) bool {
	whose := request.CustomerID == audit.Everyone || request.CustomerID == e.CustomerID ||
		request.CustomerID == query.AuditNobody && e.CustomerID == ""
	is := func(wanted, found string) bool { return wanted == "" || wanted == found }
	return whose && is(request.ActionType, e.ActionType) && is(request.ResourceType, e.ResourceType) && is(request.ResourceID, e.ResourceID) &&
		is(request.ActorType, e.ActorType) && is(request.ActorID, e.ActorID) && is(request.Outcome, e.Outcome) &&
		(request.From == nil || !e.RecordedAt.Before(*request.From)) && (request.To == nil || e.RecordedAt.Before(*request.To))
}

// TestFilters compares what is found, over all pages, with what is left of all rows when each is looked at.
func TestFilters(t *testing.T) {
	t.Parallel()
	e := mixed(t)
	pool := e.Pool(t, migrations.Reader)
	all, _ := pages(t.Context(), t, reader.New(pool), query.AuditEventsRequest{CustomerID: audit.Everyone, Limit: 200})
	require.Len(t, all, mixedRows)
	assert.Equal(t, "s-900", all[0].Steps)
	rapid.Check(t, func(t *rapid.T) {
		or := func(name string, values ...string) string {
			return rapid.SampledFrom(append(values, "", "")).Draw(t, name)
		}
		at := func(name string) *time.Time {
			if rapid.IntRange(0, 2).Draw(t, name+" given") > 0 {
				return nil
			}
			return new(start().Add(time.Duration(rapid.IntRange(-10, 1000).Draw(t, name)) * 97 * time.Millisecond))
		}
		request := query.AuditEventsRequest{
			CustomerID:   rapid.SampledFrom([]string{"cust_000", "cust_001", "cust_002", "cust_003", audit.Everyone, query.AuditNobody}).Draw(t, "customer"),
			ActionType:   or("action", "execution.accepted", "execution.completed", "execution.cancelled", "recipe.published", "key.created", "none"),
			ResourceType: or("resource type", "execution", "recipe", "key"),
			ResourceID:   or("resource", "", "", "x1", "x7", "x22", "x250"),
			ActorType:    or("actor type", "api_key", "operator"), ActorID: or("actor", "actor-1", "actor-4"),
			Outcome: or("outcome", "success", "failed", "partial"),
			From:    at("from"), To: at("to"), Limit: rapid.IntRange(1, 50).Draw(t, "limit"),
		}
		if request.From != nil && request.To != nil && !request.From.Before(*request.To) {
			request.From, request.To = request.To, request.From
			if request.From.Equal(*request.To) {
				request.To = nil
			}
		}
		var want []query.AuditEvent
		for i := range all {
			if matches(&request, &all[i]) {
				want = append(want, all[i])
			}
		}
		r := reader.New(pool).Walking(rapid.SampledFrom([]int{7, 50, 10_000}).Draw(t, "walk"))
		found, _ := pages(context.Background(), t, r, request)
		require.Equal(t, want, found)
	})
}

// TestBoundedWalk: what is looked for and never found ends a page, not the patience of whoever asks.
func TestBoundedWalk(t *testing.T) {
	t.Parallel()
	e := mixed(t)
	r := reader.New(e.Pool(t, migrations.Reader)).Walking(100)
	found, count := pages(t.Context(), t, r, query.AuditEventsRequest{CustomerID: audit.Everyone, ActorID: "nobody", Limit: 10})
	assert.Empty(t, found)
	assert.Equal(t, mixedRows/100+1, count)
}

// TestDetails: changes come from what is kept beside the leaf, as long as it is there.
func TestDetails(t *testing.T) {
	t.Parallel()
	e := filled(t)
	r := reader.New(e.Pool(t, migrations.Reader))
	request := query.AuditEventsRequest{CustomerID: "cust_001", ResourceType: "recipe", Limit: 10}
	found, _ := pages(t.Context(), t, r, request)
	require.Len(t, found, 1)
	assert.JSONEq(t, `{"after":{"version":1}}`, string(found[0].Changes))
	assert.Positive(t, found[0].CustomerSequence)
	assert.False(t, found[0].Erased)
	assert.WithinDuration(t, time.Now(), found[0].RecordedAt, patience)
	of, _ := pages(t.Context(), t, r, query.AuditEventsRequest{CustomerID: "cust_001", ActionType: "execution.completed", Limit: 10})
	require.Len(t, of, 2)
	assert.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", of[0].TraceID)
	assert.False(t, of[0].Erased)
	assert.Nil(t, of[0].Changes)

	_, err := e.DB.Exec(t.Context(), `DELETE FROM audit.payloads WHERE sequence = $1`, found[0].Sequence)
	require.NoError(t, err)
	found, _ = pages(t.Context(), t, r, request)
	assert.Nil(t, found[0].Changes)
	assert.True(t, found[0].Erased)
}

// TestLargePages: a page is cut off where a message of NATS would not hold it.
func TestLargePages(t *testing.T) {
	t.Parallel()
	e := mixed(t)
	large, err := json.Marshal(map[string]any{"changes": map[string]string{"after": string(slices.Repeat([]byte("x"), 30_000))}})
	require.NoError(t, err)
	_, err = e.DB.Exec(t.Context(), `INSERT INTO audit.payloads (sequence, customer_id, salt, data)
		SELECT sequence, customer_id, '', $1 FROM audit.events`, large)
	require.NoError(t, err)
	r := reader.New(e.Pool(t, migrations.Reader))
	found, count := pages(t.Context(), t, r, query.AuditEventsRequest{CustomerID: "cust_001", Limit: 200})
	assert.Greater(t, len(found), 200)
	assert.Greater(t, count, len(found)/13)
	assert.Less(t, count, len(found)/10)
}
