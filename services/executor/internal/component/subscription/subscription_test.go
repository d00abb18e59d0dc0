package subscription_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/subscription"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const patience = 30 * time.Second

func execute(t *testing.T, components component.Registry, kind recipe.Kind, customer, with string) (component.Result, error) {
	t.Helper()
	call := &component.Call{Execution: subject.Execution{Customer: customer, ID: "e1"}, Step: "s", Kind: kind}
	require.NoError(t, json.Unmarshal([]byte(with), &call.With))
	runner, found := components.Find(kind)
	require.True(t, found)
	return runner.Execute(t.Context(), call)
}

func TestCharge(t *testing.T) {
	t.Parallel()
	components := subscription.Components(nil)
	for with, want := range map[string]component.Result{
		`{"units": 3}`:                     {Output: map[string]any{"units": 3.0}, Usage: &event.Usage{Units: 3}},
		`{"units": 0}`:                     {Output: map[string]any{"units": 0.0}, Usage: &event.Usage{}},
		`{"units": 1e9, "reason": "rows"}`: {Output: map[string]any{"units": 1e9, "reason": "rows"}, Usage: &event.Usage{Units: 1e9}},
	} {
		result, err := execute(t, components, subscription.KindCharge, "alice", with)
		require.NoError(t, err)
		assert.Equal(t, want, result)
	}
	for _, with := range []string{`{"units": -1}`, `{"units": 1.5}`, `{"units": 1e40}`, `{"units": "1"}`, `[]`, `1`} {
		result, err := execute(t, components, subscription.KindCharge, "alice", with)
		require.Error(t, err, with)
		assert.Equal(t, component.Result{}, result)
	}
}

// billing answers for the customers that it is given, and refuses all others.
func billing(t *testing.T, customers map[string]query.SubscriptionReply) (component.Registry, *testkit.NATSServer) {
	t.Helper()
	server := testkit.NATS(t)
	messages, err := bus.New(server.Conn(t, nats.ReconnectBufSize(-1)), bus.Settings{Replicas: 1, JournalRetention: 72 * time.Hour}, zerolog.Nop())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() {
		done <- bus.Answer(ctx, messages, query.ServiceBilling, query.Subscription,
			func(_ context.Context, request query.SubscriptionRequest) (query.SubscriptionReply, error) {
				found, known := customers[request.CustomerID]
				if !known {
					return found, &problem.Error{Code: problem.InvalidRequest, Message: "no"}
				}
				return found, nil
			})
	}()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	require.Eventually(t, func() bool {
		_, err := messages.Conn.Request(subject.Query(query.ServiceBilling, query.Subscription), []byte("{}"), time.Second)
		return err == nil
	}, patience, time.Millisecond)
	return subscription.Components(messages), server
}

func customers() map[string]query.SubscriptionReply {
	return map[string]query.SubscriptionReply{
		"pro": {
			Plan: "pro", Status: query.SubscriptionActive, Features: []string{"exports", "leads"}, Balance: 2_500_001,
		},
		"former":  {Plan: "pro", Status: query.SubscriptionCancelled, Features: []string{"leads"}, Balance: 1},
		"nothing": {Status: query.SubscriptionNone, Features: []string{}},
	}
}

func TestCheckReads(t *testing.T) {
	t.Parallel()
	components, _ := billing(t, customers())
	for customer, want := range map[string]string{
		"pro":     `{"plan": "pro", "status": "active", "features": ["exports", "leads"], "balance": 2.500001}`,
		"former":  `{"plan": "pro", "status": "cancelled", "features": ["leads"], "balance": 0.000001}`,
		"nothing": `{"plan": "", "status": "none", "features": [], "balance": 0}`,
	} {
		result, err := execute(t, components, subscription.KindCheck, customer, `{}`)
		require.NoError(t, err)
		text, err := json.Marshal(result.Output)
		require.NoError(t, err)
		assert.JSONEq(t, want, string(text))
		assert.Nil(t, result.Usage)
		// What later steps read is what JSON would give.
		var decoded any
		require.NoError(t, json.Unmarshal(text, &decoded))
		assert.Equal(t, decoded, result.Output)
	}
}

