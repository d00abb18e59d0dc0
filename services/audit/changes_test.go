package audit_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
)

// TestChanges: what customers change beside the log is asked for over NATS, and becomes a row.
func TestChanges(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	audittest.Start(t, newService(t, e).Run)
	e.Activity(t, "cust_001", "a1")
	e.Await(t, 1)
	actor := event.Actor{Type: "api_key", ID: "key_1"}
	set := query.AuditWebhookSetRequest{CustomerID: "cust_001", URL: "https://example.invalid/hook", Actor: actor}
	var made query.AuditWebhookSetReply
	require.Eventually(t, func() (answered bool) {
		var err error
		made, err = bus.Ask[query.AuditWebhookSetReply](t.Context(), e.Bus, query.ServiceAudit, query.AuditWebhookSet, set)
		return err == nil
	}, patience, tick)
	assert.NotEmpty(t, made.Secret)
	shown, err := bus.Ask[query.AuditWebhook](t.Context(), e.Bus, query.ServiceAudit, query.AuditWebhookShow, query.AuditWebhookRequest{CustomerID: "cust_001"})
	require.NoError(t, err)
	assert.Equal(t, set.URL, shown.URL)
	_, err = bus.Ask[query.AuditWebhook](t.Context(), e.Bus, query.ServiceAudit, query.AuditWebhookDelete,
		query.AuditWebhookDeleteRequest{CustomerID: "cust_001", Actor: actor})
	require.NoError(t, err)
	erased, err := bus.Ask[query.AuditErasureReply](t.Context(), e.Bus, query.ServiceAudit, query.AuditErase,
		query.AuditErasureRequest{CustomerID: "cust_001", EventIDs: []string{"a1"}, Actor: actor})
	require.NoError(t, err)
	assert.EqualValues(t, 1, erased.Erased)
	e.Await(t, 4)
	page, err := bus.Ask[query.AuditEventsReply](t.Context(), e.Bus, query.ServiceAudit, query.AuditEvents,
		query.AuditEventsRequest{CustomerID: "cust_001", Limit: 10})
	require.NoError(t, err)
	require.Len(t, page.Events, 4)
	for i, action := range []string{event.ActionAuditErased, event.ActionAuditWebhookDeleted, event.ActionAuditWebhookSet, "recipe.published"} {
		assert.Equal(t, action, page.Events[i].ActionType)
		assert.Equal(t, actor.ID, page.Events[i].ActorID)
	}
	assert.Nil(t, page.Events[3].Changes)
	assert.Contains(t, string(page.Events[0].Changes), `"a1"`)
}
