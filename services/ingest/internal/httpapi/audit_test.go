package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

// answerAudit answers for audit, whoever it is asked about, and says who that is.
func answerAudit(t *testing.T, s *server) {
	t.Helper()
	answer(t, s, query.ServiceAudit, query.AuditEvents, func(r query.AuditEventsRequest) (query.AuditEventsReply, error) {
		return query.AuditEventsReply{Events: []query.AuditEvent{{ResourceID: "of " + r.CustomerID, Leaf: json.RawMessage("{}")}}}, nil
	})
	answer(t, s, query.ServiceAudit, query.AuditTreeHead, func(query.AuditTreeHeadRequest) (query.AuditTreeHeadReply, error) {
		return query.AuditTreeHeadReply{Origin: "log", Rows: 7}, nil
	})
	answer(t, s, query.ServiceAudit, query.AuditInclusion, func(r query.AuditInclusionRequest) (audit.Inclusion, error) {
		return audit.Inclusion{EventID: r.EventID, Leaf: "of " + r.CustomerID}, nil
	})
	answer(t, s, query.ServiceAudit, query.AuditConsistency, func(r query.AuditConsistencyRequest) (audit.Consistency, error) {
		return audit.Consistency{OlderSize: r.Older, Note: strconv.FormatInt(r.Newer, 10)}, nil
	})
	answer(t, s, query.ServiceAudit, query.AuditExport, func(r query.AuditExportRequest) (query.AuditExportReply, error) {
		return query.AuditExportReply{Lines: []json.RawMessage{json.RawMessage(`{"kind":"log","customer_id":"` + r.CustomerID + `"}`)}, Size: 3}, nil
	})
	answerAuditChanges(t, s)
}

func TestAuditFilters(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	alice := s.customer(t, "alice")
	var mu sync.Mutex
	var asked query.AuditEventsRequest
	answer(t, s, query.ServiceAudit, query.AuditEvents, func(r query.AuditEventsRequest) (query.AuditEventsReply, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = r
		return query.AuditEventsReply{Next: 17}, nil
	})
	at := func(text string) *time.Time {
		read, err := time.Parse(time.RFC3339, text)
		require.NoError(t, err)
		return &read
	}
	const path = "/api/v1/audit/events"
	for _, test := range []struct {
		key, query string
		want       query.AuditEventsRequest
	}{
		{alice, "", query.AuditEventsRequest{CustomerID: "alice", Limit: 50}},
		{operatorKey, "", query.AuditEventsRequest{CustomerID: audit.Everyone, Limit: 50}},
		{operatorKey, "?customer_id=bob", query.AuditEventsRequest{CustomerID: "bob", Limit: 50}},
		{operatorKey, "?nobody=true&limit=7", query.AuditEventsRequest{CustomerID: query.AuditNobody, Limit: 7}},
		{alice, "?execution_id=x&cursor=MTc", query.AuditEventsRequest{CustomerID: "alice", ResourceID: "x", Before: 17, Limit: 50}},
		{
			alice, "?action_type=a.b&resource_type=a&resource_id=a/b&actor_type=t&actor_id=i&outcome=failed&from=2026-01-02T03:04:05Z" +
				"&to=2026-01-02T03:04:05.5Z",
			query.AuditEventsRequest{
				CustomerID: "alice", ActionType: "a.b", ResourceType: "a", ResourceID: "a/b", ActorType: "t", ActorID: "i", Outcome: "failed",
				From: at("2026-01-02T03:04:05Z"), To: at("2026-01-02T03:04:05.5Z"), Limit: 50,
			},
		},
	} {
		got := s.call(t, test.key, "GET", path+test.query, nil)
		require.Equal(t, 200, got.status, string(got.body))
		require.JSONEq(t, `{"items":[],"next_cursor":"MTc"}`, string(got.body))
		mu.Lock()
		require.Equal(t, test.want, asked)
		mu.Unlock()
	}
	for query, want := range map[string]string{
		"?from=yesterday": "query:/from",
		"?from=2026-01-02T03:04:05Z&to=2026-01-02T03:04:05Z": "query:/to",
		"?execution_id=x&resource_id=y":                      "query:/execution_id",
		"?execution_id=x/y":                                  "query:/execution_id",
		"?outcome=" + strings.Repeat("x", 257):               "query:/outcome",
		"?cursor=x":                                          "query:/cursor",
		"?verb=published":                                    "query:/verb",
		"?limit=201":                                         "query:/limit",
	} {
		refused := s.call(t, alice, "GET", path+query, nil).problem(t)
		require.Equal(t, []any{422, want}, []any{refused.Status, places(refused)}, query)
	}
	require.Equal(t, 403, s.call(t, alice, "GET", path+"?nobody=true", nil).status)
	require.Equal(t, 422, s.call(t, operatorKey, "GET", path+"?nobody=true&customer_id=bob", nil).status)
}

