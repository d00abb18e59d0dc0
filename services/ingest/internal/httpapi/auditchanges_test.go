package httpapi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
)

// answerAuditChanges answers for audit what customers change beside the log.
func answerAuditChanges(t *testing.T, s *server) {
	t.Helper()
	answer(t, s, query.ServiceAudit, query.AuditErase, func(query.AuditErasureRequest) (query.AuditErasureReply, error) {
		return query.AuditErasureReply{Erased: 1}, nil
	})
	answer(t, s, query.ServiceAudit, query.AuditWebhookSet, func(r query.AuditWebhookSetRequest) (query.AuditWebhookSetReply, error) {
		return query.AuditWebhookSetReply{Webhook: query.AuditWebhook{URL: "of " + r.CustomerID}, Secret: "whsec_x"}, nil
	})
	answer(t, s, query.ServiceAudit, query.AuditWebhookShow, func(r query.AuditWebhookRequest) (query.AuditWebhook, error) {
		return query.AuditWebhook{URL: "of " + r.CustomerID}, nil
	})
	answer(t, s, query.ServiceAudit, query.AuditWebhookDelete, func(r query.AuditWebhookDeleteRequest) (query.AuditWebhook, error) {
		return query.AuditWebhook{URL: "of " + r.CustomerID}, nil
	})
}

// TestErasure: one batch is asked for after the other.
func TestErasure(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	alice := s.customer(t, "alice")
	var asked []query.AuditErasureRequest
	answer(t, s, query.ServiceAudit, query.AuditErase, func(r query.AuditErasureRequest) (query.AuditErasureReply, error) {
		asked = append(asked, r)
		if r.ActorID == "" {
			return query.AuditErasureReply{}, problem.Failure(problem.InvalidRequest, "name something")
		}
		if r.After == 0 {
			return query.AuditErasureReply{Erased: 20, Next: 70}, nil
		}
		return query.AuditErasureReply{Erased: 3}, nil
	})
	const path = "/api/v1/audit/erasures"
	reply := s.call(t, operatorKey, "POST", path+"?customer_id=alice", `{"actor_id":"key_1"}`)
	require.JSONEq(t, `{"erased":23}`, string(reply.body))
	operator := event.Actor{Type: "operator", ID: "operator"}
	require.Equal(t, []query.AuditErasureRequest{
		{CustomerID: "alice", ActorID: "key_1", Actor: operator}, {CustomerID: "alice", ActorID: "key_1", After: 70, Actor: operator},
	}, asked)
	require.Equal(t, 422, s.call(t, alice, "POST", path, `{"event_ids":"a"}`).status)
	require.Equal(t, 422, s.call(t, alice, "POST", path, `{"everything":true}`).status)
	require.Len(t, asked, 2)
	require.Equal(t, 422, s.call(t, alice, "POST", path, `{}`).status)
}

func TestAuditWebhook(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	alice := s.customer(t, "alice")
	const path = "/api/v1/audit/webhook"
	var asked query.AuditWebhookSetRequest
	answer(t, s, query.ServiceAudit, query.AuditWebhookSet, func(r query.AuditWebhookSetRequest) (query.AuditWebhookSetReply, error) {
		asked = r
		return query.AuditWebhookSetReply{Webhook: query.AuditWebhook{URL: r.URL}, Secret: "whsec_x"}, nil
	})
	answer(t, s, query.ServiceAudit, query.AuditWebhookShow, func(query.AuditWebhookRequest) (query.AuditWebhook, error) {
		return query.AuditWebhook{}, problem.Failure(problem.NotFound, "there is none")
	})
	reply := s.call(t, alice, "PUT", path, `{"url":"https://example.com/hook","interval_seconds":120,"new_secret":true}`)
	require.Equal(t, 200, reply.status, string(reply.body))
	var made map[string]any
	reply.into(t, &made)
	require.Equal(t, []any{"https://example.com/hook", "whsec_x"}, []any{made["url"], made["secret"]})
	require.Equal(t, query.AuditWebhookSetRequest{
		CustomerID: "alice", URL: "https://example.com/hook", IntervalSeconds: 120, NewSecret: true, Actor: asked.Actor,
	}, asked)
	require.Equal(t, "api_key", asked.Actor.Type)
	require.Equal(t, 422, s.call(t, alice, "PUT", path, `{"interval_seconds":120}`).status)
	require.Equal(t, 422, s.call(t, alice, "PUT", path, `{"url":"https://example.com","interval_seconds":1.5}`).status)
	require.Equal(t, 404, s.call(t, alice, "GET", path, nil).status)
}
