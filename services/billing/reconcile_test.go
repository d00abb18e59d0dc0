package billing_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing"
)

func TestReconcileJournal(t *testing.T) {
	t.Parallel()
	url := testkit.Postgres(t)
	client, service := start(t, url)
	awaitReady(t, service)
	last, refusal := ask[query.ReconciliationReply](t, client, query.Reconciliation, query.ReconciliationRequest{})
	require.Nil(t, refusal)
	assert.Equal(t, query.ReconciliationReply{Differences: []string{}}, last, "a service without an interval does not compare")
	report, err := billing.ReconcileJournal(t.Context(), url, client)
	require.NoError(t, err)
	assert.Equal(t, billing.Report{Drifts: []billing.Drift{}}, report.Report)

	header := journal.NewHeader()
	header.Set(event.HeaderCredits, "7")
	execution := subject.Execution{Customer: "cust_1", ID: "0190b4d5-4e0b-7cc1-a8b7-d3a7e2f0a001"}
	result := journal.New(client.Conn, client.JS).Append(t.Context(), journal.Entry{
		Execution: execution, Kind: event.Funded, Source: "test", Header: header, Data: []byte(`{}`),
	})[0]
	require.NoError(t, result.Err)
	report, err = billing.ReconcileJournal(t.Context(), url, client)
	require.NoError(t, err)
	require.Len(t, report.Drifts, 1)
	assert.Equal(t, "customer cust_1, execution "+execution.ID+": funded with 7, and there is no charge", report.Drifts[0].String())
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for interval, valid := range map[time.Duration]bool{0: true, time.Minute: true, time.Hour: true, time.Second: false, -time.Hour: false} {
		err := billing.Config{ReconcileInterval: interval}.Validate()
		assert.Equal(t, valid, err == nil, "%v: %v", interval, err)
	}
}
