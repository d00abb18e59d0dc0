package billing_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/health"
	"github.com/galley-engine/galley/pkg/pgserver"
	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const patience = 30 * time.Second

// start runs the service and returns the bus of a client.
func start(t *testing.T, url string) (*bus.Bus, *billing.Service) {
	t.Helper()
	return startAt(t, url, clock.System)
}

func startAt(t *testing.T, url string, now clock.Clock) (*bus.Bus, *billing.Service) {
	t.Helper()
	server := testkit.NATS(t)
	open := func() *bus.Bus {
		made, err := bus.New(server.Conn(t), bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
		require.NoError(t, err)
		return made
	}
	service, err := billing.New(billing.Config{}, process.Deps{
		Bus: open(), DatabaseURL: url, AckWait: 5 * time.Second, Logger: zerolog.Nop(), Clock: now,
	})
	require.NoError(t, err)
	// The context of the test ends before its cleanup begins.
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx) }()
	client := open()
	t.Cleanup(func() {
		awaitConsumer(t, client)
		cancel()
		assert.NoError(t, <-done)
	})
	return client, service
}

// awaitConsumer waits until the service has made all that it makes in NATS: a server that is shut down while it makes a stream
// leaves goroutines behind.
func awaitConsumer(t *testing.T, client *bus.Bus) {
	t.Helper()
	assert.Eventually(t, func() bool {
		ctx := context.WithoutCancel(t.Context())
		_, accepted := client.JS.Consumer(ctx, subject.StreamExecutions, query.ServiceBilling+"-accepted")
		_, completed := client.JS.Consumer(ctx, subject.StreamExecutions, query.ServiceBilling+"-completed")
		_, periods := client.JS.Consumer(ctx, subject.StreamDelays, "periods")
		return accepted == nil && completed == nil && periods == nil
	}, patience, 5*time.Millisecond)
}

func awaitReady(t *testing.T, service *billing.Service) {
	t.Helper()
	require.Eventually(t, func() bool { return health.Ready(t.Context(), service.Checks()).Ready }, patience, 5*time.Millisecond)
}

// ask repeats a query until somebody listens.
func ask[Reply any](t *testing.T, client *bus.Bus, name string, request any) (reply Reply, refusal *problem.Error) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		reply, err = bus.Ask[Reply](t.Context(), client, query.ServiceBilling, name, request)
		refusal = nil
		if err != nil {
			require.ErrorAs(t, err, &refusal)
		}
		return refusal == nil || refusal.Code != problem.Unavailable
	}, patience, 10*time.Millisecond)
	return reply, refusal
}

func TestQueries(t *testing.T) {
	t.Parallel()
	url := testkit.Postgres(t)
	client, service := start(t, url)
	awaitReady(t, service)

	balance, refusal := ask[query.BalanceReply](t, client, query.Balance, query.BalanceRequest{CustomerID: "cust_1"})
	require.Nil(t, refusal)
	assert.Equal(t, query.BalanceReply{CustomerID: "cust_1", Grants: []query.Lot{}}, balance)

	request := query.GrantRequest{
		ID: "welcome", CustomerID: "cust_1", Amount: 5 * credit.One, Reason: "a start", Actor: event.Actor{Type: "operator", ID: "admin"},
	}
	grant, refusal := ask[query.GrantReply](t, client, query.Grant, request)
	require.Nil(t, refusal)
	assert.Equal(t, "a start", grant.Transaction.Reason)
	assert.Equal(t, 5*credit.One, grant.Balance.Available)
	again, refusal := ask[query.GrantReply](t, client, query.Grant, request)
	require.Nil(t, refusal)
	assert.True(t, again.Repeated)

	page, refusal := ask[query.TransactionsReply](t, client, query.Transactions, query.TransactionsRequest{CustomerID: "cust_1", Limit: 10})
	require.Nil(t, refusal)
	assert.Equal(t, query.TransactionsReply{Transactions: []query.Transaction{again.Transaction}}, page)

	var activity event.Activity
	require.Eventually(t, func() bool {
		stream, err := client.JS.Stream(t.Context(), subject.StreamActivity)
		if err != nil {
			return false
		}
		stored, err := stream.GetLastMsgForSubject(t.Context(), subject.Activity("cust_1", "credits.granted"))
		return err == nil && json.Unmarshal(stored.Data, &activity) == nil
	}, patience, 10*time.Millisecond)
	assert.Equal(t, "operator:admin", activity.Actor.String())
	assert.Equal(t, "welcome", activity.ResourceID)
	assert.JSONEq(t, `{"after": {"transaction_id": 1, "amount": 5, "balance_after": 5, "kind": "top_up", "reason": "a start"}}`, string(activity.Changes))

	report, err := billing.Reconcile(t.Context(), url)
	require.NoError(t, err)
	assert.Equal(t, billing.Report{Accounts: 1, Transactions: 1, Drifts: []billing.Drift{}}, report)
}