func TestAuditProofs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	alice := s.customer(t, "alice")
	require.Equal(t, 503, s.call(t, alice, "GET", "/api/v1/audit/tree-head", nil).status, "audit does not answer")
	answerAudit(t, s)
	for path, want := range map[string]string{
		"/tree-head":                 `{"origin":"log","public_key":"","rows":7}`,
		"/proof?event_id=e/1":        `{"event_id":"e/1","leaf":"of alice","index":0,"path":null,"note":""}`,
		"/consistency?from=3":        `{"older_size":3,"path":null,"note":"0"}`,
		"/consistency?from=3&to=700": `{"older_size":3,"path":null,"note":"700"}`,
	} {
		got := s.call(t, alice, "GET", "/api/v1/audit"+path, nil)
		require.Equal(t, 200, got.status, string(got.body))
		require.JSONEq(t, want, string(got.body))
	}
	require.Contains(t, string(s.call(t, operatorKey, "GET", "/api/v1/audit/proof?event_id=x", nil).body), `"of *"`)
	for _, path := range []string{"/proof", "/proof?event_id=", "/consistency", "/consistency?from=0", "/consistency?from=2&to=1", "/consistency?from=x"} {
		require.Equal(t, 422, s.call(t, alice, "GET", "/api/v1/audit"+path, nil).problem(t).Status, path)
	}
}

// exported is an export of so many pages, which fails once at each.
func exported(t *testing.T, s *server, pages int64) {
	t.Helper()
	var asked atomic.Int64
	answer(t, s, query.ServiceAudit, query.AuditExport, func(r query.AuditExportRequest) (query.AuditExportReply, error) {
		page := int64(0)
		if r.From != nil {
			page = r.From.Index
		}
		if n := asked.Add(1); page > 0 && n%2 == 1 {
			return query.AuditExportReply{}, &problem.Error{Code: problem.Unavailable, Retryable: true}
		}
		line := json.RawMessage(fmt.Sprintf(`{"kind":"leaf","index":%d,"leaf":"%s"}`, page, strings.Repeat(r.CustomerID, 100_000)))
		reply := query.AuditExportReply{Lines: []json.RawMessage{line, line}, Size: 1234, Root: "abc="}
		if page+1 < pages {
			reply.Next = &query.AuditExportPlace{Size: 1234, Kind: audit.KindLeaf, Index: page + 1}
		}
		return reply, nil
	})
}

func TestAuditExport(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	alice := s.customer(t, "alice")
	require.Equal(t, 503, s.call(t, alice, "GET", "/api/v1/audit/export", nil).problem(t).Status, "audit does not answer")
	exported(t, s, 5)
	for _, test := range []struct{ key, query, customer, file, owner, actor string }{
		{alice, "", "alice", "alice", "alice", "api_key"},
		{operatorKey, "?customer_id=alice", "alice", "alice", "alice", "operator"},
		{operatorKey, "", "*", "log", "", "operator"},
	} {
		got := s.call(t, test.key, "GET", "/api/v1/audit/export"+test.query, nil)
		require.Equal(t, []any{200, "application/x-ndjson", `attachment; filename=audit-` + test.file + `-1234.jsonl`}, []any{
			got.status, got.header.Get("Content-Type"), got.header.Get("Content-Disposition"),
		})
		found := strings.Split(strings.TrimSuffix(string(got.body), "\n"), "\n")
		require.Len(t, found, 10)
		for i, text := range found {
			var line audit.Line
			require.NoError(t, json.Unmarshal([]byte(text), &line))
			require.EqualValues(t, i/2, line.Index)
			require.Equal(t, strings.Repeat(test.customer, 100_000), line.Leaf)
		}
		message, err := s.activities(t).GetLastMsgForSubject(t.Context(), subject.Activity(test.owner, event.ActionAuditExported))
		require.NoError(t, err)
		var made event.Activity
		require.NoError(t, json.Unmarshal(message.Data, &made))
		require.Equal(t, []string{test.customer, test.actor, "audit", "success"}, []string{
			made.ResourceID, made.Actor.Type, made.ResourceType, made.Outcome,
		})
		require.JSONEq(t, `{"after":{"root":"abc=","size":1234}}`, string(made.Changes))
	}
}

// TestAuditExportBreaksOff: an export that cannot go on does not look whole.
func TestAuditExportBreaksOff(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	alice := s.customer(t, "alice")
	answer(t, s, query.ServiceAudit, query.AuditExport, func(r query.AuditExportRequest) (query.AuditExportReply, error) {
		if r.From != nil {
			return query.AuditExportReply{}, &problem.Error{Code: problem.InvalidRequest}
		}
		return query.AuditExportReply{Lines: []json.RawMessage{json.RawMessage(`{}`)}, Next: &query.AuditExportPlace{Size: 1}}, nil
	})
	response := s.open(t.Context(), t, alice)
	require.Equal(t, 200, response.StatusCode)
	_, err := io.ReadAll(response.Body)
	require.Error(t, err)
	require.NoError(t, response.Body.Close())
}

// open begins an export.
func (s *server) open(ctx context.Context, t *testing.T, key string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/api/v1/audit/export", http.NoBody)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+key)
	transport := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	response, err := (&http.Client{Transport: transport}).Do(request)
	require.NoError(t, err)
	return response
}

// TestAuditExportStopsWithItsClient: nothing is read for somebody who has gone, or the places of exports would not suffice for these.
func TestAuditExportStopsWithItsClient(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	alice := s.customer(t, "alice")
	exported(t, s, 1_000_000)
	for range 20 {
		require.Eventually(t, func() bool {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			response := s.open(ctx, t, alice)
			_, err := bufio.NewReader(response.Body).ReadString('\n')
			cancel()
			_ = response.Body.Close() // it was cut off
			return response.StatusCode == http.StatusOK && err == nil
		}, 30*time.Second, time.Millisecond)
	}
}