func TestCheckRequires(t *testing.T) {
	t.Parallel()
	components, _ := billing(t, customers())
	tests := []struct{ customer, with, missing string }{
		{"pro", `{"plan": "pro"}`, ""},
		{"pro", `{"plan": ["basic", "pro"], "feature": "leads", "min_balance": "2.500001"}`, ""},
		{"pro", `{"min_balance": 2.5}`, ""},
		{"pro", `{"min_balance": 0}`, ""},
		{"nothing", `{"min_balance": "0"}`, ""},
		{"former", `{"min_balance": 0.000001}`, ""},
		{"pro", `{"plan": "basic"}`, "the plan is pro, not basic"},
		{"pro", `{"plan": ["basic", "team"]}`, "the plan is pro, not basic or team"},
		{"pro", `{"plan": "Pro"}`, "the plan is pro, not Pro"},
		{"pro", `{"feature": "audits"}`, "the feature audits is not part of the subscription"},
		{"pro", `{"min_balance": "2.500002"}`, "the balance is 2.500001 credits, less than 2.500002"},
		{
			"pro", `{"plan": "team", "feature": "audits", "min_balance": 3}`,
			"the plan is pro, not team; the feature audits is not part of the subscription; the balance is 2.500001 credits, less than 3",
		},
		{"former", `{"plan": "pro"}`, "the subscription is cancelled"},
		{"former", `{"feature": "leads"}`, "the subscription is cancelled"},
		{"nothing", `{"plan": "pro", "feature": "leads"}`, "there is no subscription"},
		{"nothing", `{"feature": "leads", "min_balance": 1}`, "there is no subscription; the balance is 0 credits, less than 1"},
	}
	for _, test := range tests {
		result, err := execute(t, components, subscription.KindCheck, test.customer, test.with)
		if test.missing == "" {
			require.NoError(t, err, test.with)
			continue
		}
		var failed *problem.Error
		require.ErrorAs(t, err, &failed, test.with)
		assert.Equal(t, problem.Error{Code: problem.SubscriptionRequired, Message: test.missing}, *failed)
		assert.Equal(t, component.Result{}, result)
	}
}

func TestCheckRefusesItsInput(t *testing.T) {
	t.Parallel()
	components := subscription.Components(nil)
	for with, message := range map[string]string{
		`{"plan": 1}`:                 "plan must be a string or a list of strings",
		`{"plan": [1]}`:               "plan must be a string or a list of strings",
		`{"min_balance": "x"}`:        "min_balance must be an amount of credits with at most six decimal places",
		`{"min_balance": 0.0000001}`:  "min_balance must be an amount of credits with at most six decimal places",
		`{"min_balance": 1e300}`:      "min_balance must be an amount of credits with at most six decimal places",
		`{"min_balance": {"a": "b"}}`: "min_balance must be an amount of credits with at most six decimal places",
	} {
		_, err := execute(t, components, subscription.KindCheck, "pro", with)
		var failed *problem.Error
		require.ErrorAs(t, err, &failed, with)
		assert.Equal(t, problem.Error{Code: problem.ComponentError, Message: message}, *failed)
	}
	for _, with := range []string{`[]`, `{"feature": 1}`} {
		_, err := execute(t, components, subscription.KindCheck, "pro", with)
		require.Error(t, err)
	}
}

func TestBillingDoesNotAnswer(t *testing.T) {
	t.Parallel()
	components, server := billing(t, customers())
	_, err := execute(t, components, subscription.KindCheck, "unknown", `{}`)
	var failed *problem.Error
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, problem.Error{Code: problem.InvalidRequest, Message: "no"}, *failed)
	server.Shutdown()
	_, err = execute(t, components, subscription.KindCheck, "pro", `{}`)
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, problem.Error{Code: problem.Unavailable, Message: "billing does not answer", Retryable: true}, *failed)
}
