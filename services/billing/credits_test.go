package billing_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing"
)

// awaitEvent waits for the first event of a subject.
func awaitEvent(t *testing.T, client *bus.Bus, stream, name string, into any) *jetstream.RawStreamMsg {
	t.Helper()
	var stored *jetstream.RawStreamMsg
	require.Eventually(t, func() bool {
		found, err := client.JS.Stream(t.Context(), stream)
		if err == nil {
			stored, err = found.GetMsg(t.Context(), 1, jetstream.WithGetMsgSubject(name))
		}
		return err == nil
	}, patience, 10*time.Millisecond, name)
	require.NoError(t, json.Unmarshal(stored.Data, into))
	return stored
}

func TestTellsOfALowBalance(t *testing.T) {
	t.Parallel()
	client, service := start(t, testkit.Postgres(t))
	awaitReady(t, service)
	limited, refusal := ask[query.BalanceReply](t, client, query.Overdraft, query.OverdraftRequest{CustomerID: "cust_1", Limit: 5 * credit.One})
	require.Nil(t, refusal)
	assert.Equal(t, query.BalanceReply{CustomerID: "cust_1", Available: 5 * credit.One, Overdraft: 5 * credit.One, Grants: []query.Lot{}}, limited)
	threshold := 2 * credit.One
	_, refusal = ask[query.BalanceReply](t, client, query.LowBalance, query.LowBalanceRequest{CustomerID: "cust_1", Threshold: &threshold})
	require.Nil(t, refusal)
	var told event.Alert
	stored := awaitEvent(t, client, subject.StreamBilling, "galley.billing.cust_1.low_balance", &told)
	assert.Equal(t, event.Alert{CustomerID: "cust_1", Overdraft: 5 * credit.One, Threshold: &threshold, OccurredAt: told.OccurredAt}, told)
	assert.Equal(t, "dev.galley.billing.low_balance.v1", stored.Header.Get(event.HeaderType))
	assert.Equal(t, "/galley/billing", stored.Header.Get(event.HeaderSource))
}

// TestExpiresByItself starts billing again when a grant is over. Nobody asks for anything.
func TestExpiresByItself(t *testing.T) { //nolint:tparallel // one part after the other
	t.Parallel()
	url := testkit.Postgres(t)
	over := clock.System().Add(time.Hour).Truncate(time.Second)
	t.Run("granted", func(t *testing.T) { //nolint:paralleltest // the service ends with the first part
		client, service := start(t, url)
		awaitReady(t, service)
		_, refusal := ask[query.GrantReply](t, client, query.Grant, query.GrantRequest{
			ID: "present", CustomerID: "cust_1", Amount: credit.One, Kind: query.GrantPromotional, ExpiresAt: &over,
		})
		require.Nil(t, refusal)
	})
	client, _ := startAt(t, url, func() time.Time { return over.Add(time.Minute) })
	var activity event.Activity
	awaitEvent(t, client, subject.StreamActivity, subject.Activity("cust_1", "credits.expired"), &activity)
	assert.Equal(t, []string{"present", "service:billing"}, []string{activity.ResourceID, activity.Actor.String()})
	assert.JSONEq(t, `{"after": {"amount": 1, "expires_at": "`+over.Format(time.RFC3339Nano)+`"}}`, string(activity.Changes))
	balance, refusal := ask[query.BalanceReply](t, client, query.Balance, query.BalanceRequest{CustomerID: "cust_1"})
	require.Nil(t, refusal)
	assert.Zero(t, balance.Posted)
	report, err := billing.Reconcile(t.Context(), url)
	require.NoError(t, err)
	assert.Empty(t, report.Drifts)
}