func TestQueriesRefuse(t *testing.T) {
	t.Parallel()
	client, service := start(t, testkit.Postgres(t))
	awaitReady(t, service)
	grant := func(change func(*query.GrantRequest)) query.GrantRequest {
		request := query.GrantRequest{ID: "g", CustomerID: "cust_1", Amount: 1}
		change(&request)
		return request
	}
	tests := map[string]struct {
		query   string
		request any
		message string
	}{
		"balance of everybody":      {query.Balance, query.BalanceRequest{CustomerID: "*"}, "customer_id"},
		"balance of nobody":         {query.Balance, query.BalanceRequest{}, "customer_id"},
		"not JSON":                  {query.Balance, "x", "not valid JSON"},
		"grant to everybody":        {query.Grant, grant(func(r *query.GrantRequest) { r.CustomerID = "*" }), "customer_id"},
		"grant without an id":       {query.Grant, grant(func(r *query.GrantRequest) { r.ID = "" }), "id must"},
		"grant of nothing":          {query.Grant, grant(func(r *query.GrantRequest) { r.Amount = 0 }), "amount"},
		"grant that takes":          {query.Grant, grant(func(r *query.GrantRequest) { r.Amount = -1 }), "amount"},
		"grant of too much":         {query.Grant, grant(func(r *query.GrantRequest) { r.Amount = 1 << 62 }), "would exceed 1000000000 credits"},
		"grant of an unknown kind":  {query.Grant, grant(func(r *query.GrantRequest) { r.Kind = "gift" }), "kind must"},
		"grant of priority -1":      {query.Grant, grant(func(r *query.GrantRequest) { r.Priority = new(-1) }), "priority must be 0 to 100"},
		"grant of priority 101":     {query.Grant, grant(func(r *query.GrantRequest) { r.Priority = new(101) }), "priority must be 0 to 100"},
		"grant that is over":        {query.Grant, grant(func(r *query.GrantRequest) { r.ExpiresAt = new(clock.System()) }), "expires_at must be in the future"},
		"overdraft of everybody":    {query.Overdraft, query.OverdraftRequest{CustomerID: "*"}, "customer_id"},
		"negative overdraft":        {query.Overdraft, query.OverdraftRequest{CustomerID: "a", Limit: -1}, "limit must be 0 to"},
		"threshold of everybody":    {query.LowBalance, query.LowBalanceRequest{CustomerID: "*"}, "customer_id"},
		"negative threshold":        {query.LowBalance, query.LowBalanceRequest{CustomerID: "a", Threshold: new(credit.Micro(-1))}, "threshold must be 0 to"},
		"grant with a long reason":  {query.Grant, grant(func(r *query.GrantRequest) { r.Reason = strings.Repeat("x", 1001) }), "reason"},
		"grant with a NUL":          {query.Grant, grant(func(r *query.GrantRequest) { r.Reason = "\x00" }), "reason"},
		"grant by a broken actor":   {query.Grant, grant(func(r *query.GrantRequest) { r.Actor.ID = "a\r\nb: c" }), "actor"},
		"transactions of everybody": {query.Transactions, query.TransactionsRequest{CustomerID: "*", Limit: 1}, "customer_id"},
		"no limit":                  {query.Transactions, query.TransactionsRequest{CustomerID: "a"}, "limit"},
		"a high limit":              {query.Transactions, query.TransactionsRequest{CustomerID: "a", Limit: 201}, "limit"},
		"a negative cursor":         {query.Transactions, query.TransactionsRequest{CustomerID: "a", Limit: 1, Before: -1}, "before"},
		"no execution":              {query.Transactions, query.TransactionsRequest{CustomerID: "a", Limit: 1, ExecutionID: "x"}, "execution_id"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, refusal := ask[json.RawMessage](t, client, test.query, test.request)
			require.NotNil(t, refusal)
			assert.Equal(t, problem.InvalidRequest, refusal.Code)
			assert.False(t, refusal.Retryable)
			assert.Contains(t, refusal.Message, test.message)
		})
	}
}

func TestStartsBeforePostgres(t *testing.T) {
	t.Parallel()
	server := testkit.PostgresServer(t, func(c *pgserver.Config) { c.NoSync = true })
	server.Stop(t)
	client, service := start(t, server.URL())
	readiness := health.Ready(t.Context(), service.Checks())
	assert.False(t, readiness.Ready)
	assert.Equal(t, "is waited for, or being migrated", readiness.Checks["postgres"])
	server.Start(t)
	awaitReady(t, service)
	_, refusal := ask[query.GrantReply](t, client, query.Grant, query.GrantRequest{ID: "g", CustomerID: "cust_1", Amount: 1})
	require.Nil(t, refusal)
}

func TestReconcile(t *testing.T) {
	t.Parallel()
	url := testkit.Postgres(t)
	_, err := billing.Reconcile(t.Context(), url)
	require.Error(t, err, "there is no schema yet")
	client, service := start(t, url)
	awaitReady(t, service)
	_, refusal := ask[query.GrantReply](t, client, query.Grant, query.GrantRequest{ID: "g", CustomerID: "cust_1", Amount: 1})
	require.Nil(t, refusal)

	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `UPDATE billing.accounts SET balance = 2`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	report, err := billing.Reconcile(t.Context(), url)
	require.NoError(t, err)
	require.Len(t, report.Drifts, 2)
	assert.Equal(t, "customer cust_1: the balance is 2, the ledger adds up to 1", report.Drifts[0].String())
	assert.Equal(t, "customer cust_1: the balance is 2, of the grants remains 1", report.Drifts[1].String())
}

func TestNewRefusesABadURL(t *testing.T) {
	t.Parallel()
	_, err := billing.New(billing.Config{}, process.Deps{DatabaseURL: "postgres://" + uuid.NewString() + ":x:y/"})
	require.Error(t, err)
}
